"""The recorder: the policy of one rollout, between the agent and the endpoint.

It applies the recipe's sampling, hands the request on, and keeps what was asked and what came back: messages, tool
calls, and the token ids and logprobs that the server sampled.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.errors import BackendError
from guerdon.policy import Endpoint
from guerdon.task import Message, Task
from guerdon.trajectory import Turn


class Recorder:
    """Implements `guerdon.policy.Policy` for one rollout. `base_url` and `api_key` are the gateway's."""

    def __init__(
        self, endpoint: Endpoint, task: Task, sampling: Mapping[str, Any], *, base_url: str = "", api_key: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.sampling = sampling
        self.base_url = base_url
        self.api_key = api_key
        self.turns: list[Turn] = []
        self.tools: list[dict[str, Any]] = []
        self.error: BackendError | None = None
        """Why the last call failed; agents tend to wrap it."""
        self.closed = False
        self._task = task
        self._conversation: list[Message] = []

    @property
    def model(self) -> str:
        return self.endpoint.model

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[dict[str, Any]] = (), **params: Any
    ) -> dict[str, Any]:
        """One chat completion, recorded. The recipe's sampling wins over what the agent asked for.

        Raises:
            BackendError: the endpoint failed, or the rollout is over.
        """
        if self.closed:
            raise BackendError("this rollout is over: its policy answers no more", kind="closed")
        asked = [_plain(m) for m in messages]
        if "max_tokens" in self.sampling:
            params.pop("max_completion_tokens", None)
        body = {**params, **self.sampling, "model": self.endpoint.model, "messages": asked}
        if tools:
            body["tools"] = list(tools)
        started = time.perf_counter()
        try:
            response = await self.endpoint.complete(body, self._task)
            self._record(asked, tools, response, time.perf_counter() - started)
        except BackendError as error:
            self.error = error
            raise
        self.error = None
        return response

    def _record(
        self, asked: list[Message], tools: Sequence[dict[str, Any]], response: Mapping[str, Any], seconds: float
    ) -> None:
        try:
            choice = response["choices"][0]
            reply = _plain({k: v for k, v in choice["message"].items() if v not in (None, [])} | {"role": "assistant"})
            usage = response.get("usage") or {}
            logprobs = (choice.get("logprobs") or {}).get("content") or ()
            keep = _common(self._conversation, asked)
            turn = Turn(
                keep=keep,
                prompt=tuple(asked[keep:]),
                reply=reply,
                finish_reason=choice.get("finish_reason") or "",
                prompt_ids=tuple(response.get("prompt_token_ids") or ()),
                reply_ids=tuple(choice.get("token_ids") or ()),
                logprobs=tuple(t["logprob"] for t in logprobs),
                prompt_tokens=usage.get("prompt_tokens") or 0,
                reply_tokens=usage.get("completion_tokens") or 0,
                seconds=seconds,
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise BackendError(f"the server's reply is no chat completion ({said})", kind="broken_reply") from None
        self.turns.append(turn)
        self._conversation = [*asked, reply]
        for tool in tools:
            if tool not in self.tools:
                self.tools.append(dict(tool))


def _plain(message: Message) -> Message:
    """A message with its content as text: the agents SDK sends lists of text parts."""
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        return {**message, "content": "".join(str(p.get("text", "")) for p in content)}
    return dict(message)


def _called(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    return (function.get("name"), function.get("arguments")) if isinstance(function, Mapping) else call


def _common(before: Sequence[Message], now: Sequence[Message]) -> int:
    """How many messages at the start are the same."""
    count = 0
    for a, b in zip(before, now, strict=False):
        if _essence(a) != _essence(b):
            break
        count += 1
    return count


def _essence(message: Message) -> tuple[Any, ...]:
    """What of a message counts; frameworks add and drop empty fields when they send a reply back."""
    calls = [_called(call) for call in message.get("tool_calls") or ()]
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = json.dumps(content, sort_keys=True)
    return (message.get("role"), content, calls, message.get("tool_call_id"))
