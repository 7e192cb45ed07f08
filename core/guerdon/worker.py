"""A worker process: `python -m guerdon.worker`, which scores what it is sent until its parent goes away.

Messages are pickles with a length before them: on stdin what to do, on the original stdout the answers. What a reward
prints goes to stderr, and it finds nothing to read on its stdin. The parent kills a worker at its deadline, so nothing
here guards against endless loops.
"""

import os
import pickle
import signal
import struct
import threading
from queue import SimpleQueue
from typing import IO, Any

HEADER = struct.Struct(">Q")


def send(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    pipe.write(HEADER.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
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
    return pipes


def _read(pipe: IO[bytes], inbox: "SimpleQueue[Any]") -> None:
    """In a thread of its own, so that a worker stuck in a reward still ends with its parent, and its children too."""
    try:
        while True:
            inbox.put(receive(pipe))
    except BaseException:
        os.killpg(0, signal.SIGKILL)


def main() -> None:
    orders, out = own_pipes()
    inbox: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read, args=(orders, inbox), daemon=True).start()

    from guerdon.registry import load
    from guerdon.reward import call

    functions: dict[Any, Any] = {}
    while True:
        order, *rest = inbox.get()
        if order == "load":
            (component,) = rest
            try:
                functions[component] = load(component)
                send(out, None)
            except Exception as error:
                send(out, str(error))
        else:
            component, settings, items = rest
            send(out, call(functions[component], settings, items))


if __name__ == "__main__":
    main()
