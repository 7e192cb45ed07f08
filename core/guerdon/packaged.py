"""The recipes that plugins ship, by name."""

from pathlib import Path

from guerdon.plugins import Plugins


def packaged_recipes(plugins: Plugins | None = None) -> dict[str, Path]:
    """The recipes that plugins ship, by name."""
    from importlib.resources import files

    found = {}
    for component in (plugins or Plugins()).components:
        if component.kind == "recipes":
            package, _, path = component.target.partition(":")
            found[component.name] = Path(str(files(package).joinpath(path)))
    return found
