"""Jobs for the tests of worker processes: what an item says is done."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATE: list[Any] = []
WARM: list[str] = []


def warm_up() -> None:
    WARM.append("warm")


def simple() -> Callable[[Any], Any]:
    return do


def other() -> Callable[[Any], Any]:
    return do


def with_sympy() -> Callable[[Any], Any]:
    import sympy

    assert sympy
    return do


def work(rounds: int) -> int:
    return sum(i * i for i in range(rounds))


def grow_slowly() -> None:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))
        time.sleep(0.001)


def scaled(factor: int) -> Callable[[Any], Any]:
    return lambda item: factor * item


def broken(message: str) -> Callable[[Any], Any]:
    raise LookupError(message)


def threaded() -> Callable[[Any], Any]:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return do


def add(a: int, b: int) -> int:
    return a + b


def nested(a: int, b: int) -> tuple[int, int]:
    """In a worker: who answers, and who asked."""
    from guerdon.workers import isolated

    other: int = isolated("jobs:pid")
    return other, os.getpid()


def call_in_process(queue: Any) -> None:
    """In a process that something else has started: what two pools make of it."""
    from guerdon.workers import Job, Workers, isolated

    with Workers(1) as workers:
        first, late, last = workers.run(Job("jobs:simple"), [1, "hang", 2], 0.3)
        queue.put(([first, last], late.kind, isolated("jobs:add", 1, 2)))


def nested_nap(module: str, seconds: float) -> str:
    from guerdon.workers import isolated

    isolated(f"{module}:nap", seconds)
    return "rested"


def pid() -> int:
    return os.getpid()


class Odd:
    """Pickles well, and cannot be read again."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        if self.how == "unpicklable":
            raise ValueError("not me")
        return _read_again, (self.how, os.getpid())


def _read_again(how: str, owner: int) -> None:
    if os.getpid() != owner:
        if how == "kills":
            os._exit(9)
        raise ValueError("no way back")


def stuck(_: Any) -> None:
    while True:
        pass


def do(item: Any) -> Any:
    if isinstance(item, int):
        return 2 * item
    what, *rest = item if isinstance(item, tuple) else (item,)
    return ACTS[what](*rest)


def grow() -> None:
    while True:
        STATE.append(bytearray(1 << 24))


def leave_child(daemon: bool) -> int:
    if not daemon:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid
    code = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout
    return int(child.stdout.readline())


def fork_and_exit() -> None:
    """Leave a child behind that holds all that this process has open."""
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(5)


def later() -> str:
    """Die soon, but not at this item."""
    threading.Timer(0.02, os._exit, (4,)).start()
    return "innocent"


def deep(depth: int) -> Any:
    return deep(depth + 1) if depth >= 0 else 0


def factorial(n: int) -> int:
    import sympy

    return int(sympy.factorial(n) % 1000)


ACTS: dict[str, Callable[..., Any]] = {
    "hang": lambda: stuck(None),
    "c hang": lambda: pow(7, 10**9) % 11,
    "power": lambda: 9 ** (9**9) % 7,
    "int": lambda: int("9" * 10**8) if not sys.set_int_max_str_digits(0) else 0,
    "sympy": lambda: factorial(10**9),
    "sleep": time.sleep,
    "nap": lambda seconds: (time.sleep(seconds), "rested")[1],
    "grow": grow,
    "grow slowly": grow_slowly,
    "work": work,
    "cpu": time.process_time,
    "memory": lambda: bytearray(1 << 40),
    "exit": os._exit,
    "sys.exit": sys.exit,
    "kill": lambda sign: os.kill(os.getpid(), sign),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": lambda: 1 / 0,
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "recursion": lambda: deep(0),
    "unsendable": lambda: lambda: None,
    "odd": lambda how: Odd(how),
    "big": lambda size: b"x" * size,
    "print": lambda text: (print(text, end=""), os.write(1, text.encode()), sys.stdin.read())[2],
    "child": leave_child,
    "fork": fork_and_exit,
    "later": later,
    "close": lambda: os.closerange(3, 100),
    "pid": os.getpid,
    "warm": lambda: len(WARM),
    "threads": threading.active_count,
    "random": random.random,
    "touch": lambda path: Path(path).write_text(str(os.getpid())),
    "sum": sum,
}
