"""Fixtures that several test files share."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


class Site:
    """A folder of toy distributions, as pip would leave them, and the command `guerdon` that sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.home = folder / "home"
        self.folder.mkdir()
        self.home.mkdir()

    def add(
        self, package: str, code: str, *, version: str = "1.0", entry: str = "", metadata: str = "", **modules: str
    ) -> Path:
        """A distribution with one plugin, the module of the same name; returns the module's file."""
        module = package.replace("-", "_")
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        (info / "METADATA").write_text(head + metadata)
        (info / "entry_points.txt").write_text(f"[guerdon]\n{entry or package} = {module}\n")
        for name, text in {module: code, **modules}.items():
            (self.folder / f"{name}.py").write_text(text)
        return self.folder / f"{module}.py"

    def guerdon(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return self.python("-m", "guerdon", *args, **env)

    def python(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *args],
            env=self.environment(env),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        path = [str(self.folder), os.environ.get("PYTHONPATH", "")]
        base = {k: v for k, v in os.environ.items() if not k.startswith("GUERDON_")}
        own = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "GUERDON_CACHE": str(self.home / "cache")}
        return {**base, "COLUMNS": "120", **own, **env}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
