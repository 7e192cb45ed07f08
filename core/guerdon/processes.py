"""Worker and spawner processes, seen from the one that they work for.

A worker is reached through a socket, and through memory that it shares: there it says which item it is at and since
when. It is killed from here, by its number, which stays its own until its spawner has waited for it.
"""

import contextlib
import mmap
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

from guerdon.calls import Call, Lost
from guerdon.errors import RewardError
from guerdon.spawner import BOARD, END, RECORD, SPAWNER, STATUS, WORKER, Unbuffered
from guerdon.worker import HEADER, PREPARING, START_SECONDS, Reply, complaint, receive

LONGEST_MS = 2**31 - 1
"""What `poll` takes: 24 days, which is for ever."""


class WorkerProcess:
    """A worker process, seen from the one that it works for."""

    def __init__(self, spawner: "SpawnerProcess", memory_mb: int) -> None:
        self.spawner = spawner
        self._ended = False
        self.begun = 0
        self._buffer = bytearray()
        self.socket, theirs = socket.socketpair()
        board = _shared(BOARD.size)
        try:
            self._shared = mmap.mmap(board, BOARD.size)
            self.board = memoryview(self._shared).cast("d")
            self.pid = spawner.fork(WORKER, memory_mb, theirs.fileno(), board)
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
            os.close(board)
        self.socket.settimeout(START_SECONDS)
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)
        self._exit = -1
        with contextlib.suppress(AttributeError, OSError):
            self._exit = os.pidfd_open(self.pid)  # its own children may keep the socket open
            self._poll.register(self._exit, select.POLLIN)

    def work(self, call: Call) -> None:
        """Do what the call has to do.

        Raises:
            Lost: the worker is stuck or gone; what it has finished is noted in the call.
        """
        data, done = call.order(), 0
        if not call.sent:
            return
        self.board[0], self.board[1] = PREPARING, time.monotonic()
        try:
            self.socket.sendall(HEADER.pack(len(data)) + data)
            while done < len(call.sent):
                self._wait(call.timeout)
                for data in self._arrived():
                    reply = _read(data, done if call.careful else -1)
                    call.take(done, reply.results)
                    done += len(reply.results)
                    if reply.unfit:
                        raise Lost("import", reply.unfit)
                    if reply.leaving:
                        done -= 1
                        raise Lost("memory", reply.results[-1].message, done, self.begun + done == 0)
        except (EOFError, OSError):
            place = int(self.board[0])
            raise Lost("died", "the reward ended its worker process", place, self.begun + place == 0) from None
        finally:
            call.settle(done)
            self.begun += done

    def _wait(self, timeout: float) -> None:
        """Until it says something; `EOFError` when it has ended."""
        while True:
            place, since = int(self.board[0]), self.board[1]
            left = since + (timeout if place >= 0 else START_SECONDS) - time.monotonic()
            # an item may begin right after this look, so that the next one is after `timeout` at the latest
            ready = self._poll.poll(max(0.0, min(left * 1000, timeout * 1000, LONGEST_MS)))
            if any(fd != self._exit for fd, _ in ready):
                return
            if ready and all(fd == self._exit for fd, _ in self._poll.poll(0)):  # it said nothing before
                raise EOFError
            if left <= 0 and not ready:
                self.kill()
                if place == PREPARING:
                    raise Lost("import", f"it was not imported within {START_SECONDS:g} s")
                raise Lost("timeout", f"no score within {timeout:g} s; its worker was killed", place)

    def _arrived(self) -> Iterator[bytes]:
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer)
            if len(self._buffer) < HEADER.size + size:
                break
            message = bytes(self._buffer[HEADER.size : HEADER.size + size])
            del self._buffer[: HEADER.size + size]
            yield message

    def kill(self) -> None:
        """It, and the children in its process group; its number stays its own until its spawner has waited for it."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def end(self, ask: bool) -> str | None:
        """Kill it, and have its spawner wait for it. How it had ended, if that is asked and known."""
        self.kill()
        code = None
        if self._ended:
            return None
        self._ended = True
        if ask:
            code = self.spawner.ask(STATUS, self.pid)
        else:
            self.spawner.tell(END, self.pid)
        self.close()
        return None if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"

    def close(self) -> None:
        self.socket.close()
        if self._exit >= 0:
            os.close(self._exit)
            self._exit = -1


def _read(data: bytes, place: int) -> Reply:
    try:
        reply: Reply = pickle.loads(data)
        return reply
    except Exception as error:
        what = f"its result cannot be read from a worker process: {complaint(error).message}"
        raise Lost("not_sendable", what, place) from None


def _shared(size: int) -> int:
    """A file in memory, which forked processes may map too."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("guerdon")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class SpawnerProcess:
    """A spawner process, seen from the one that it works for."""

    def __init__(self, control: socket.socket, keys: frozenset[bytes], process: subprocess.Popen[bytes] | None) -> None:
        self.control, self.keys, self.process = control, keys, process
        self.control.settimeout(START_SECONDS)
        self._lock = threading.Lock()

    @classmethod
    def first(cls) -> "SpawnerProcess":
        ours, theirs = socket.socketpair()
        paths = [p or os.getcwd() for p in sys.path]  # noqa: PTH109
        with theirs, contextlib.ExitStack() as failed, _no_interrupts():
            failed.callback(ours.close)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "guerdon.spawner", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=2,  # what rewards print is not this process's output
                env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
            failed.pop_all()
        return cls(ours, frozenset(), process)

    def fork(self, role: int, memory_mb: int, *fds: int) -> int:
        """The process id of a new child.

        Raises:
            RewardError: the system lets no process be started.
        """
        with self._lock:
            socket.send_fds(self.control, [RECORD.pack(role, memory_mb)], fds)
            pid = self._answer()
        if pid < 0:
            raise RewardError(f"no worker process can be started: {os.strerror(-pid)}")
        return pid

    def _answer(self) -> int:
        try:
            data = Unbuffered(self.control).read(RECORD.size)
        except OSError:
            self.control.close()  # a late answer must not be taken for that to another question
            raise
        if len(data) < RECORD.size:
            raise ConnectionError("the process that starts workers has ended")
        number: int = RECORD.unpack(data)[0]
        return number

    def tell(self, order: int, value: int = 0) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.control.sendall(RECORD.pack(order, value))

    def ask(self, order: int, value: int) -> int | None:
        with self._lock, contextlib.suppress(OSError):
            self.control.sendall(RECORD.pack(order, value))
            return self._answer()
        return None

    def introduce(self, key: bytes, memory_mb: int) -> "tuple[SpawnerProcess | None, str | None]":
        """A spawner that has this job too; else `None`, and what is wrong."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as failed:
            failed.callback(ours.close)
            with theirs:
                pid = self.fork(SPAWNER, memory_mb, theirs.fileno())
            spawner = SpawnerProcess(ours, self.keys | {key}, None)
            data = pickle.dumps((sys.path, key))
            fit, wrong = False, ""
            try:
                ours.sendall(HEADER.pack(len(data)) + data)
                fit, wrong = receive(Unbuffered(ours))
            except TimeoutError:
                wrong = f"it was not imported within {START_SECONDS:g} s"
            except Exception:
                wrong = "importing it ended the process"
            if fit:
                failed.pop_all()
                return spawner, ""
        self.tell(END, pid)
        return None, wrong or None

    def close(self) -> None:
        """It kills what it has started, and ends."""
        self.control.close()
        if self.process:
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def disown(self) -> None:
        """It is another process's."""
        self.control.close()
        if self.process:
            self.process.returncode = 0


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C is for the engine: a process started in here never gets it, not even before it has a session."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
