"""The policy's server: opened when it is first needed, and answering with the newest checkpoint."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from guerdon.policy import Endpoint
from guerdon.resolve import Bound, Plan
from guerdon.rollout import entered
from guerdon.stopwatch import Stopwatch


class Served:
    """The model with its newest checkpoint, and the backend that serves it.

    An adapter is loaded into the running server; for a whole model the server is started anew.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.adapter: Path | None = None
        self.clock = Stopwatch()
        self._model = ""
        self._stack = AsyncExitStack()
        self._endpoint: Endpoint | None = None
        self._serves: tuple[str, Path | None] = ("", None)
        self._asleep = False

    def model(self) -> str:
        """The model to serve and to train; a registered name is prepared."""
        if not self._model:
            self._model = self.plan.model_path()
        return self._model

    def take(self, checkpoint: Path | None) -> None:
        """Make a checkpoint the policy: a LoRA adapter, or a whole model; `None`: the model without an adapter."""
        if checkpoint and not is_adapter(checkpoint):
            self._model, self.adapter = str(checkpoint), None
        else:
            self.adapter = checkpoint

    @property
    def name(self) -> str:
        """The policy in a trajectory's record."""
        base = self.plan.model if not self._model or Path(self._model).parent.name != "checkpoints" else self._model
        return f"{base} + {self.adapter.name}" if self.adapter else base

    async def endpoint(self, *, logprobs: bool = True) -> Endpoint:
        """The server, answering as the policy is now; with `logprobs` if something will learn from them."""
        model, (served, adapter) = self.model(), self._serves
        if self._endpoint is None or served != model:
            with self.clock("serve"):
                await self.close()
                self._endpoint = await self._stack.enter_async_context(open_backend(self.plan.backend, model))
            adapter = None
        with self.clock("swap"):
            if self._asleep:
                await self._endpoint.wake()  # type: ignore[attr-defined]  # it could sleep
                self._asleep = False
            if adapter != self.adapter:
                await self._endpoint.load_adapter(self.adapter)
        self._serves = (model, self.adapter)
        if hasattr(self._endpoint, "logprobs"):
            self._endpoint.logprobs = logprobs
        return self._endpoint

    async def sleep(self) -> None:
        """Let a training have the memory of the device."""
        if self._endpoint is not None and not self._asleep and hasattr(self._endpoint, "sleep"):
            with self.clock("swap"):
                await self._endpoint.sleep()
            self._asleep = True

    async def close(self) -> None:
        self._endpoint, self._asleep = None, False
        await self._stack.aclose()


def is_adapter(checkpoint: Path) -> bool:
    """Whether a checkpoint goes on top of a model; else it is a whole one."""
    return (checkpoint / "adapter_config.json").is_file() or not (checkpoint / "config.json").is_file()


@asynccontextmanager
async def open_backend(bound: Bound, model: str, **more: Any) -> AsyncIterator[Endpoint]:
    """A backend's endpoint, started for this model."""
    async with entered(bound, bound.function(model, **{**bound.settings, **more})) as endpoint:
        yield endpoint
