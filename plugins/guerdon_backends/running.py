"""A vLLM server that runs: given adapters under names of their own, asked again when it has lost them.

An adapter's name is never used twice: the server keeps what it computed by that name. The older ones go, but for the
newest `KEPT`, so that what is being answered with the last one may end.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from guerdon.errors import BackendError, near_miss
from guerdon.task import Task
from guerdon_backends.endpoint import HttpEndpoint
from guerdon_backends.speech import otherwise

log = logging.getLogger("guerdon")

T = TypeVar("T")

KEPT = 2
"""Adapters that the server has at a time: the newest, and the one before for requests that are still being answered."""
DEADLINE = 10.0
"""Seconds that a server which is said to run has for saying so."""
HINTS = {
    "Not Found": "The server takes no adapters while it runs: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its "
    "environment and the flags --enable-lora --max-lora-rank 64.",
    "LoRA is not enabled": "Start the server with --enable-lora --max-lora-rank 64 (`max_lora_rank`).",
    "max_lora_rank": "Raise `max_lora_rank` (--max-lora-rank of a server that is not ours), or train a lower rank.",
    "No adapter found": "The server reads the adapter itself: it must see this folder under the same path.",
}
"""What to do, by what vLLM says when an adapter cannot be loaded."""


class RunningEndpoint:
    """The endpoint of a server that others start and end; `tag` tells its adapters from those of other runs, `folder`
    holds its base model, where that is known."""

    def __init__(self, http: HttpEndpoint, tag: str = "", folder: str = "") -> None:
        self.model = self._base = http.model
        self._http = http
        self._tag, self._folder = tag, folder
        self._adapter: Path | None = None
        self._version = 0
        self._loaded: list[str] = []
        self._starts = 0
        self._lock = asyncio.Lock()
        self._ready = asyncio.Event()  # not while a server is started again: it has no adapter yet
        self._ready.set()

    @property
    def logprobs(self) -> bool:
        return self._http.logprobs

    @logprobs.setter
    def logprobs(self, wanted: bool) -> None:
        self._http.logprobs = wanted

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        await self._until_ready()
        starts, model = self._starts, self.model
        try:
            return await self._http.complete(body, task)
        except BackendError as error:
            await self._recover(starts, model, error)
        return await self._http.complete(body, task)

    def stream(self, body: dict[str, Any], task: Task) -> AsyncIterator[dict[str, Any]]:
        """The response's chunks; what fails before the first of them is mended and asked again, as in `complete`."""
        return self._streamed(lambda: self._http.stream(body, task))

    def batches(self, body: dict[str, Any], task: Task) -> AsyncIterator[list[dict[str, Any]]]:
        """As `stream`, those chunks at once that come at once."""
        return self._streamed(lambda: self._http.batches(body, task))

    def raw(self, body: dict[str, Any], task: Task) -> AsyncIterator[bytes]:
        """The response as the server sends it, in pieces; failures as in `stream`."""
        return self._streamed(lambda: self._http.raw(body, task))

    async def _streamed(self, ask: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
        await self._until_ready()
        starts, model, begun = self._starts, self.model, False
        try:
            async for piece in ask():
                begun = True
                yield piece
            return
        except BackendError as error:
            if begun:
                raise
            await self._recover(starts, model, error)
        async for piece in ask():
            yield piece

    async def load_adapter(self, path: Path | None) -> None:
        """Serve this adapter from now on; None: the base model."""
        await self._until_ready()
        await self._load(path)

    async def unload(self) -> None:
        """Leave the server as it was found."""
        while self._loaded:
            with contextlib.suppress(BackendError):  # it may be gone
                await self._unload_oldest()

    async def _until_ready(self) -> None:
        await self._ready.wait()

    async def _load(self, path: Path | None) -> None:
        name, started = self._base, time.monotonic()
        if path is not None:
            self._version += 1
            name = f"{self._base}{self._tag}-v{self._version}"
            try:
                await self._http.post("/load_lora_adapter", {"lora_name": name, "lora_path": str(path.resolve())})
            except BackendError as error:
                hint = next((hint for words, hint in HINTS.items() if words in str(error)), "")
                raise BackendError(f"{error} {hint}".rstrip(), kind=error.kind) from None
            self._loaded.append(name)
            log.info("%s is served as %s (swapped in %.2f s)", path.name, name, time.monotonic() - started)
        self.model = self._http.model = name
        self._http.extra = otherwise(path, Path(self._folder)) if path and self._folder else {}
        self._adapter = path
        while len(self._loaded) > KEPT:
            with contextlib.suppress(BackendError):  # a server that is full forgets by itself
                await self._unload_oldest()

    async def _unload_oldest(self) -> None:
        await self._http.post("/unload_lora_adapter", {"lora_name": self._loaded.pop(0)})

    async def _recover(self, starts: int, model: str, error: BackendError) -> None:
        """Return when it is worth asking again; else the error.

        The server does not know an adapter that was unloaded while the request waited, or before the server's restart.
        """
        if error.kind != "http_404" or model == self._base:
            raise error
        async with self._lock:
            if self.model == model:
                await self._load(self._adapter)


@asynccontextmanager
async def running(model: str, folder: str, url: str, key: str, key_env: str) -> AsyncIterator[RunningEndpoint]:
    """The server at `url` for this model, which is also in `folder`; it is neither started nor ended.

    Raises:
        BackendError: nobody is there, the key is refused, or it serves other models.
    """
    root = url.strip().rstrip("/").removesuffix("/v1")
    http = HttpEndpoint(root + "/v1", model, key, timeout=86400, retries=2, token_ids=True, key_env=key_env)
    try:
        await http.check(DEADLINE)
        http.model = named(model, folder, await models(root, key), root)
        log.info("%s is served at %s, by a server that is not ours", http.model, root)
        endpoint = RunningEndpoint(http, f"-{secrets.token_hex(3)}", folder)
        try:
            yield endpoint
        finally:
            await endpoint.unload()
    finally:
        await http.aclose()


async def models(root: str, key: str) -> list[dict[str, Any]]:
    """What a healthy server says of its models.

    Raises:
        BackendError: it is not healthy, or no vLLM.
    """
    try:
        async with httpx.AsyncClient(timeout=DEADLINE, headers={"Authorization": f"Bearer {key}"}) as client:
            health = await client.get(root + "/health")
            health.raise_for_status()
            served: list[dict[str, Any]] = (await client.get(root + "/v1/models")).json()["data"]
            if (await client.get(root + "/v1/load_lora_adapter")).status_code == 404:  # else 405: it is for POST
                log.info("the server takes no adapters while it runs: enough to roll out, not to train in a loop")
            return served
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise BackendError(
            f"{root} is not well, or no vLLM server ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "For servers of another kind there is backend: openai.",
            kind="broken_reply",
        ) from None


def named(model: str, folder: str, served: list[dict[str, Any]], url: str) -> str:
    """What the server calls the model: one of its ids is its name, or was loaded from it, or ends as it does.

    >>> named("Qwen/Qwen3-4B", "", [{"id": "policy", "root": "Qwen/Qwen3-4B"}], "")
    'policy'
    >>> named("smollm", "/here/smollm", [{"id": "/there/smollm", "root": "/there/smollm"}], "")
    '/there/smollm'

    Raises:
        BackendError: it serves others.
    """
    ids = [str(one["id"]) for one in served]
    for wanted in (model, folder):
        for one in served:
            if wanted and wanted in (one["id"], one.get("root")):
                return str(one["id"])
    alike = [name for name in ids if Path(name).name == Path(folder or model).name]
    if len(alike) == 1:
        return alike[0]
    raise BackendError(f"The server at {url} does not serve {model!r}.{near_miss(model, ids)}", kind="model")
