"""Names in a recipe to components: find, import on use, say what is missing.

A reference is a registered name (`numeric`), a name in a package (`guerdon-brevity:brevity`), an attribute
(`pkg.module:attr`) or a function in a file (`./polite.py:polite`).
"""

import contextlib
import inspect
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from typing import Any

from guerdon.errors import ComponentError, near_miss
from guerdon.hookspecs import KINDS
from guerdon.plugins import Component, Plugins
from guerdon.signatures import native

_SINGULAR = {
    "agents": "agent",
    "rewards": "reward",
    "trainers": "trainer",
    "exporters": "exporter",
    "backends": "backend",
    "executors": "executor",
    "tasks": "task source",
    "models": "model",
    "recipes": "recipe",
}


class Registry:
    """The components of these plugins. `folder` is where `./file.py:attr` is looked for."""

    def __init__(self, plugins: Plugins, folder: Path | None = None) -> None:
        self.plugins = plugins
        self.folder = folder or Path.cwd()

    def of_kind(self, kind: str) -> list[Component]:
        return [c for c in self.plugins.components if c.kind == kind]

    def find(self, kind: str, ref: str) -> Component:
        """The component that `ref` names, not imported yet.

        Raises:
            ComponentError: nothing, or more than one thing, has this name.
        """
        known = self.of_kind(kind)
        source, colon, name = ref.rpartition(":")
        if not colon and ref.endswith(".py"):
            raise ComponentError(f"{_SINGULAR[kind]} {ref!r}: which function of the file? Write {ref}:NAME")
        if not colon:
            return self._only(kind, ref, [c for c in known if c.name == ref], known)
        if source.endswith(".py"):
            path = (self.folder / Path(source).expanduser()).resolve()
            if not path.is_file():
                raise ComponentError(f"{_SINGULAR[kind]} {ref!r}: there is no file {path}")
            return Component(kind, name, f"{path}:{name}")
        inside = [c for c in known if c.name == name and source in (c.package, c.plugin)]
        if inside:
            return self._only(kind, ref, inside, known)
        if any(source in (c.package, c.plugin) for c in known):
            names = [c.name for c in known if source in (c.package, c.plugin)]
            raise ComponentError(f"package {source!r} has no {_SINGULAR[kind]} {name!r}.{near_miss(name, names)}")
        if "." not in source and (self.folder / f"{source}.py").is_file() and find_spec(source) is None:
            what = f"{_SINGULAR[kind]} {ref!r}"
            raise ComponentError(f"{what}: no module {source!r} is installed; for the file write ./{source}.py:{name}")
        return Component(kind, name, ref)

    def named(self, name: str) -> list[Component]:
        """The components of this name, of every kind that has it, as commands take it: `name`, `kind:name`,
        `package:name`, `module:attr` or `./file.py:attr`.

        Raises:
            ComponentError: there is none.
        """
        known = [c for c in self.plugins.components if c.kind != "recipes"]  # a recipe is no function
        kind, colon, rest = name.partition(":")
        if colon and f"{kind}s" in KINDS:
            return [self.find(f"{kind}s", rest)]
        found = [c for c in known if name in (c.name, f"{c.package}:{c.name}", f"{c.plugin}:{c.name}")]
        if not found and not colon:
            raise ComponentError(f"there is no component {name!r}.{near_miss(name, (c.name for c in known))}")
        return found or [self._unregistered(name)]

    def _unregistered(self, name: str) -> Component:
        """A function of a file or a module; only its parameters tell of what kind it is."""
        component = self.find("rewards", name)
        parameters = list(inspect.signature(load(component)).parameters)
        if parameters[:2] == ["task", "policy"]:
            return component._replace(kind="agents")
        return component._replace(kind="trainers") if parameters[:1] == ["job"] else component

    def _only(self, kind: str, ref: str, found: list[Component], known: list[Component]) -> Component:
        what = _SINGULAR[kind]
        if not found:
            raise ComponentError(
                f"there is no {what} {ref!r}.{near_miss(ref, (c.name for c in known))}{self._broken()}"
            )
        if len(found) > 1:
            owners = " and ".join(f"{c.package or c.plugin} {c.version}".strip() for c in found)
            alike = len({c.package for c in found}) < len(found)  # two plugins of one package
            ways = " or ".join(f"{c.plugin if alike else c.package or c.plugin}:{c.name}" for c in found)
            raise ComponentError(f"{what} {ref!r} is registered by {owners}: write {ways}")
        return found[0]

    def _broken(self) -> str:
        """A name may be missing because its plugin is broken or switched off: say so."""
        narrowed = os.environ.get("GUERDON_PLUGINS")
        note = f"\n  GUERDON_PLUGINS={narrowed} narrows what is loaded." if narrowed else ""
        return note + "".join(f"\n  {p.complaint()}" for p in self.plugins.broken)


def load(component: Component) -> Any:
    """Import what a component points to.

    Raises:
        ComponentError: it cannot be imported; says which extra to install where that is the cause.
    """
    source, _, attribute = component.target.rpartition(":")
    what = f"{_SINGULAR[component.kind]} {component.name!r}"
    try:
        module = _module_from_file(Path(source)) if source.endswith(".py") else import_module(source)
    except ImportError as error:
        raise missing(component, error) or ComponentError(f"{what}: cannot import {source!r}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ComponentError(f"{what}: importing {source} failed: {type(error).__name__}: {error}") from error
    try:
        found = attrgetter(attribute)(module)
        return native(found) if component.kind == "rewards" else found
    except AttributeError:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ComponentError(
            f"{what}: {source} has no attribute {attribute!r}.{near_miss(attribute, public)}"
        ) from None


def missing(component: Component, error: ImportError) -> ComponentError | None:
    """The error for a dependency that is not installed; `None` when it is the component's own fault.

    Only for an extra there is a pip line: the name of a module need not be that of a package.
    """
    wanted = (error.name or "").partition(".")[0]
    own = component.target.partition(":")[0].partition(".")[0]
    if not wanted or wanted == own or not (component.extra or isinstance(error, ModuleNotFoundError)):
        return None
    line = f": pip install '{component.package}[{component.extra}]'" if component.extra else ""
    return ComponentError(
        f"{_SINGULAR[component.kind]} {component.name!r} needs the module {wanted!r}, which is not installed{line}",
        kind="missing_extra",
    )


def require_extra(component: Component) -> None:
    """Check, by the metadata alone, that what the component's extra asks for is installed.

    Raises:
        ComponentError: with the pip line to run.
    """
    if not (component.extra and component.package):
        return
    absent = sorted(_absent(component.package, component.extra))
    if absent:
        raise ComponentError(
            f"{_SINGULAR[component.kind]} {component.name!r} needs {', '.join(absent)}, not installed: "
            f"pip install '{component.package}[{component.extra}]'",
            kind="missing_extra",
        )


def _absent(package: str, extra: str) -> Iterable[str]:
    from importlib.metadata import PackageNotFoundError, distribution

    for line in distribution(package).requires or ():
        match = re.match(r"([\w.-]+)\s*(?:\[([\w,\s-]+)\])?[^;]*;.*extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if not match or match[3] != extra:
            continue
        if match[1] == package:
            for inner in (match[2] or "").split(","):
                yield from _absent(package, inner.strip())
            continue
        try:
            distribution(match[1])
        except PackageNotFoundError:
            yield match[1]


def _module_from_file(path: Path) -> Any:
    """A file as a module; the same file is the same module for as long as it is not edited."""
    stamp = path.stat().st_mtime_ns
    name = f"guerdon_file_{zlib.crc32(str(path).encode()):08x}_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__guerdon_stamp__", None) == stamp:
        return known
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _beside(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    module.__dict__["__guerdon_stamp__"] = stamp
    return module


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Within this context the files in `folder` can be imported; what is installed goes before them.

    Those of another folder are forgotten first: two folders may each have a `helpers.py`.
    """
    for name, module in list(sys.modules.items()):
        if _names_in(module).get("__guerdon_folder__", folder) != folder:
            del sys.modules[name]
    before = set(sys.modules)
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in sys.modules.keys() - before:
            if folder in Path(_names_in(sys.modules[name]).get("__file__") or "").parents:
                sys.modules[name].__dict__["__guerdon_folder__"] = folder


def _names_in(module: Any) -> dict[str, Any]:
    """What a module holds, without waking one that imports lazily, as transformers' do at every `getattr`."""
    names: dict[str, Any] = getattr(module, "__dict__", {})
    return names
