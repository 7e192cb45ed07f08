"""`guerdon plugins new` writes a package that is complete and clean (test_third_party.py installs one)."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from guerdon.errors import PluginError
from guerdon.scaffold import write_package

if TYPE_CHECKING:
    from conftest import Site

LONG = "the-longest-name-there-can-be1"


@pytest.mark.parametrize("kind", ["reward", "agent"])
@pytest.mark.parametrize("name", ["polite", "on-topic", "on_topic", "x", LONG])
def test_what_is_written_is_complete(tmp_path: Path, kind: str, name: str) -> None:
    folder = write_package(kind, name, tmp_path / "new")
    plain = name.replace("-", "_")
    assert folder == tmp_path / "new" / f"guerdon-{name.replace('_', '-')}"
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        ".github/workflows/test.yml",
        f"guerdon_{plain}/__init__.py",
        f"guerdon_{plain}/py.typed",
        f"guerdon_{plain}/{kind}.py",
        f"tests/test_{plain}.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["guerdon"] == {name: f"guerdon_{plain}"}
    assert project["name"] == folder.name
    workflow = yaml.safe_load((folder / ".github/workflows/test.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert {"run": "pytest"} in steps
    assert {"python-version": "${{ matrix.python-version }}"} in [step.get("with") for step in steps]
    example = (folder / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    used = yaml.safe_load(example)
    assert name in (used["rewards"][0] if kind == "reward" else used["agent"])


def test_what_is_written_is_clean(tmp_path: Path) -> None:
    for kind, name in (("reward", "x"), ("agent", "y"), ("reward", LONG), ("agent", LONG[1:])):
        write_package(kind, name, tmp_path)
    for tool in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "--strict", "."]):
        done = subprocess.run([sys.executable, "-m", *tool], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Polite", "use lower-case letters, digits and single hyphens, beginning with a letter, e.g. 'polite'"),
        ("2 good", "use lower-case letters, digits and single hyphens, beginning with a letter, e.g. 'good'"),
        ("so--so", "beginning with a letter, e.g. 'so-so'"),
        ("end-", "beginning with a letter, e.g. 'end'"),
        ("../up", "beginning with a letter, e.g. 'up'"),
        ("höflich", "beginning with a letter, e.g. 'h-flich'"),
        ("", "'' cannot name a reward: use lower-case letters"),
        (LONG + "0", "use at most 30 characters, e.g. 'the-longest-name-there-can-be1'"),
        ("guerdon-polite", "the package's name gets 'guerdon-' anyway, e.g. 'polite'"),
        ("class", "it means something else to Python, e.g. 'class-reward'"),
        ("format", "it means something else to Python, e.g. 'format-reward'"),
        ("numeric", "there is a reward 'numeric' already, from guerdon 0.1.0: choose another name"),
    ],
)
def test_a_name_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(PluginError) as error:
        write_package("reward", name, tmp_path)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = write_package("reward", "polite", tmp_path)
    (folder / "README.md").write_text("mine")
    with pytest.raises(PluginError, match=r"guerdon-polite is there already: .* or another place \(--into\)"):
        write_package("agent", "polite", tmp_path)
    assert (folder / "README.md").read_text() == "mine"


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PluginError, match=r"cannot write .*file"):
        write_package("reward", "polite", tmp_path / "file")


def test_the_command_says_what_to_do_next(site: "Site") -> None:
    done = site.guerdon("plugins", "new", "agent", "terse", "--into", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert (site.home / "mine/guerdon-terse/guerdon_terse/agent.py").is_file()
    assert done.stdout.splitlines() == [
        "Wrote mine/guerdon-terse/. Next:",
        "  cd mine/guerdon-terse",
        "  pip install -e . pytest",
        "  pytest",
        "  guerdon plugins show terse",
    ]
