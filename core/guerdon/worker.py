"""A worker: a process that prepares jobs once and then runs items, one after the other, until it is killed.

It writes down in shared memory which item it is at and since when, so that whoever waits for it knows what to blame
when the item hangs, dies or grows; nothing here guards against endless loops. Results are handed over every few
milliseconds, not one by one. Messages are pickles with a length before them.
"""

import contextlib
import os
import pickle
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import IO, Any, NamedTuple, NoReturn, Protocol

from guerdon.errors import GuerdonError
from guerdon.trajectory import Failure

HEADER = struct.Struct(">Q")
HAND_OVER_SECONDS = 0.004
"""A worker tells its results so often, and when it is through."""

PREPARING, UNPACKING, HANDING_OVER = -1.0, -2.0, -3.0
"""What a worker is at, where it is not at an item."""

START_SECONDS = 60.0
"""For a process to start and prepare a job; not part of a deadline."""

MOST_PREPARED = 64
"""Jobs that a worker keeps, beside those that it was born with."""

_INSIDE = False
_BOARD: "memoryview[float] | None" = None


class Readable(Protocol):
    """`read` gives all that it is asked for, less only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Job(NamedTuple):
    """What a worker prepares once and keeps: `target`, "package.module:function", is called with `arguments` and
    returns the function that its items are given to.

    A module that takes long to be ready may define `warm_up()`: it is called once, after the import.
    """

    target: str
    arguments: tuple[Any, ...] = ()


def in_worker() -> bool:
    """Whether this process runs jobs: it has a deadline then, and may be killed at any time."""
    return _INSIDE


def enter_worker() -> None:
    global _INSIDE
    _INSIDE = True


@contextlib.contextmanager
def off_the_clock() -> Iterator[None]:
    """Within this context the deadline of a worker's item is put off: what is done once is not the item's to pay."""
    if _BOARD is None:
        yield
        return
    entered, since = time.monotonic(), _BOARD[1]
    _BOARD[1] = entered + START_SECONDS
    try:
        yield
    finally:
        _BOARD[1] = since + time.monotonic() - entered


def prepare(job: Job) -> Callable[[Any], Any]:
    """The function that a job's items are given to."""
    module, _, name = job.target.partition(":")
    function: Callable[[Any], Any] = attrgetter(name)(_ready(module))(*job.arguments)
    return function


@cache
def _ready(module: str) -> Any:
    with off_the_clock():
        found = import_module(module)
        if warm_up := getattr(found, "warm_up", None):
            warm_up()
        return found


def caller(target: str) -> Callable[[Sequence[Any]], Any]:
    """A job whose items are the arguments of a function (`guerdon.workers.isolated`)."""
    module, _, name = target.partition(":")
    function = attrgetter(name)(_ready(module))
    return lambda arguments: function(*arguments)


def complaint(error: BaseException) -> Failure:
    """An exception as data; it may be of any class, with any faults of its own."""
    try:
        if isinstance(error, GuerdonError):
            return Failure(error.kind, str(error))
        return Failure("raised", f"{type(error).__name__}: {error}{_line_of(error)}")
    except Exception:
        return Failure("raised", f"{type(error).__name__}, which cannot be shown")


def _line_of(error: BaseException) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""


class Order(NamedTuple):
    """One call: `items` is one pickle of all, or where that went wrong (`careful`) a list of one pickle each."""

    key: bytes
    careful: bool
    items: Any


class Reply(NamedTuple):
    """The next results of a call, in order. `leaving`: the worker has ended itself. `unfit`: it has not the job."""

    results: list[Any]
    leaving: bool = False
    unfit: str = ""


class Worker:
    """The loop of a worker process. `board` holds what it is at and since when (`time.monotonic`)."""

    def __init__(
        self, orders: IO[bytes], out: IO[bytes], board: "memoryview[float]", prepared: dict[bytes, Any], limit: str
    ) -> None:
        self.orders, self.out, self.board, self.prepared, self.limit = orders, out, board, prepared, limit

    def run(self) -> NoReturn:
        """Until its parent has gone."""
        global _BOARD
        _BOARD = self.board
        with contextlib.suppress(EOFError, OSError):
            while True:
                order: Order = receive(self.orders)
                function = self._prepared(order.key)
                if function is not None:
                    self.board[0] = UNPACKING
                    self._run(function, order.items if order.careful else _unpacked(order.items), order.careful)
        os._exit(0)

    def _prepared(self, key: bytes) -> Callable[[Any], Any] | None:
        try:
            if key not in self.prepared:
                self.prepared[key] = prepare(pickle.loads(key))
                if len(self.prepared) > MOST_PREPARED:
                    self.prepared.pop(next(iter(self.prepared)))
            function: Callable[[Any], Any] = self.prepared[key]
            return function
        except BaseException as error:
            self._send(Reply([], unfit=complaint(error).message))
            return None

    def _run(self, function: Callable[[Any], Any], items: Sequence[Any], careful: bool) -> None:
        board, now, results = self.board, time.monotonic, list[Any]()
        due = now() + HAND_OVER_SECONDS
        for place, item in enumerate(items):
            started = now()
            if started > due:
                board[0] = HANDING_OVER
                self._send(Reply(results))
                results = []
                started = now()
                due = started + HAND_OVER_SECONDS
            board[1] = started  # before the place: who reads a new place must not read an old time
            board[0] = place
            try:
                results.append(function(pickle.loads(item) if careful else item))
            except MemoryError:
                self._send(Reply([*results, Failure("memory", f"it asked for more memory than {self.limit}")], True))
                os._exit(1)
            except BaseException as error:
                results.append(complaint(error))
            if careful:
                self._send(Reply(results))
                results = []
        board[0] = HANDING_OVER
        if results:
            self._send(Reply(results))

    def _send(self, reply: Reply) -> None:
        try:
            data = pickle.dumps(reply)
        except Exception:
            data = pickle.dumps(reply._replace(results=[_sendable(r) for r in reply.results]))
        self.out.write(HEADER.pack(len(data)) + data)
        self.out.flush()


def _unpacked(items: bytes) -> Any:
    try:
        return pickle.loads(items)
    except BaseException:  # which of them it is will be found out with care
        os._exit(1)


def _sendable(result: Any) -> Any:
    try:
        pickle.dumps(result)
    except Exception as error:
        return Failure("not_sendable", f"its result cannot be sent from a worker process: {complaint(error).message}")
    return result


def send(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    pipe.write(HEADER.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: Readable) -> Any:
    """The next message; `EOFError` when the other side has gone."""
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (size,) = HEADER.unpack(header)
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """What was stdin and stdout, for messages; stdin is then empty, and what is printed goes to stderr."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return pipes
