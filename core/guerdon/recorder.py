"""The recorder: the policy of one rollout, between the agent and the endpoint.

It applies the recipe's sampling, hands the request on, and keeps what was asked and what came back: messages, tool
calls, and the token ids and logprobs that the server sampled.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from guerdon.errors import BackendError
from guerdon.policy import Endpoint
from guerdon.stopping import Stoppable
from guerdon.streams import as_chunk, assembled
from guerdon.task import Message, Task
from guerdon.trajectory import Turn

T = TypeVar("T")


class Recorder:
    """Implements `guerdon.policy.Policy` for one rollout. `base_url` and `api_key` are the gateway's.

    `model` is the name that agents see and send, whatever the model behind it is called; default, the endpoint's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        task: Task,
        sampling: Mapping[str, Any],
        *,
        base_url: str = "",
        api_key: str = "",
        model: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.sampling = sampling
        self.base_url = base_url
        self.api_key = api_key
        self.turns: list[Turn] = []
        self.tools: list[dict[str, Any]] = []
        self.error: BackendError | None = None
        """Why the last call failed; agents tend to wrap it, or go on without."""
        self.closed = False
        self._model = model
        self._task = task
        self._conversation: list[Message] = []
        self._calls: set[Stoppable] = set()

    @property
    def model(self) -> str:
        return self._model or self.endpoint.model

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[dict[str, Any]] = (), **params: Any
    ) -> dict[str, Any]:
        """One chat completion, recorded. The recipe's sampling goes before the agent's, but for fewer `max_tokens`.

        Raises:
            BackendError: the endpoint failed, or the rollout is over.
        """
        return await self.ask({**params, "messages": list(messages), "tools": tools})

    async def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The response to a request's body in OpenAI's shape: `messages`, or `prompt` for a text completion."""
        started, before = time.perf_counter(), self.error
        try:
            asked, request = self._request(body)
            response = await self._while_open(self.endpoint.complete(request, self._task))
            self._record(asked, request, response, time.perf_counter() - started)
        except BackendError as error:
            self.error = error
            raise
        self._succeeded(before)
        return {**response, "model": self.model}

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[list[dict[str, Any]], None]:
        """The response's chunks, as many as come together; recorded like a whole one, as far as the agent has read it.

        An endpoint that does not stream answers with one chunk.
        """
        ask = getattr(self.endpoint, "batches", None)
        if ask is None and (single := getattr(self.endpoint, "stream", None)):
            ask = lambda request, task: _one_by_one(single(request, task))  # noqa: E731
        if ask is None:
            yield [as_chunk(await self.ask(body))]
            return
        started, heard, before = time.perf_counter(), list[dict[str, Any]](), self.error
        try:
            asked, request = self._request(body)
            request |= {"stream": True, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
            try:
                async with aclosing(ask(request, self._task)) as coming:
                    while chunks := await self._while_open(anext(coming, None)):
                        heard += chunks
                        yield [{**chunk, "model": self.model} for chunk in chunks]
            except (GeneratorExit, asyncio.CancelledError):  # the agent has heard enough
                with suppress(BackendError):
                    self._record_stream(asked, request, heard, started, said=True)
                raise
            self._record_stream(asked, request, heard, started)
        except BackendError as error:
            self.error = error
            raise
        self._succeeded(before)

    def _succeeded(self, before: BackendError | None) -> None:
        if self.error is before:  # one that failed meanwhile may be the agent's end
            self.error = None

    def close(self) -> None:
        """The rollout is over: nothing more is answered, and what is being asked ends."""
        self.closed = True
        for call in self._calls:
            call.stop(_over())

    async def _while_open(self, answer: Awaitable[T]) -> T:
        with Stoppable() as call:
            self._calls.add(call)
            try:
                return await answer
            finally:
                self._calls.discard(call)

    def _request(self, body: Mapping[str, Any]) -> tuple[list[Message], dict[str, Any]]:
        """What is asked, as messages, and the body to send.

        Raises:
            BackendError: it cannot be recorded, or the rollout is over.
        """
        if self.closed:
            raise _over()
        request = {**body, **self.sampling, "model": self.endpoint.model}
        for name in ("stream", "stream_options"):
            request.pop(name, None)
        if "max_tokens" in self.sampling:
            own = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
            request["max_tokens"] = min([self.sampling["max_tokens"], *(n for n in own if type(n) is int and n > 0)])
            request.pop("max_completion_tokens", None)
        for name, neutral in (("n", 1), ("best_of", 1), ("echo", False)):
            if request.get(name, neutral) not in (None, neutral):
                raise _wrong(f"`{name}` must be {json.dumps(neutral)}: one reply is recorded for each request")
        if "prompt" in request:
            return [_as_message(request["prompt"])], request
        messages, tools = request.get("messages"), request.pop("tools", None) or ()
        for name, value in (("messages", messages), ("tools", tools)):
            if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
                raise _wrong(f"`{name}` is missing or no list of objects")
        request["messages"] = asked = [_plain(message) for message in messages or ()]
        return asked, {**request, "tools": list(tools)} if tools else request

    def _record_stream(
        self,
        asked: list[Message],
        request: Mapping[str, Any],
        chunks: list[dict[str, Any]],
        started: float,
        said: bool = False,
    ) -> None:
        """Record what was streamed; `said`: only if that is anything."""
        try:
            response = assembled(chunks)
        except UNREADABLE as error:
            raise _broken(error) from None
        first = (response["choices"] or [{}])[0]
        message = first.get("message") or {}
        if not said or first.get("text") or message.get("content") or message.get("tool_calls"):
            self._record(asked, request, response, time.perf_counter() - started)

    def _record(
        self, asked: list[Message], request: Mapping[str, Any], response: Mapping[str, Any], seconds: float
    ) -> None:
        try:
            choice = response["choices"][0]
            said = {"content": choice["text"]} if "prompt" in request else choice["message"]
            reply = _plain({k: v for k, v in said.items() if v not in (None, [])} | {"role": "assistant"})
            usage = response.get("usage") or {}
            prompt_ids = response.get("prompt_token_ids") or choice.get("prompt_token_ids") or ()
            reply_ids = choice.get("token_ids") or ()
            keep = _common(self._conversation, asked)
            turn = Turn(
                keep=keep,
                prompt=tuple(asked[keep:]),
                reply=reply,
                finish_reason=choice.get("finish_reason") or "",
                prompt_ids=tuple(prompt_ids),
                reply_ids=tuple(reply_ids),
                logprobs=_logprobs(choice.get("logprobs") or {}),
                prompt_tokens=usage.get("prompt_tokens") or len(prompt_ids),
                reply_tokens=usage.get("completion_tokens") or len(reply_ids),
                seconds=seconds,
            )
        except UNREADABLE as error:
            raise _broken(error) from None
        self.turns.append(turn)
        self._conversation = [*asked, reply]
        for tool in request.get("tools", ()):
            if tool not in self.tools:
                self.tools.append(dict(tool))


async def _one_by_one(chunks: AsyncGenerator[T, None]) -> AsyncGenerator[list[T], None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield [chunk]


UNREADABLE = (KeyError, IndexError, TypeError, AttributeError)
"""What a reply that is none raises when it is read."""


def _broken(error: Exception) -> BackendError:
    said = f"{type(error).__name__}: {error}"
    return BackendError(f"the server's reply is no chat completion ({said})", kind="broken_reply")


def _over() -> BackendError:
    return BackendError("this rollout is over: its policy answers no more", kind="closed")


def _wrong(message: str) -> BackendError:
    return BackendError(message, kind="http_400")


def _as_message(prompt: Any) -> Message:
    """A text completion's prompt as a user's message: the text, or the token ids as JSON."""
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return {"role": "user", "content": json.dumps(prompt)}
    if not isinstance(prompt, str):
        raise _wrong("`prompt` must be one text, or one list of token ids")
    return {"role": "user", "content": prompt}


def _logprobs(given: Mapping[str, Any]) -> tuple[float, ...]:
    """Of a chat completion, or of a text completion."""
    if (content := given.get("content")) is not None:
        return tuple(token["logprob"] for token in content)
    return tuple(given.get("token_logprobs") or ())


def _plain(message: Message) -> Message:
    """A message with its content as text: the agents SDK sends lists of text parts.

    vLLM leaves the line break before a tool call in the content, and chat templates write their own: the model would
    be shown two where it wrote one, and the turns would not extend each other.
    """
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        content = "".join(str(p.get("text", "")) for p in content)
    if isinstance(content, str) and message.get("tool_calls") and message.get("role") == "assistant":
        content = content.removesuffix("\n")
    return dict(message) if content is message.get("content") else {**message, "content": content}


def _common(before: Sequence[Message], now: Sequence[Message]) -> int:
    """How many messages at the start are the same."""
    count = 0
    for a, b in zip(before, now, strict=False):
        if a != b and _essence(a) != _essence(b):
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


def _called(call: Any) -> Any:
    """Name and arguments; some frameworks write the arguments' JSON anew."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return call
    arguments = function.get("arguments")
    with suppress(ValueError, TypeError, RecursionError):
        arguments = json.loads(arguments)  # type: ignore[arg-type]
    return function.get("name"), arguments
