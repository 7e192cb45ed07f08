"""A small OpenAI-compatible server over a transformers model in its own process: `python -m guerdon_backends.server`.

Speaks what guerdon needs of vLLM's protocol: chat completions with tools, token ids, logprobs, text completions, and
LoRA adapters that are loaded while it runs. What it does not know and would change the answer is a 400, never ignored.
"""

import argparse
import asyncio
import copy
import functools
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from guerdon_backends.chat import Prompts, clean, parse_reply
from guerdon_backends.child import end_with_parent
from guerdon_backends.generation import Engine, Job, Reply
from guerdon_backends.lora import Adapter, read_adapter
from guerdon_backends.speech import END, chatml
from guerdon_backends.streaming import Told, event, growing, sayable

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "structured_outputs": (),
    "functions": (),
}
"""Fields that this server does not know, with the values that change nothing."""

TEMPLATES = 4
"""Chat templates of requests that are kept, with the replies remembered for each."""

Say = Callable[[Reply, str, slice], dict[str, Any]]
"""A choice's text and some of its tokens, as an endpoint puts them."""


class RequestError(Exception):
    """Becomes an error response in OpenAI's shape."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """The HTTP side of an engine."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        self._prompts = {"": Prompts(engine.tokenizer)}
        self.adapters: dict[str, Adapter] = {}
        self.thread = threading.Thread(target=engine.run, name="generation", daemon=True)
        self.thread.start()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.text, methods=["POST"]),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
            ],
            exception_handlers={RequestError: error_response},
        )

    async def health(self, _: Request) -> Response:
        return Response(status_code=200 if self.thread.is_alive() else 503)

    async def models(self, _: Request) -> Response:
        parents = {self.name: None} | dict.fromkeys(self.adapters, self.name)
        data = [
            {
                "id": name,
                "object": "model",
                "owned_by": "guerdon",
                "parent": parent,
                "max_model_len": self.engine.context,
            }
            for name, parent in parents.items()
        ]
        return JSONResponse({"object": "list", "data": data})

    async def load(self, request: Request) -> Response:
        body = await json_body(request)
        name, path = body.get("lora_name"), body.get("lora_path")
        if not isinstance(name, str) or not isinstance(path, str) or not name or not path:
            raise RequestError("both `lora_name` and `lora_path` must be given")
        if name in self.adapters or name == self.name:
            raise RequestError(f"the name {name!r} is loaded already; give each version a name of its own")
        try:
            adapter = await asyncio.to_thread(read_adapter, name, Path(path))
            self.engine.adapters.check(adapter)
        except FileNotFoundError as error:
            raise RequestError(f"no adapter at {path}: {error}", 404) from None
        except Exception as error:  # truncated JSON, truncated safetensors, another model's adapter
            raise RequestError(f"the adapter {path} cannot be loaded: {error}") from None
        self.adapters[name] = adapter
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await json_body(request)).get("lora_name")
        if not isinstance(name, str) or not name:
            raise RequestError("`lora_name` must be given")
        if name not in self.adapters:
            raise RequestError(f"no adapter {name!r} is loaded", 404)
        del self.adapters[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def chat(self, request: Request) -> Response:
        body = await json_body(request)
        options = body.get("chat_template_kwargs") or {}
        if not isinstance(options, dict):
            raise RequestError("`chat_template_kwargs` must be an object")
        try:
            messages = clean(body.get("messages"))
            tools = body.get("tools") or []
            prompt = await asyncio.to_thread(self.prompts(body).encode, messages, tools, options)
        except (ValueError, TypeError) as error:
            raise RequestError(str(error)) from None
        if body.get("stream"):
            chunks = self._chunks(body, messages, self._job(body, prompt))
            return StreamingResponse(chunks, media_type="text/event-stream")
        replies = await self._replies(request, self._job(body, prompt))
        return JSONResponse(self._completion(body, messages, prompt, replies)) if replies else Response(status_code=499)

    def prompts(self, body: dict[str, Any]) -> Prompts:
        """By the template that the request brings, else the model's own."""
        asked = body.get("chat_template") or ""
        if not isinstance(asked, str):
            raise RequestError("`chat_template` must be a text")
        if asked not in self._prompts:
            tokenizer = copy.copy(self.engine.tokenizer)
            tokenizer.chat_template = asked
            self._prompts = dict([*self._prompts.items()][:TEMPLATES]) | {asked: Prompts(tokenizer)}
        return self._prompts[asked]

    async def text(self, request: Request) -> Response:
        """A text completion."""
        body = await json_body(request)
        prompt = body.get("prompt")
        if isinstance(prompt, str):
            prompt = (await asyncio.to_thread(self.engine.tokenizer, prompt))["input_ids"]
        known = range(len(self.engine.tokenizer))
        if not isinstance(prompt, list) or not prompt or not all(type(t) is int and t in known for t in prompt):
            raise RequestError("`prompt` must be a text, or a list of this model's token ids")
        for name, neutral in (("echo", False), ("best_of", 1), ("suffix", ""), ("logprobs", 0)):
            if body.get(name) not in (None, neutral):
                raise RequestError(f"this server's `{name}` is {neutral!r} ({body[name]!r} was asked for)")
        job, head = self._job({**body, "tools": None}, prompt), self._head(body, "text_completion")
        say = functools.partial(self._text_choice, body)
        if body.get("stream"):
            return StreamingResponse(self._stream(body, job, head, [], say, False), media_type="text/event-stream")
        replies = await self._replies(request, job)
        if not replies:
            return Response(status_code=499)
        choices = [say(reply, reply.text, slice(0, None)) for reply in replies]
        return JSONResponse({**head, "choices": choices, "usage": usage(prompt, replies)})

    async def _replies(self, request: Request, job: Job) -> list[Reply]:
        """Run a job; nothing when the client has gone."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Reply]] = loop.create_future()
        job.done = lambda result: call_soon(loop, answer, result)
        self.engine.submit(job)
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=1.0)
                if await request.is_disconnected():
                    return []
            return answer.result()
        except RuntimeError as error:
            raise RequestError(f"generation failed: {error}", 500) from None
        finally:
            job.cancelled = not answer.done()

    async def _stream(
        self, body: dict[str, Any], job: Job, head: dict[str, Any], first: list[dict[str, Any]], say: Say, whole: bool
    ) -> AsyncIterator[str]:
        """The events of a stream: the `first`, and then choices, as `say` makes them of what is new of a reply. A
        reply that may call tools comes `whole`, at its end."""
        told = [Told() for _ in range(job.n)]
        finished: list[Reply] = []
        for choice in first:
            yield event({**head, **choice})
        try:
            async with aclosing(growing(self.engine, job)) as replies:
                async for reply in replies:
                    if new := self._new(reply, told[reply.index], whole):
                        finished += [reply] if reply.finish else []
                        yield event({**head, "choices": [say(reply, *new)]})
        except RuntimeError as error:
            yield event({"error": {"message": f"generation failed: {error}", "type": "InternalServerError"}})
        else:
            if (body.get("stream_options") or {}).get("include_usage"):
                yield event({**head, "choices": [], "usage": usage(job.prompt, finished)})
            yield "data: [DONE]\n\n"

    def _new(self, reply: Reply, told: Told, whole: bool) -> tuple[str, slice] | None:
        """What there is to say of a reply since it was `told`: its text, and which of its tokens."""
        finish, count = bool(reply.finish), len(reply.logprobs)
        if told.finished or (not finish and (whole or count == told.tokens)):
            return None
        text = reply.text if finish else sayable(self.engine.decode(reply.ids[:count]), reply.job.stop)
        if not finish and (len(text) <= len(told.text) or not text.startswith(told.text)):
            return None
        new = text[len(told.text) :], slice(told.tokens, count)
        told.text, told.tokens, told.finished = text, count, finish
        return new

    def _chunks(self, body: dict[str, Any], messages: list[dict[str, Any]], job: Job) -> AsyncIterator[str]:
        """A chat completion as a stream."""
        ids, logprobs, tools = bool(body.get("return_token_ids")), bool(body.get("logprobs")), self._tools(body)
        first = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        prompt = {"prompt_token_ids": job.prompt} if ids else {}
        begin = [{"choices": [{"index": i, **first}], **prompt} for i in range(job.n)]

        def say(reply: Reply, text: str, part: slice) -> dict[str, Any]:
            choice: dict[str, Any] = {"index": reply.index, "delta": {"content": text}, "finish_reason": None}
            if reply.finish:
                choice = self._choice(reply.index, reply, body, messages, False, False)
                message = choice.pop("message")
                choice["delta"] = {"content": (message["content"] or "") if tools else text}
                if calls := message.get("tool_calls"):
                    choice["delta"]["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
            return choice | self._tokens(reply, part, logprobs, ids)

        return self._stream(body, job, self._head(body, "chat.completion.chunk"), begin, say, tools)

    def _tools(self, body: dict[str, Any]) -> bool:
        return bool(body.get("tools")) and body.get("tool_choice") != "none"

    def _job(self, body: dict[str, Any], prompt: list[int]) -> Job:
        for name, neutral in NEUTRAL.items():
            if (value := body.get(name)) is not None and value not in neutral:
                raise RequestError(f"this server does not know `{name}` ({value!r} was asked for)")
        if body.get("tool_choice") not in (None, "auto", "none"):
            raise RequestError("this server's `tool_choice` is 'auto' or 'none'")
        model = body.get("model") or self.name
        if model != self.name and model not in self.adapters:
            known = ", ".join([self.name, *self.adapters])
            raise RequestError(f"the model {model!r} does not exist; there are: {known}", 404)
        if len(prompt) >= self.engine.context:
            raise RequestError(
                f"the prompt has {len(prompt)} tokens, and this model's context is {self.engine.context} with the reply"
            )
        stop = body.get("stop") or []
        stop = [stop] if isinstance(stop, str) else stop
        if not isinstance(stop, list) or not all(isinstance(s, str) and s for s in stop):
            raise RequestError("`stop` must be a text or a list of texts")
        ends = body.get("stop_token_ids") or []
        if not isinstance(ends, list) or not all(type(token) is int for token in ends):
            raise RequestError("`stop_token_ids` must be a list of token ids")
        longest = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
        return Job(
            prompt,
            done=lambda _: None,
            n=whole(body, "n", 1, 1, 1024),
            max_tokens=whole(body, longest, self.engine.context, 1, 1 << 30),
            temperature=number(body, "temperature", 1.0, 0.0, 100.0),
            top_p=number(body, "top_p", 1.0, 1e-9, 1.0),
            top_k=max(0, whole(body, "top_k", 0, -1, 1 << 30)),
            seed=whole(body, "seed", 0, -(1 << 63), 1 << 64) if body.get("seed") is not None else None,
            stop=tuple(stop),
            ends=frozenset(ends),
            adapter=self.adapters.get(model),
        )

    def _completion(
        self, body: dict[str, Any], messages: list[dict[str, Any]], prompt: list[int], replies: list[Reply]
    ) -> dict[str, Any]:
        ids, logprobs = bool(body.get("return_token_ids")), bool(body.get("logprobs"))
        result = {
            **self._head(body, "chat.completion"),
            "choices": [self._choice(i, r, body, messages, logprobs, ids) for i, r in enumerate(replies)],
            "usage": usage(prompt, replies),
        }
        return result | ({"prompt_token_ids": prompt} if ids else {})

    def _head(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": body.get("model") or self.name,
        }

    def _choice(
        self, index: int, reply: Reply, body: dict[str, Any], messages: list[dict[str, Any]], logprobs: bool, ids: bool
    ) -> dict[str, Any]:
        message = parse_reply(reply.text) if self._tools(body) else {"role": "assistant", "content": reply.text}
        if calls := message.get("tool_calls"):
            message["tool_calls"] = calls[:1] if body.get("parallel_tool_calls") is False else calls
        ended = self.engine.ended(reply)
        if ended or reply.finish == "length":  # else a stop string: the client has less than was sampled
            self.prompts(body).remember(messages, clean([message])[0], reply.ids[:-1] if ended else reply.ids)
        choice: dict[str, Any] = {
            "index": index,
            "message": message,
            "finish_reason": "tool_calls" if calls and reply.finish == "stop" else reply.finish,
        }
        return choice | self._tokens(reply, slice(None), logprobs, ids)

    def _text_choice(self, body: dict[str, Any], reply: Reply, text: str, part: slice) -> dict[str, Any]:
        finish = reply.finish or None
        choice: dict[str, Any] = {"index": reply.index, "text": text, "finish_reason": finish, "logprobs": None}
        if body.get("logprobs") is not None:
            tokens = [self.engine.tokenizer.decode([token]) for token in reply.ids[part]]
            choice["logprobs"] = {"tokens": tokens, "token_logprobs": reply.logprobs[part]}
        if body.get("return_token_ids"):
            choice |= {"token_ids": reply.ids[part]} | ({} if part.start else {"prompt_token_ids": reply.job.prompt})
        return choice

    def _tokens(self, reply: Reply, part: slice, logprobs: bool, ids: bool) -> dict[str, Any]:
        """A choice's fields about a part of its tokens."""
        result: dict[str, Any] = {"logprobs": None}
        if logprobs:
            tokens = [self.engine.tokenizer.decode([token]) for token in reply.ids[part]]
            pairs = zip(tokens, reply.logprobs[part], strict=True)
            result["logprobs"] = {"content": [{"token": t, "logprob": p, "top_logprobs": []} for t, p in pairs]}
        return result | ({"token_ids": reply.ids[part]} if ids else {})


def usage(prompt: list[int], replies: list[Reply]) -> dict[str, int]:
    sampled = sum(len(r.ids) for r in replies)
    return {"prompt_tokens": len(prompt), "completion_tokens": sampled, "total_tokens": len(prompt) + sampled}


async def error_response(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RequestError) else 500
    kind = "BadRequestError" if status == 400 else "NotFoundError" if status == 404 else "InternalServerError"
    return JSONResponse({"error": {"message": str(error), "type": kind, "param": None, "code": status}}, status)


async def json_body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    return body


def number(body: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"`{name}` must be a number from {low:g} to {high:g}, not {value!r}")
    return value


def whole(body: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = number(body, name, default, low, high)
    if value != int(value):
        raise RequestError(f"`{name}` must be a whole number, not {value!r}")
    return int(value)


def call_soon(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[list[Reply]]", result: Any) -> None:
    """Settle a future from the engine's thread."""

    def settle() -> None:
        if future.done():  # the client is gone
            return
        if isinstance(result, Exception):
            future.set_exception(RuntimeError(f"{type(result).__name__}: {result}"))
        else:
            future.set_result(result)

    loop.call_soon_threadsafe(settle)


def default_threads() -> int:
    """OMP_NUM_THREADS, else one for each core. They sleep while they wait (`embedded` sets OMP_WAIT_POLICY): threads
    that spin make a shared machine ten times slower."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked.isdigit() and int(asked) else cores


def load_engine(model: str, dtype: str, device: str, max_batch: int, threads: int) -> Engine:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads or default_threads())
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    if not tokenizer.chat_template:
        tokenizer.chat_template = chatml(END if END in tokenizer.get_vocab() else tokenizer.eos_token or END)
    weights = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )
    return Engine(weights.to(device), tokenizer, max_batch)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a transformers model over the OpenAI protocol.")
    parser.add_argument("--model", required=True, help="folder or hub id")
    parser.add_argument("--name", default="", help="the model's name in requests (default: the folder's)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed first")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-batch", type=int, default=32, help="sequences at once")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: OMP_NUM_THREADS, else the cores)")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin closes")
    args = parser.parse_args()
    if args.exit_with_parent:
        end_with_parent(lambda: os._exit(0))
    listener = socket.create_server((args.host, args.port), backlog=1024)
    if not args.port:
        print(f"http://{args.host}:{listener.getsockname()[1]}", flush=True)

    import uvicorn

    engine = load_engine(args.model, args.dtype, args.device, args.max_batch, args.threads)
    app = Server(args.name or Path(args.model).name, engine).app()
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
