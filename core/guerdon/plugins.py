"""Find the installed plugins and what they register, without importing any component.

A plugin is a module named by an entry point in group `guerdon`. Discovery is strict: a plugin that cannot be
imported, or that misspells a hook, is kept as a broken one with the reason, and blocks nothing else. What the others
register is remembered in a small index (`guerdon.index`), so that listing them again imports nothing at all.

`GUERDON_PLUGINS` narrows what is imported, by the names of plugins or packages: `a,b` allows only these beside
guerdon's own; `-a` switches one off.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from guerdon import index

if TYPE_CHECKING:
    import pluggy

OURS = "guerdon"


class Component(NamedTuple):  # a dataclass takes ten times as long to make, at every start
    """A named thing that a plugin registered. `kind` is one of `hookspecs.KINDS`."""

    kind: str
    name: str
    target: str
    plugin: str = ""
    package: str = ""
    version: str = ""
    extra: str = ""
    inline: bool = False


class Plugin(NamedTuple):
    """An installed plugin, and what it registers; `error` says why a broken one is broken."""

    name: str
    module: str
    package: str = ""
    version: str = ""
    origin: str = ""
    error: str = ""
    components: tuple[Component, ...] = ()

    def complaint(self) -> str:
        """What to tell a user of a broken plugin."""
        source = f" (from {self.package} {self.version})" if self.package else ""
        fix = f"switch it off with GUERDON_PLUGINS=-{self.name}"
        if self.package:
            fix = f"pip uninstall {self.package}, or {fix}"
        return f"plugin {self.name!r}{source} failed to load: {self.error}. To go on without it: {fix}."


class Plugins:
    """The plugins of this environment, or just the given modules (in tests).

    >>> Plugins(entry_points=False).installed
    ()
    """

    def __init__(self, *modules: ModuleType, entry_points: bool = True, allow: str | None = None) -> None:
        self._modules = {m.__name__: m for m in modules}
        self._manager: pluggy.PluginManager | None = None
        self.installed: tuple[Plugin, ...] = ()
        if entry_points:
            wanted = allow if allow is not None else os.environ.get("GUERDON_PLUGINS", "")
            known = index.read(wanted)
            self.installed = _from_json(known) if known is not None else self._scan(wanted)
        self.installed += tuple(self._load(Plugin(m.__name__, m.__name__)) for m in modules)

    @property
    def components(self) -> list[Component]:
        return [c for p in self.installed for c in p.components]

    @property
    def broken(self) -> list[Plugin]:
        return [p for p in self.installed if p.error]

    @property
    def hook(self) -> "pluggy.HookRelay":
        """The hooks, with every plugin that is not broken imported and registered."""
        if self._manager is None:
            self._manager = _manager()
            for module in {p.module: self._module(p) for p in self.installed if not p.error}.values():
                self._manager.register(module)
        return self._manager.hook

    def _module(self, plugin: Plugin) -> ModuleType:
        return self._modules.get(plugin.module) or import_module(plugin.module)

    def _scan(self, wanted: str) -> tuple[Plugin, ...]:
        before = set(sys.modules)
        found = tuple(self._load(p) for p in _entry_points() if _allowed(p, wanted))
        if not any(p.error for p in found):
            index.write(wanted, [_to_json(p) for p in found], _source_files(found, before))
        return found

    def _load(self, plugin: Plugin) -> Plugin:
        """The plugin with its components, or with the reason why it has none."""
        import pluggy

        components: list[Component] = []
        manager = _manager()
        try:
            module = self._module(plugin)
            origin = getattr(module, "__file__", None) or ""
            plugin = plugin._replace(origin=origin)
            manager.register(module, name=plugin.name)
            manager.check_pending()
            for kind in _kinds():
                call = getattr(manager.hook, f"register_{kind}")
                call(register=_register(kind, plugin, components))
        except KeyboardInterrupt:
            raise
        except pluggy.PluginValidationError as error:
            return plugin._replace(error=_one_line(error) + _misspelt(error))
        except BaseException as error:  # a plugin may even call sys.exit
            return plugin._replace(error=f"{type(error).__name__}: {_one_line(error)}".rstrip(": "))
        return plugin._replace(components=tuple(components))


def _register(kind: str, plugin: Plugin, into: list[Component]) -> Callable[..., None]:
    def register(name: str, target: str | Callable[..., Any], *, extra: str = "", inline: bool = False) -> None:
        if not isinstance(target, str):
            target = f"{target.__module__}:{target.__qualname__}"
        if ":" in name:
            raise ValueError(f"{kind}: the name {name!r} holds a colon")
        if any((c.kind, c.name) == (kind, name) for c in into):
            raise ValueError(f"{kind}: the name {name!r} is registered twice")
        if ":" not in target:
            raise ValueError(f"{kind} {name!r}: the target {target!r} is not of the form 'module:attribute'")
        into.append(Component(kind, name, target, plugin.name, plugin.package, plugin.version, extra, inline))

    return register


def _misspelt(error: "pluggy.PluginValidationError") -> str:
    """The hook that was meant, where pluggy says "unknown hook 'register_reward' in plugin ..."."""
    from guerdon import hookspecs
    from guerdon.errors import near_miss

    message = str(error)
    if not message.startswith("unknown hook "):
        return ""
    return "." + near_miss(message.split("'")[1], (n for n, f in vars(hookspecs).items() if hasattr(f, "guerdon_spec")))


def _manager() -> "pluggy.PluginManager":
    import pluggy

    from guerdon import hookspecs

    manager = pluggy.PluginManager("guerdon")
    manager.add_hookspecs(hookspecs)
    return manager


def _kinds() -> Sequence[str]:
    from guerdon.hookspecs import KINDS

    return KINDS


def _entry_points() -> list[Plugin]:
    from importlib.metadata import entry_points

    found = [
        Plugin(e.name, e.value, e.dist.name if e.dist else "", e.dist.version if e.dist else "")
        for e in entry_points(group="guerdon")
    ]
    # guerdon's own first, then by package: an order that does not depend on the file system
    return sorted(set(found), key=lambda p: (p.package != OURS, p.package, p.name))


def _allowed(plugin: Plugin, wanted: str) -> bool:
    names = {w.strip() for w in wanted.split(",") if w.strip()}
    allow = {n for n in names if not n.startswith("-")}
    deny = {n[1:] for n in names if n.startswith("-")}
    known_as = {plugin.name, plugin.package}
    if known_as & deny and not (plugin.package == OURS and plugin.name not in deny):
        return False
    return not allow or plugin.package == OURS or bool(known_as & allow)


def _source_files(found: Iterable[Plugin], before: set[str]) -> set[str]:
    """The files that the plugins' registration came from: when one changes, the index is stale."""
    tops = {p.module.partition(".")[0] for p in found}
    fresh = [m for name, m in list(sys.modules.items()) if name not in before or name in tops]
    files = {getattr(m, "__file__", None) for m in fresh if m.__name__.partition(".")[0] in tops}
    return {f for f in files if f} | {p.origin for p in found}


def _to_json(plugin: Plugin) -> dict[str, Any]:
    return {**plugin._asdict(), "components": [c._asdict() for c in plugin.components]}


def _from_json(rows: Iterable[dict[str, Any]]) -> tuple[Plugin, ...]:
    return tuple(Plugin(**{**row, "components": tuple(Component(**c) for c in row["components"])}) for row in rows)


def _one_line(error: BaseException) -> str:
    """The first line of a message; pluggy puts the plugin's repr on a line of its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) if len(lines) > 1 else (lines[0] if lines else "")
