"""A spawner: a process with one thread that has prepared jobs and forks workers, in milliseconds.

The first one (`python -m guerdon.spawner`) has prepared nothing and runs nobody's code, so it always answers. For each
job it is asked to fork a spawner that prepares it; when that went well the new one is asked for workers, and for the
spawner of the next job; when the import hangs or dies, nothing else is lost.

The first one adopts whatever its descendants leave behind (Linux: it is a "subreaper"), and when the process that
started it has gone, in whatever way, it kills them all and ends.
"""

import contextlib
import gc
import mmap
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from guerdon.worker import HEADER, Worker, complaint, enter_worker, prepare, receive

RECORD = struct.Struct("<qq")
WORKER, SPAWNER, END, STATUS, SWEEP = range(5)
"""What a spawner can be told; the second number of a record is the memory limit in MB (0: none), or a process id."""

BOARD = struct.Struct("dd")
CLEAN_UP_SECONDS = 10.0
SWEEPS, SWEEP_SECONDS = 5, 0.2
"""What a dead worker leaves behind is an orphan only when the worker is entirely gone, which takes a while."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Linux's; nothing elsewhere."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Spawner:
    """The loop of a spawner process."""

    def __init__(self, control: socket.socket, prepared: dict[bytes, Any], owner: int | None = None) -> None:
        self.control, self.prepared = control, prepared
        self.owner = owner  # a file descriptor that is readable when the owner has gone
        self.children: set[int] = set()
        self.dying: set[int] = set()
        self.sweeps = 0

    def run(self) -> NoReturn:
        """Until its owner has gone; then nothing that it started is left."""
        waiting = select.poll()
        waiting.register(self.control, select.POLLIN)
        if self.owner is not None:
            waiting.register(self.owner, select.POLLIN)
        with contextlib.suppress(OSError):
            while True:
                ready = waiting.poll(SWEEP_SECONDS * 1000 if self.sweeps or self.dying else None)
                self._tidy()
                if any(fd == self.owner for fd, _ in ready) or (ready and not self._obey()):
                    break
        self._end_all()
        os._exit(0)

    def _obey(self) -> bool:
        record, fds, _, _ = socket.recv_fds(self.control, RECORD.size, 2)
        for fd in fds:
            os.set_inheritable(fd, False)
        if len(record) < RECORD.size:
            return False
        order, value = RECORD.unpack(record)
        if order in (WORKER, SPAWNER):
            self._fork(order, value, fds)
        elif order == SWEEP:
            self.sweeps = SWEEPS
        elif value in self.children:
            self.children.discard(value)
            _kill(value)
            if order == STATUS:
                _, status = os.waitpid(value, 0)
                self._answer(os.waitstatus_to_exitcode(status))
            else:
                self.dying.add(value)
        return True

    def _answer(self, number: int) -> None:
        self.control.sendall(RECORD.pack(number, 0))

    def _fork(self, order: int, memory_mb: int, fds: list[int]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid:
            for fd in fds:
                os.close(fd)
            if pid > 0:
                self.children.add(pid)
            self._answer(pid)
            return
        try:
            os.setsid()
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            self.control.close()
            if self.owner is not None:
                os.close(self.owner)
            limit_memory(memory_mb)
            if order == WORKER:
                _work(fds[0], fds[1], self.prepared, memory_mb)
            else:
                _spawn(fds[0], self.prepared)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def _tidy(self) -> None:
        for pid in list(self.dying):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                self.dying.discard(pid)
        if self.sweeps:
            self.sweeps -= 1
            for pid in set(_offspring(self.children)) - self.children - self.dying:
                _kill(pid)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _end_all(self) -> None:
        """Kill all children, and the orphans that this makes, until there is none."""
        until = time.monotonic() + CLEAN_UP_SECONDS
        while time.monotonic() < until:
            for pid in _offspring(self.children | self.dying):
                _kill(pid)
            try:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            except ChildProcessError:
                return
            time.sleep(0.002)


def _kill(pid: int) -> None:
    """A child that has not been waited for, so that its number is still its own, and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _offspring(known: set[int]) -> list[int]:
    """The children of this process, the adopted ones too where Linux tells."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return list(known)


def limit_memory(memory_mb: int) -> None:
    """What this process may allocate; files that it maps, code among them, don't count. No core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


def _work(channel: int, board: int, prepared: dict[bytes, Any], memory_mb: int) -> NoReturn:
    shared = mmap.mmap(board, BOARD.size)
    os.close(board)
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()  # Python's own does this at a fork
    orders, out = open(channel, "rb"), open(os.dup(channel), "wb", buffering=0)  # noqa: PTH123, SIM115
    limit = f"{memory_mb} MB" if memory_mb else "there is"
    Worker(orders, out, memoryview(shared).cast("d"), prepared, limit).run()


def _spawn(channel: int, prepared: dict[bytes, Any]) -> NoReturn:
    """Prepare the job that comes first, and say how that went: '' when all is well."""
    control = socket.socket(fileno=channel)
    try:
        paths, key = receive(Unbuffered(control))
    except (EOFError, OSError):  # interrupted between the fork and the job
        os._exit(0)
    sys.path[:] = paths
    wrong = ""
    try:
        prepared[key] = prepare(pickle.loads(key))
    except BaseException as error:
        wrong = complaint(error).message
    fit = not wrong and _threads() == 1
    data = pickle.dumps((fit, wrong))
    control.sendall(HEADER.pack(len(data)) + data)
    if not fit:
        os._exit(0)
    gc.collect()
    gc.freeze()  # workers then share these pages for longer
    Spawner(control, prepared).run()


class Unbuffered:
    """A socket to read from, and not a byte more: what follows may come with file descriptors."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source

    def read(self, size: int, /) -> bytes:
        data = bytearray()
        while len(data) < size and (more := self.source.recv(size - len(data))):
            data += more
        return bytes(data)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        import threading

        return threading.active_count()


def main() -> None:
    owner_pid = int(sys.argv[1])
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    enter_worker()
    signal.signal(
        signal.SIGCHLD, signal.SIG_DFL
    )  # where it was ignored, children would vanish before they are waited for
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    owner = None
    with contextlib.suppress(AttributeError, OSError):
        owner = os.pidfd_open(owner_pid)
    if os.getppid() != owner_pid:
        return
    Spawner(control, {}, owner).run()


if __name__ == "__main__":
    main()
