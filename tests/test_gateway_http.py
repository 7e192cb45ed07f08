"""The gateway over HTTP: streams, text completions, limits, clients that hang up, workers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import chat_server
import pytest

from guerdon.errors import BackendError
from guerdon.gateway import Gateway, serve_gateway
from guerdon.http_endpoint import HttpEndpoint
from guerdon.recorder import Recorder
from guerdon.rows import training_rows
from guerdon.streams import assembled
from guerdon.task import Message, Task
from guerdon.trajectory import Trajectory
from guerdon_backends.demonstrations import Demonstrator

TASK = Task("1", "2 + 2?", "4", {"steps": ["2 + 2"]})
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def streamed(text: str = "Good day", calls: bool = False) -> list[dict[str, Any]]:
    """Chunks as vLLM sends them, a token for each two characters."""
    deltas: list[dict[str, Any]] = [{"content": text[i : i + 2]} for i in range(0, len(text), 2)]
    if calls:
        begun = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}
        deltas = [{"tool_calls": [begun]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": a}}]} for a in ('{"a"', ": 1}")]
    chunks = [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas)]
    chunks[0]["prompt_token_ids"] = [7, 8, 9]
    for i, part in enumerate(chunks[1:]):
        part["choices"][0] |= {"token_ids": [i], "logprobs": {"content": [{"token": "x", "logprob": -float(i)}]}}
    chunks[-1]["choices"][0]["finish_reason"] = "tool_calls" if calls else "stop"
    return [*chunks, {**chunk({}), "choices": [], "usage": USAGE}]


def chunk(delta: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "policy-v3", "choices": [choice]}


class Endpoint:
    """Streams these chunks; counts what is asked at a time, and what was cut off. `pause` before each chunk."""

    model = "policy-v3"

    def __init__(self, chunks: list[Any] | None = None, pause: float = 0.0) -> None:
        self.chunks = streamed() if chunks is None else chunks
        self.pause = pause
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most = self.cut = 0

    async def stream(self, body: dict[str, Any], task: Task) -> AsyncIterator[dict[str, Any]]:
        self.bodies.append(body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for part in self.chunks:
                await asyncio.sleep(self.pause)
                if isinstance(part, Exception):
                    raise part
                yield part
        except (GeneratorExit, asyncio.CancelledError):
            self.cut += 1
            raise
        finally:
            self.running -= 1

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        return assembled([part async for part in self.stream(body, task)])

    async def load_adapter(self, path: Path | None) -> None:
        pass


class Whole:
    """An endpoint that does not stream; says how it was asked."""

    model = "policy-v3"

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        ids = {"prompt_token_ids": [1, 2], "token_ids": [3]}
        if "prompt" in body:
            choice = {"index": 0, "text": f"{body['prompt']}!", "finish_reason": "stop", **ids}
            choice["logprobs"] = {"tokens": ["!"], "token_logprobs": [-0.5]}
            return {"id": "1", "object": "text_completion", "model": self.model, "choices": [choice], "usage": USAGE}
        message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        return chat_server.completion(message)

    async def load_adapter(self, path: Path | None) -> None:
        pass


def serve(test: Callable[[Gateway], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), serve_gateway(**settings) as gateway:
            await test(gateway)

    asyncio.run(run())


async def ask(
    policy: Any, path: str = "/chat/completions", method: str = "POST", **body: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a reply."""
    headers = {"Authorization": f"Bearer {policy.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, policy.base_url + path, json=body) as reply,
    ):
        return reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read()


def events(data: bytes) -> list[dict[str, Any]]:
    *found, done, last = data.decode().split("\n\n")
    assert (done, last) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in found]


def trajectory(recorder: Recorder) -> Trajectory:
    return Trajectory("t", "1", "train", 1, 0, "a", "m", tuple(recorder.turns), tuple(recorder.tools), "x", reward=1.0)


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [False, True])
def test_a_stream_is_recorded_as_a_whole_reply_and_handed_on_as_it_was_asked_for(calls: bool) -> None:
    async def test(gateway: Gateway) -> None:
        endpoint = Endpoint(streamed(calls=calls))
        body = {"messages": [user("a")], "stream": True, "tools": [{"type": "function", "function": {"name": "add"}}]}
        with gateway.recorder(endpoint, TASK, {"temperature": 0.5}, "policy") as policy:
            status, headers, data = await ask(policy, **body, temperature=1.0, user="me")
            assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            plain = events(data)
            told = {**body, "stream_options": {"include_usage": True}, "return_token_ids": True, "logprobs": True}
            full = events((await ask(policy, **told))[2])
            await policy.complete(body["messages"], tools=body["tools"])
        for seen in (plain, full):
            whole = assembled(seen)
            assert whole["model"] == "policy" and {c["object"] for c in seen} == {"chat.completion.chunk"}
            message = whole["choices"][0]["message"]
            assert message.get("tool_calls") == ([CALL] if calls else None)
            assert message["content"] == (None if calls else "Good day")
        assert not any("usage" in c or "prompt_token_ids" in c for c in plain) and len(plain) == len(full) - 1
        assert not any(c["choices"][0].get("token_ids") or c["choices"][0]["logprobs"] for c in plain)
        assert (full[-1]["usage"], full[0]["prompt_token_ids"]) == (USAGE, [7, 8, 9])
        assert [t for c in full[:-1] for t in c["choices"][0].get("token_ids", ())] == [0, 1, 2, 3][: 3 if calls else 4]
        first, second, third = policy.turns
        assert first.reply == second.reply == third.reply and first.logprobs == second.logprobs == third.logprobs
        assert (first.prompt_ids, first.prompt_tokens, first.reply_tokens) == ((7, 8, 9), 3, 4)
        assert first.finish_reason == ("tool_calls" if calls else "stop") and policy.tools == body["tools"]
        sent = endpoint.bodies[0]
        assert (sent["user"], sent["temperature"], sent["model"]) == ("me", 0.5, "policy-v3")

    serve(test)


def test_an_endpoint_that_does_not_stream_answers_in_one_chunk() -> None:
    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Whole(), TASK, {}) as policy:
            (only,) = events((await ask(policy, messages=[user("a")], stream=True))[2])
            assert only["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **CALL}]
            assert only["choices"][0]["finish_reason"] == "tool_calls"
            assert policy.turns[0].reply["tool_calls"] == [CALL]

    serve(test)


def test_a_stream_that_fails_says_so_and_is_not_recorded() -> None:
    async def test(gateway: Gateway) -> None:
        error = BackendError("the server died", kind="server_died")
        for chunks, status in (([error], 502), ([*streamed()[:3], error], 200), ([], 502)):
            with gateway.recorder(Endpoint(chunks), TASK, {}) as policy:
                got, headers, data = await ask(policy, messages=[user("a")], stream=True)
                assert (got, b"[DONE]" in data, policy.turns) == (status, False, [])
                said = json.loads(data.decode().removesuffix("\n\n").rpartition("data: ")[2])["error"]
                assert policy.error and (said["message"], said["kind"]) == (str(policy.error), policy.error.kind)
                assert status == 200 or headers["x-should-retry"] == "false"

    serve(test)


def test_an_agent_that_has_heard_enough_ends_the_stream_and_the_record_is_what_it_heard() -> None:
    async def test(gateway: Gateway) -> None:
        endpoint = Endpoint(pause=0.05)
        with gateway.recorder(endpoint, TASK, {}) as policy:
            headers = {"Authorization": f"Bearer {policy.api_key}"}
            async with aiohttp.ClientSession(headers=headers) as http:
                body = {"messages": [user("a")], "stream": True}
                async with http.post(policy.base_url + "/chat/completions", json=body) as reply:
                    while b"Go" not in await reply.content.readline():
                        pass
                    reply.close()
            while not policy.turns:
                await asyncio.sleep(0.01)
            (turn,) = policy.turns
            assert endpoint.cut == 1 and "Good day".startswith(turn.reply["content"]) and turn.finish_reason == ""
            assert turn.prompt_ids == (7, 8, 9) and len(turn.reply_ids) == len(turn.reply["content"]) / 2

    serve(test)


# -- text completions, models -----------------------------------------------------------------------------------------


def test_a_text_completion_is_a_turn_whose_prompt_is_one_message() -> None:
    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Whole(), TASK, {}, "policy") as policy:
            for prompt in ("2 + 2 =", [5, 6]):
                for stream in (False, True):
                    status, _, data = await ask(policy, "/completions", prompt=prompt, stream=stream)
                    (said,) = events(data) if stream else [json.loads(data)]
                    assert (status, said["model"], said["choices"][0]["text"]) == (200, "policy", f"{prompt}!")
                    assert "token_ids" not in said["choices"][0] and said["choices"][0]["logprobs"] is None
        texts = [t.prompt[0]["content"] if t.prompt else "same" for t in policy.turns]
        assert texts == ["2 + 2 =", "same", "[5, 6]", "same"]
        assert {(t.prompt_ids, t.reply_ids, t.logprobs, t.reply["content"][-1]) for t in policy.turns} == {
            ((1, 2), (3,), (-0.5,), "!")
        }
        assert [row["input_ids"] for row in training_rows([trajectory(policy)])] == [[1, 2, 3]] * 4

    serve(test)


def test_logprobs_that_are_asked_for_are_handed_on() -> None:
    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Whole(), TASK, {}, "policy") as policy:
            for asked, given in ((0, True), (1, True), (True, True), (False, False), (None, False)):
                _, _, data = await ask(policy, "/completions", prompt="2 + 2 =", logprobs=asked)
                assert bool(json.loads(data)["choices"][0]["logprobs"]) is given, asked

    serve(test)


def test_where_there_is_no_text_completion_it_is_said() -> None:
    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Endpoint(), TASK, {}) as policy:
            status, _, data = await ask(policy, "/completions", prompt="a")
            assert status == 502 and b"no chat completion (KeyError: 'text')" in data
            for wrong in ({}, {"prompt": ["a", "b"]}, {"prompt": "a", "echo": True}, {"prompt": "a", "best_of": 3}):
                assert (await ask(policy, "/completions", **wrong))[0] == 400

    serve(test)


def test_models_and_what_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guerdon.gateway.LONGEST", 1000)

    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Endpoint(), TASK, {}, "policy") as policy:
            assert policy.model == "policy"
            listed = json.loads((await ask(policy, "/models", "GET"))[2])["data"]
            assert (
                [m["id"] for m in listed]
                == ["policy"]
                == [json.loads((await ask(policy, "/models/x", "GET"))[2])["id"]]
            )
            for path, method in (("/embeddings", "POST"), ("/chat/completions", "GET"), ("", "GET")):
                status, _, data = await ask(policy, path, method)
                assert (status, json.loads(data)["error"]["type"]) == (404, "invalid_request_error")
            status, _, data = await ask(policy, messages=[user("x" * 1000)])
            assert status == 413 and b"the body has more than 1000 bytes" in data

    serve(test)


# -- limits, and who hangs up -----------------------------------------------------------------------------------------


def test_at_most_so_many_calls_are_at_the_endpoint_and_the_others_wait_in_order() -> None:
    async def test(gateway: Gateway) -> None:
        endpoint = Endpoint(pause=0.05)
        gateway.limit(2)
        with gateway.recorder(endpoint, TASK, {}) as policy:
            calls = []
            for i in range(6):
                calls.append(asyncio.create_task(ask(policy, messages=[user(str(i))])))
                await asyncio.sleep(0.05)
            await asyncio.gather(*calls)
        assert (endpoint.most, len(endpoint.bodies)) == (2, 6)
        assert [body["messages"][0]["content"] for body in endpoint.bodies] == list("012345")

    serve(test)


def test_a_call_has_a_deadline() -> None:
    async def test(gateway: Gateway) -> None:
        endpoint = Endpoint(pause=60)
        gateway.deadline = 0.1
        with gateway.recorder(endpoint, TASK, {}) as policy:
            status, _, data = await ask(policy, messages=[user("a")])
            assert status == 504 and b"within the gateway's 0.1 s" in data and endpoint.cut == 1

    serve(test)


def test_what_comes_together_is_handed_on_together_up_to_an_error() -> None:
    parts = [b"data: " + json.dumps(part).encode() + b"\n\n" for part in streamed()]
    error = b'data: {"error": {"message": "out of memory"}}\n\n'
    read, left, came = asyncio.Event(), asyncio.Event(), list[list[dict[str, Any]]]()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for piece in (parts[0], b"".join(parts[1:4]) + parts[4][:9], parts[4][9:] + error):
            writer.write(piece)
            await read.wait()  # each is a piece of its own
            read.clear()
        writer.close()
        left.set()

    async def run() -> None:
        async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            remote = HttpEndpoint(f"http://127.0.0.1:{port}/v1", "real", "key", timeout=5, retries=0, token_ids=True)
            with pytest.raises(BackendError, match="out of memory"):
                async for chunks in remote.batches({"messages": []}, TASK):
                    came.append(chunks)
                    read.set()
            read.set()
            await left.wait()
            await remote.aclose()

    asyncio.run(run())
    assert came == [streamed()[:1], streamed()[1:4], streamed()[4:5]]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: "])
def test_a_server_that_falls_silent_is_given_up(said: bytes) -> None:
    left = asyncio.Semaphore(0)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()  # until the client hangs up
        writer.close()
        left.release()

    async def run() -> None:
        async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
            remote = HttpEndpoint(url, "real", "key", timeout=0.3, retries=3, token_ids=True)
            for answer in (remote.raw({"messages": [], "stream": True}, TASK), remote.batches({"messages": []}, TASK)):
                with pytest.raises(BackendError, match=r"No answer from .* within 0\.3 s") as caught:
                    async for _ in answer:
                        pass
                assert caught.value.kind == "timeout"
                await left.acquire()
            await remote.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_and_a_rollout_that_is_over_end_what_they_asked(stream: bool) -> None:
    async def test(gateway: Gateway) -> None:
        endpoint = Endpoint(pause=60)
        with gateway.recorder(endpoint, TASK, {}) as policy:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await ask(policy, messages=[user("a" * 300_000)], stream=stream)  # the server reads it in parts
            while not endpoint.cut:
                await asyncio.sleep(0.01)
            late = asyncio.create_task(ask(policy, messages=[user("b")], stream=stream))
            inside = asyncio.create_task(policy.complete([user("c")]))
            while endpoint.running < 2:
                await asyncio.sleep(0.01)
        status, _, data = await late
        assert status == 409 and b"this rollout is over" in data
        with pytest.raises(BackendError, match="this rollout is over"):
            await inside
        assert (endpoint.cut, endpoint.running, policy.turns) == (3, 0, [])

    serve(test)


def test_official_clients_do_not_try_again_what_the_endpoint_has_tried() -> None:
    openai = pytest.importorskip("openai")

    async def test(gateway: Gateway) -> None:
        endpoint = Endpoint([BackendError("too fast", kind="http_429")])
        with gateway.recorder(endpoint, TASK, {}) as policy:
            async with openai.AsyncOpenAI(base_url=policy.base_url, api_key=policy.api_key, max_retries=5) as client:
                with pytest.raises(openai.RateLimitError, match="too fast"):
                    await client.chat.completions.create(model="m", messages=[user("a")])
        assert len(endpoint.bodies) == 1

    serve(test)


# -- workers ----------------------------------------------------------------------------------------------------------


def worker(gateway: Gateway, **settings: Any) -> HttpEndpoint:
    """A worker's endpoint: the engine's gateway."""
    given = {"timeout": 5, "retries": 3, "token_ids": False, "hand_task": True, **settings}
    return HttpEndpoint(gateway.base_url, "policy", gateway.token, **given)


def test_a_worker_gets_what_the_endpoint_says_untouched() -> None:
    async def test(gateway: Gateway) -> None:
        endpoint, mine = Endpoint(), worker(gateway)
        gateway.serve(endpoint, "policy")
        with gateway.recorder(mine, TASK, {}) as policy:
            whole = await policy.complete([user("a")], return_token_ids=True)
            data = (await ask(policy, messages=[user("a")], stream=True))[2]
        assert whole == {**assembled(streamed()), "model": "policy"}
        assert assembled(events(data))["choices"][0]["message"]["content"] == "Good day"
        assert [t.prompt_ids for t in policy.turns] == [(7, 8, 9)] * 2 and policy.turns[0].reply_ids == (0, 1, 2, 3)
        assert not any("guerdon_task" in body for body in endpoint.bodies)
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {gateway.token}"}
            async with http.get(gateway.base_url + "/models", headers=headers) as reply:
                assert (await reply.json())["data"][0]["id"] == "policy"
        await mine.aclose()

    serve(test)


def test_a_worker_hears_of_failures_as_if_it_had_asked_itself() -> None:
    async def test(gateway: Gateway) -> None:
        mine = worker(gateway)
        for error in (BackendError("it died. Its log: ...", kind="server_died"), BackendError("slow", kind="http_429")):
            endpoint = Endpoint([error])
            gateway.serve(endpoint)
            for call in (mine.complete, lambda body, task: anext(mine.stream(body, task))):
                with pytest.raises(BackendError) as raised:
                    await call({"messages": [user("a")]}, TASK)
                assert (str(raised.value), raised.value.kind) == (str(error), error.kind)
            assert len(endpoint.bodies) == 2, "nothing is tried again"
        endpoint = Endpoint([*streamed()[:2], BackendError("in the middle", kind="dropped")])
        gateway.serve(endpoint)
        with pytest.raises(BackendError, match="in the middle") as raised:
            _ = [part async for part in mine.stream({"messages": [user("a")]}, TASK)]
        assert raised.value.kind == "dropped"
        gateway.serve(None)
        with pytest.raises(BackendError, match="no model is served at the moment"):
            await mine.complete({"messages": [user("a")]}, TASK)
        stranger = HttpEndpoint(gateway.base_url, "m", "guess", timeout=5, retries=3, token_ids=False)
        with pytest.raises(BackendError, match="this key belongs to no running rollout") as raised:
            await stranger.complete({"messages": [user("a")]}, TASK)
        assert raised.value.kind == "http_401"
        await mine.aclose()
        await stranger.aclose()

    serve(test, token="the workers'")


def test_demonstrations_know_the_task_behind_a_gateway_too() -> None:
    async def test(gateway: Gateway) -> None:
        mine = worker(gateway)
        gateway.serve(Demonstrator("m", "### {answer} ###", "calculate", False))
        reply = await mine.complete({"messages": TASK.messages}, TASK)
        assert '"2 + 2"' in reply["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        (only,) = [part async for part in mine.stream({"messages": TASK.messages}, TASK)]
        assert only["choices"][0]["finish_reason"] == "tool_calls"
        await mine.aclose()

    serve(test)


def test_bytes_go_through_a_gateway_unread() -> None:
    odd = 'data: {"choices": [],   "odd": "é\\ud83d"}\n\ndata: [DONE]\n\n'
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "half \ud83d"}}], "x": float("nan")}
    said = json.dumps(body)

    def answer(request: dict[str, Any]) -> chat_server.Reply:
        stream = request.get("stream")
        return chat_server.Reply(
            body=odd if stream else said, headers={"content-type": "text/event-stream"} if stream else {}
        )

    async def test(gateway: Gateway) -> None:
        with chat_server.serve(answer) as server:
            remote = HttpEndpoint(server.base_url, "real", "key", timeout=5, retries=0, token_ids=True)
            gateway.serve(remote)
            mine = worker(gateway)
            for stream, expected in ((True, odd), (False, said)):
                pieces = [p async for p in mine.raw({"messages": [user("\ud83d")], "stream": stream}, TASK)]
                assert b"".join(pieces) == expected.encode()
            reply = await mine.complete({"messages": [user("a")]}, TASK)
            assert reply["choices"][0]["message"]["content"] == "half \ud83d"
            assert {(r["model"], r["return_token_ids"]) for r in server.requests} == {("real", True)}
            assert server.requests[0]["messages"] == [user("\ud83d")]
            await remote.aclose()
            await mine.aclose()

    serve(test)


def test_other_apps_are_served_beside() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async def test(gateway: Gateway) -> None:
        url = gateway.base_url.removesuffix("/v1") + "/queue/lease"
        async with aiohttp.ClientSession() as http, http.get(url) as reply:
            assert await reply.text() == "/lease"

    serve(test, more={"/queue": echo})


def test_an_address_that_is_taken_is_an_error() -> None:
    async def test(gateway: Gateway) -> None:
        port = int(gateway.base_url.rpartition(":")[2].removesuffix("/v1"))
        with pytest.raises(BackendError, match=f"cannot listen at 127.0.0.1 port {port}: Address already in use"):
            async with serve_gateway(port=port):
                raise AssertionError("opened")

    serve(test)


# -- histories that change --------------------------------------------------------------------------------------------


def test_a_compacted_history_an_edited_one_and_a_stream_make_the_right_rows() -> None:
    def ids(text: str) -> list[int]:
        return [ord(c) for c in text]

    class Tokens:
        """The prompt is all that was said, a character a token; `!` ends each reply."""

        model = "m"

        async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
            text = "".join(f"<{m['content']}>" if m["role"] == "user" else m["content"] for m in body["messages"])
            whole = chat_server.completion(f"re{len(body['messages'])}!")
            whole["prompt_token_ids"] = ids(text)
            whole["choices"][0]["token_ids"] = ids(f"re{len(body['messages'])}!")
            return whole

        async def load_adapter(self, path: Path | None) -> None:
            pass

    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Tokens(), TASK, {}) as policy:
            talk = [user("a"), {"role": "assistant", "content": "re1!"}, user("b")]
            await policy.complete(talk[:1])
            await ask(policy, messages=talk, stream=True)
            compacted = [user("in short: a, b"), user("c")]
            await policy.complete(compacted)
            edited = [*compacted, {"role": "assistant", "content": "re2, edited"}, user("d")]
            await policy.complete(edited)
            await policy.complete([*edited, {"role": "assistant", "content": "re4!"}, user("e")])
        rows = [
            ("".join(map(chr, row["input_ids"])), "".join(chr(t) if t > 0 else "." for t in row["labels"]))
            for row in training_rows([trajectory(policy)])
        ]
        assert rows == [
            ("<a>re1!<b>re3!", "...re1!...re3!"),
            ("<in short: a, b><c>re2!", "." * 19 + "re2!"),
            ("<in short: a, b><c>re2, edited<d>re4!<e>re6!", "." * 33 + "re4!...re6!"),
        ]
        assert [t.keep for t in policy.turns] == [0, 2, 0, 2, 5]

    serve(test)
