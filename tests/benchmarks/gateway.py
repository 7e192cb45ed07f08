"""What recording costs: `python tests/benchmarks/gateway.py [--calls N] [--tokens N] [--rounds N]`.

CPU time for each model call of the client and of the gateway, in one run: without a gateway, with it (recorded, with
token ids and logprobs; streamed in few chunks and in one for each token), with a worker's token, and in process. Model
server (a mock that answers at once), gateway and client are processes of their own.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import aiohttp
from table import table

from guerdon import event_loop
from guerdon.fastjson import encoded, loads
from guerdon.gateway import serve_gateway
from guerdon.http_endpoint import HttpEndpoint
from guerdon.recorder import Recorder
from guerdon.rollout_worker import rarely_collecting
from guerdon.task import Task
from guerdon.wire import event

PROMPT_TOKENS = 300
TASK = Task("1", "What is 17 * 23?", "391")
CALL = {"id": "1", "type": "function", "function": {"name": "calculate", "arguments": '{"expression": "17*23"}'}}
MESSAGES = [
    {"role": "system", "content": "You solve problems with the tool `calculate`. " * 10},
    {"role": "user", "content": TASK.prompt},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "391"},
]  # fmt: skip
WAYS = ("whole", "streamed, 4 chunks", "streamed, a token a chunk")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- the model server -------------------------------------------------------------------------------------------------


def replies(tokens: int) -> dict[str, bytes]:
    """What the mock says in each way, with token ids and logprobs as vLLM gives them."""
    words = ["word "] * tokens
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
    head = {"id": "chatcmpl-1", "created": 1, "model": "mock"}
    ids = [(11 + i * 7919) % 49152 for i in range(tokens)]
    content = [
        {"token": w, "logprob": -0.0123456789 * i, "bytes": [97], "top_logprobs": []} for i, w in enumerate(words)
    ]

    def choice(part: slice, name: str, finish: str | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(words[part])}
        logprobs = {"content": content[part]}
        return {"index": 0, name: message, "logprobs": logprobs, "finish_reason": finish, "token_ids": ids[part]}

    whole = {**head, "object": "chat.completion", "choices": [choice(slice(None), "message", "stop")], "usage": usage,
             "prompt_token_ids": list(range(PROMPT_TOKENS))}  # fmt: skip
    found = {"whole": encoded(whole)}
    for way, size in ((WAYS[1], -(-tokens // 4)), (WAYS[2], 1)):
        starts = range(0, tokens, size)
        chunks: list[dict[str, Any]] = [
            {**head, "object": "chat.completion.chunk",
             "choices": [choice(slice(i, i + size), "delta", "stop" if i == starts[-1] else None)]} for i in starts
        ]  # fmt: skip
        chunks[0]["prompt_token_ids"] = list(range(PROMPT_TOKENS))
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        found[way] = b"\0".join([*map(event, chunks), b"data: [DONE]\n\n"])
    return found


def mock(tokens: int) -> Any:
    said = replies(tokens)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        data, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            data, more = data + message["body"], message["more_body"]
        body = loads(data or b"{}")
        reply = said[body.get("user", "whole")]
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        pieces = reply.split(b"\0")
        size = [(b"content-length", b"%d" % len(reply))] * (len(pieces) == 1)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), *size]})
        for i, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": i < len(pieces) - 1})
            if len(pieces) > 6:  # one decoding step for all, then the next
                await asyncio.sleep(0)

    return app


def run_mock(tokens: int) -> None:
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(
        mock(tokens), http="httptools", lifespan="off", log_level="error", access_log=False, timeout_keep_alive=75
    )
    uvicorn.Server(config).run(sockets=[listener])


# -- the gateway ------------------------------------------------------------------------------------------------------


async def run_gateway(upstream: str) -> None:
    """Prints its URL, a rollout's key and the workers' token; answers /cpu/ with its CPU seconds."""

    async def spent(scope: Any, receive: Any, send: Any) -> None:
        recorder.turns.clear()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": encoded(cpu())})

    endpoint = HttpEndpoint(upstream, "mock", "key", timeout=60, retries=0, token_ids=True)
    async with serve_gateway(more={"/cpu": spent}) as gateway:
        gateway.serve(endpoint)
        with gateway.recorder(endpoint, TASK, {"temperature": 1.0}, "policy") as recorder:
            print(gateway.base_url, recorder.api_key, gateway.token, flush=True)
            await asyncio.to_thread(sys.stdin.read)
    await endpoint.aclose()


@contextlib.contextmanager
def child(*args: object) -> Iterator[list[str]]:
    """This script in another role; what it prints first."""
    command = [sys.executable, __file__, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        try:
            yield process.stdout.readline().split()
        finally:
            process.stdin.close()
            process.terminate()


# -- the client -------------------------------------------------------------------------------------------------------


async def load(url: str, key: str, way: str, calls: int, at_once: int, extra: dict[str, Any]) -> float:
    """Make the calls; this process's CPU seconds."""
    body = encoded(
        {"model": "m", "messages": MESSAGES, "temperature": 0.5, "stream": way != "whole", "user": way, **extra}
    )
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            async with session.post(url + "/chat/completions", data=body, headers=headers) as reply:
                data = await reply.read()
                assert reply.status == 200 and (b"[DONE]" in data or way == "whole"), data[:300]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started = cpu()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        return cpu() - started


async def spent_by(gateway: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(gateway.removesuffix("/v1") + "/cpu/") as reply:
        return float(await reply.read())


async def in_process(upstream: str, calls: int, at_once: int, recorded: bool) -> float:
    endpoint = HttpEndpoint(upstream, "mock", "key", timeout=60, retries=0, token_ids=True)
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if recorded:
                await Recorder(endpoint, TASK, {"temperature": 1.0}).complete(MESSAGES)
            else:
                await endpoint.complete({"messages": MESSAGES, "temperature": 1.0}, TASK)

    started = cpu()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    used = cpu() - started
    await endpoint.aclose()
    return used


class Instant:
    """An endpoint that has its reply already."""

    model = "mock"

    def __init__(self, tokens: int) -> None:
        self.reply = loads(replies(tokens)["whole"])

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        return dict(self.reply)


async def recording(tokens: int, calls: int) -> float:
    """CPU seconds of recording alone."""
    endpoint = Instant(tokens)
    started = cpu()
    for _ in range(calls):
        await Recorder(endpoint, TASK, {"temperature": 1.0}).complete(MESSAGES)  # type: ignore[arg-type]
    return cpu() - started


def measured(rounds: int, calls: int, once: Callable[[], tuple[float, ...]]) -> list[str]:
    """Medians, in ms a call."""
    found = list(zip(*(once() for _ in range(rounds)), strict=True))
    return [f"{1000 * statistics.median(column) / calls:.3f}" for column in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=72, help="of each reply")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--role", choices=["mock", "gateway"], help=argparse.SUPPRESS)
    parser.add_argument("--upstream", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "mock":
        return run_mock(args.tokens)
    if args.role == "gateway":
        with rarely_collecting():  # as the engine and its workers do
            return event_loop.run(run_gateway(args.upstream))
    calls, at_once, rounds = args.calls, args.at_once, args.rounds
    ids = {"return_token_ids": True, "logprobs": True}
    lines: list[list[object]] = []
    with (
        child("--role", "mock", "--tokens", args.tokens) as (upstream,),
        child("--role", "gateway", "--upstream", upstream) as (url, key, token),
    ):

        def through(key: str, way: str, extra: dict[str, Any]) -> tuple[float, ...]:
            before = asyncio.run(spent_by(url))
            client = asyncio.run(load(url, key, way, calls, at_once, extra))
            return client, asyncio.run(spent_by(url)) - before

        def direct(way: str) -> tuple[float, ...]:
            return (asyncio.run(load(upstream, "key", way, calls, at_once, ids)),)

        for way in WAYS:
            through(key, way, {})  # warm
            lines.append([f"no gateway, {way}", *measured(rounds, calls, lambda w=way: direct(w)), "-"])
            lines.append([f"recorded, {way}", *measured(rounds, calls, lambda w=way: through(key, w, {}))])
            lines.append(
                [f"recorded, ids handed on, {way}", *measured(rounds, calls, lambda w=way: through(key, w, ids))]
            )
            lines.append([f"a worker's, {way}", *measured(rounds, calls, lambda w=way: through(token, w, ids))])
        for recorded in (False, True):
            once = lambda r=recorded: (asyncio.run(in_process(upstream, calls, at_once, r)),)  # noqa: E731
            lines.append([f"in process{', recorded' * recorded}", *measured(rounds, calls, once), "-"])
    lines.append(
        ["recording alone", *measured(rounds, calls, lambda: (asyncio.run(recording(args.tokens, calls)),)), "-"]
    )
    started, loops = time.process_time(), 0
    while time.process_time() - started < 0.5:
        loops += 1
    head = f"CPU ms a call ({calls} calls, {at_once} at once, {args.tokens} tokens a reply)"
    print(table([head, "client", "gateway"], lines))
    print(f"load {os.getloadavg()[0]:.1f}; an idle core makes {loops / 500:.0f} empty turns a ms here")


if __name__ == "__main__":
    main()
