"""Write a package with a component of one's own: code, tests, README and CI, from the files in `templates/`."""

import builtins
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from guerdon import __version__
from guerdon.errors import PluginError
from guerdon.plugins import Plugins

LONGEST = 30

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "workflow.yml": ".github/workflows/test.yml",
    "init.py": "$module/__init__.py",
    "$kind.py": "$module/$kind.py",
    "test_$kind.py": "tests/test_$function.py",
}
"""Templates, without their `.txt`, and what they become."""

_EXAMPLES = {
    "reward": "rewards:\n  - $name: {word: thanks, weight: 0.5}",
    "agent": "agent: {$name: {instruction: Answer in one sentence.}}",
}

_IMPORTED = {"asyncio", "guerdon"}
"""What the templates import: a component of that name would hide it."""


def write_package(kind: str, name: str, into: Path) -> Path:
    """Write the folder `guerdon-NAME`, an installable package with one reward or agent, and return it.

    Raises:
        PluginError: the name cannot be a component's, an installed package has it, or the folder is there already.
    """
    check_name(kind, name)
    distribution = f"guerdon-{name.replace('_', '-')}"
    for c in Plugins().components:
        if (c.kind, c.name) == (f"{kind}s", name) and c.package != distribution:
            raise PluginError(f"there is a {kind} {name!r} already, from {c.package} {c.version}: choose another name")
    folder = into / distribution
    if folder.exists():
        raise PluginError(f"{folder} is there already: remove it, choose another name, or another place (--into)")
    function = name.replace("-", "_")
    words = {
        "kind": kind,
        "name": name,
        "function": function,
        "module": f"guerdon_{function}",
        "distribution": distribution,
        "guerdon": __version__,
        "example": Template(_EXAMPLES[kind]).substitute(name=name),
    }
    try:
        for template, target in _FILES.items():
            text = files("guerdon").joinpath("templates", _filled(template, words) + ".txt").read_text(encoding="utf-8")
            path = folder / _filled(target, words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(text, words), encoding="utf-8")
        (folder / words["module"] / "py.typed").touch()
    except OSError as error:
        raise PluginError(f"cannot write {error.filename}: {error.strerror}") from error
    return folder


def check_name(kind: str, name: str) -> None:
    """Check that a component can have this name, and so its package, module and function.

    >>> check_name("reward", "on-topic")

    Raises:
        PluginError: it cannot; with a name that could be meant.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789").removeprefix("guerdon-")
    plain = plain[:LONGEST].rstrip("-")
    function = name.replace("-", "_")
    if not re.fullmatch(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9]))*", name):
        problem = "use lower-case letters, digits and single hyphens, beginning with a letter"
    elif len(name) > LONGEST:
        problem = f"use at most {LONGEST} characters"
    elif re.match(r"guerdon[-_]", name):
        problem = "the package's name gets 'guerdon-' anyway"
    elif keyword.iskeyword(function) or hasattr(builtins, function) or function in _IMPORTED:
        problem, plain = "it means something else to Python", f"{plain}-{kind}"
    else:
        return
    hint = f", e.g. {plain!r}" if plain and plain != name else ""
    raise PluginError(f"{name!r} cannot name a {kind}: {problem}{hint}")


def _filled(text: str, words: dict[str, str]) -> str:
    return Template(text).substitute(words)
