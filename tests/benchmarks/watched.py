"""Run a function over items in a process of its own, which is killed when an item takes too long; then go on.

For asking what a function does without any of guerdon's own guards: `watched("work:verdict", items, limit=30)`.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def watched(target: str, items: Iterable[Any], limit: float) -> Iterator[tuple[Any, Any, float]]:
    """(item, result, seconds) in order; the result is a string where there is none: "killed" or "died"."""
    process: subprocess.Popen[bytes] | None = None
    try:
        for item in items:
            process = process if process and process.poll() is None else _start(target)
            started = time.perf_counter()
            result = _ask(process, item, limit)
            if isinstance(result, str):
                process.kill()
                process.wait()
            yield item, result, time.perf_counter() - started
    finally:
        if process:
            process.kill()
            process.wait()


def _start(target: str) -> "subprocess.Popen[bytes]":
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *(p for p in sys.path if p)])}
    process = subprocess.Popen(
        [sys.executable, HERE / "watched.py", target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    assert process.stdout
    process.stdout.readline()  # ready
    return process


def _ask(process: "subprocess.Popen[bytes]", item: Any, limit: float) -> Any:
    assert process.stdin and process.stdout
    try:
        process.stdin.write(json.dumps(item).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return "died"
    ready, _, _ = select.select([process.stdout], [], [], limit)
    if not ready:
        return "killed"
    line = process.stdout.readline()
    return json.loads(line) if line else "died"


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    home = import_module(module)
    function = getattr(home, name)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed in there is no answer
    if hasattr(home, "warm_up"):
        home.warm_up()
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(function(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
