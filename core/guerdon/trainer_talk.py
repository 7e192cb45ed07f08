"""What the engine and a training's processes say to each other: the order, the word to begin, what they report and ask
for. This is the engine's side, `trainer_process.Line` theirs.
"""

import asyncio
import pickle
from typing import Any

from guerdon.errors import GuerdonError, TrainingError
from guerdon.training import Service
from guerdon.worker import HEADER

ASKED = ("generate", "score")
"""What of a service a training process waits for."""


class Talk:
    """The connections from a training's processes.

    Each says its id and gets the order when it connects, and a second word when it may `begin`. `said` is how it ended:
    '' well, else an error; `None` when none has said.
    """

    def __init__(self, order: Any) -> None:
        self.told = False
        """To begin; what has then `begun` has said so."""
        self.begun = False
        self.said: str | None = None
        self.failure: GuerdonError | None = None
        self.ended = asyncio.Event()
        self.processes: list[int] = []
        self._order = order
        self._service: Service | None = None
        self._waiting: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, service: Service) -> None:
        """Let them do their job, those too that have yet to connect."""
        self.told, self._service = True, service
        for writer in self._waiting:
            _write(writer, True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._put(writer, self._order)
            if self._service:
                await self._put(writer, True)
            else:
                self._waiting.append(writer)
            while True:
                (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
                kind, *rest = pickle.loads(await reader.readexactly(size))
                if kind in ASKED:
                    await self._put(writer, await getattr(self._service, kind)(*rest))
                elif kind == "done":
                    self._done(*rest)
                elif kind == "here":
                    self.processes += rest
                elif kind == "begun":
                    self.begun = True
                elif self._service:
                    getattr(self._service, kind)(*rest)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled by `close`; asyncio would print it
        except GuerdonError as error:
            self._fail(error)
        except Exception as error:
            self._fail(TrainingError(f"while the trainer was served: {type(error).__name__}: {error}"))
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        """What a process that has ended said is still read; then the connections are closed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(self, writer: asyncio.StreamWriter, value: Any) -> None:
        _write(writer, value)
        await writer.drain()

    def _done(self, error: str, last: bool) -> None:
        """One process is through; the first error counts, and all is well when the main one says so."""
        self.said = self.said or error
        if last or error:
            self.ended.set()

    def _fail(self, error: GuerdonError) -> None:
        self.failure = self.failure or error
        self.ended.set()


def _write(writer: asyncio.StreamWriter, value: Any) -> None:
    if not writer.is_closing():  # uvloop raises then; that the process has gone is seen elsewhere
        data = pickle.dumps(value)
        writer.write(HEADER.pack(len(data)) + data)
