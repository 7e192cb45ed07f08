"""The house is built as CONTRIBUTING.md says."""

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import guerdon

ROOT = Path(__file__).parent.parent
LONGEST = 450
PACKAGES = [
    ROOT / p
    for p in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
]


@pytest.mark.parametrize("folder", ["", "core", "rewards", "agents", "plugins", "tests"])
def test_only_packages_are_packages(folder: str) -> None:
    """`agents/__init__.py` would hide openai-agents, whose package is called `agents`."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_conftest_but_that_of_the_tests() -> None:
    assert not (ROOT / "conftest.py").exists()


def test_the_agents_sdk_is_what_agents_means() -> None:
    agents = pytest.importorskip("agents")
    assert ROOT / "agents" not in Path(agents.__file__ or "").parents


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_modules_are_short_typed_and_say_what_they_are(package: Path) -> None:
    assert (package / "py.typed").is_file()
    for module in package.rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert text.count("\n") <= LONGEST, f"{module.name} has {text.count(chr(10))} lines"
        assert text.startswith(('"""', 'r"""')), f"{module.name} opens without a docstring"


def test_components_know_the_core_and_the_core_knows_no_component() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_exported_is_public_and_sorted() -> None:
    assert guerdon.__all__ == sorted(guerdon.__all__)
    homes = guerdon._HOMES
    assert {*homes, "__version__"} == set(guerdon.__all__)
    for name, home in homes.items():
        found = getattr(guerdon, name)
        assert inspect.getdoc(found) or callable(found)
        assert getattr(found, "__module__", "").startswith(("guerdon.", "pluggy")), f"{name} is not of {home}"
    typed = inspect.getsource(guerdon)
    for name, home in homes.items():
        assert f"    from guerdon.{home} import {name} as {name}\n" in typed, f"{name} is unknown to type checkers"


def test_what_is_not_exported_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'guerdon' has no attribute 'Rewrad'"):
        guerdon.Rewrad  # noqa: B018
