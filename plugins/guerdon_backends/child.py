"""A process that ends with its parent, even when that is killed: `python -m guerdon_backends.child MODULE ARG ...`.

Runs the module as `python -m` would. The parent holds the other end of its stdin; when that closes, the whole process
group goes.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

GRACE = 5
"""Seconds between asking and killing."""


def end_with_parent(end: Callable[[], None]) -> None:
    """Call `end` once stdin, a pipe that the parent holds, closes."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock, held here, aborts the interpreter at exit
            pass
        end()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def end_group() -> None:
    """End this process and all that it started: workers that outlive their leader hold on to the GPU."""
    group = os.getpgid(0)
    subprocess.Popen(["/bin/sh", "-c", f"sleep {GRACE}; kill -KILL -{group} 2>/dev/null"], start_new_session=True)
    os.killpg(group, signal.SIGTERM)


def main() -> None:
    module, sys.argv = sys.argv[1], sys.argv[1:]
    end_with_parent(end_group)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
