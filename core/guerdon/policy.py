"""The policy: the model as an agent sees it, and the endpoint behind it.

A backend yields an `Endpoint`. Each rollout gets a `Policy` of its own, which records every call between the agent and
the endpoint; agents do nothing for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from guerdon.task import Message, Task


class Endpoint(Protocol):
    """What a backend yields: something that answers chat completions.

    `model` is the name to send in requests. `complete` takes the body of an OpenAI chat completion request and
    returns the body of its response; where the server gives them, `prompt_token_ids` and each choice's `token_ids`
    and `logprobs` are in it, shaped as vLLM does. It raises `BackendError` and does its own retries. `task` is whose
    rollout asks; servers ignore it. `load_adapter` makes later requests be answered with this LoRA adapter, `None`
    with the base.

    A body with `prompt` (a text, or token ids) in place of `messages` asks for a text completion; an endpoint that
    knows none raises BackendError.

    An endpoint may also have

    - `stream(body, task)`, an async generator of the response's chunks as OpenAI streams them; token ids and logprobs
      are in the chunks as vLLM has them. An endpoint without it is answered for in one chunk;
    - `batches(body, task)`, the same in lists of those chunks that came together, which costs less of each;
    - `raw(body, task)`, an async generator of the response's bytes as they come (server-sent events where the body has
      `stream`), so that a gateway which only hands them to a worker need not read them;
    - `logprobs`, an attribute: whether it asks its server for them. It is set, by whether something will learn from
      them: they are half of what a server does for a short reply;
    - `async sleep()` and `async wake()`, which give a GPU's memory back while something else needs it.
    """

    model: str

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]: ...

    async def load_adapter(self, path: Path | None) -> None: ...


class Policy(Protocol):
    """What an agent is given to think with; opens only its own rollout's record.

    Frameworks that speak HTTP take `base_url`, `api_key` and `model` (an OpenAI-compatible endpoint on loopback).
    Others call `complete`, which is the same without the network. `sampling` is what the recipe set; it is applied to
    every call, over what the agent asked for.
    """

    @property
    def base_url(self) -> str: ...

    @property
    def api_key(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def sampling(self) -> Mapping[str, Any]: ...

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[dict[str, Any]] = (), **params: Any
    ) -> dict[str, Any]:
        """One chat completion; returns the response's body (`["choices"][0]["message"]` is the reply)."""
        ...
