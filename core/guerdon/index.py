"""A remembered answer to "which plugins are there?", valid while nothing was installed, removed or edited.

Reading the metadata of every installed distribution and importing every plugin costs more than all else in a short
command. The answer depends on the folders of `sys.path`, on the plugins' own files and on what the user wants of them
(`GUERDON_PLUGINS`), so their times, and that, are the key.
"""

# ruff: noqa: PTH103, PTH105, PTH111, PTH116, PTH118, PTH120, PTH123
# This is on the path of every command, and pathlib takes longer to import than all of it.

import json
import os
import sys
import zlib
from collections.abc import Iterable
from typing import Any

Stamp = list[Any]


def cache_folder() -> str:
    """Where guerdon keeps what can be made again: `$GUERDON_CACHE`, else the user's cache folder."""
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("GUERDON_CACHE") or os.path.join(users, "guerdon")


def read(wanted: str) -> list[dict[str, Any]] | None:
    """The remembered plugins, or `None` when there is no answer or it no longer holds."""
    try:
        with open(_file(wanted), encoding="utf-8") as file:
            data = json.load(file)
        if [data["wanted"], data["path"]] != [wanted, _path_stamps()]:
            return None
        if any(_stamp(name) != [name, *at] for name, *at in data["files"]):
            return None
        plugins: list[dict[str, Any]] = data["plugins"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return plugins


def write(wanted: str, plugins: list[dict[str, Any]], files: Iterable[str]) -> None:
    """Remember these plugins, found from these files. Where the cache cannot be written, nothing is remembered."""
    stamps = [_stamp(f) for f in sorted(files)]
    data = {"wanted": wanted, "path": _path_stamps(), "files": stamps, "plugins": plugins}
    target = _file(wanted)
    fresh = f"{target}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.replace(fresh, target)
    except OSError:
        pass


def _file(wanted: str) -> str:
    # two keys with one checksum would only take turns: what is read is compared in full
    who = zlib.crc32("\0".join([wanted, sys.prefix, *_folders()]).encode())
    return os.path.join(cache_folder(), "plugins", f"{who:08x}.json")


def _folders() -> list[str]:
    """The folders that can hold a distribution's metadata."""
    return [p for p in dict.fromkeys(sys.path) if p and not p.endswith(".zip")]


def _path_stamps() -> list[Stamp]:
    from guerdon import __version__

    return [[__version__, sys.version], *(_stamp(folder) for folder in _folders())]


def _stamp(name: str) -> Stamp:
    try:
        info = os.stat(name)
    except OSError:
        return [name, 0, 0]
    return [name, info.st_mtime_ns, info.st_size]
