"""The gateway and the recorder: agents of any framework, what is kept of a rollout, and the rows made of it."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import chat_server
import pytest
from command import additions, guerdon, trajectories, write_recipe

from guerdon.choice import choose
from guerdon.errors import BackendError
from guerdon.gateway import Gateway, serve_gateway
from guerdon.recorder import Recorder
from guerdon.rows import training_rows
from guerdon.task import Message, Task
from guerdon.trajectory import Score, Trajectory, Turn

TASK = Task("1", "2 + 2?", "4", {"hint": "even"})


class Endpoint:
    """Answers with what it is given, in turn; keeps the bodies and tasks that it was asked with."""

    model = "policy"

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.bodies: list[dict[str, Any]] = []
        self.tasks: list[Task] = []

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        self.bodies.append(body)
        self.tasks.append(task)
        reply = self.replies.pop(0) if self.replies else "ok"
        if isinstance(reply, BaseException):
            raise reply
        return chat_server.completion(reply) if isinstance(reply, str) or "role" in reply else reply

    async def load_adapter(self, path: Path | None) -> None:
        pass


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def reply(text: str) -> Message:
    return {"role": "assistant", "content": text}


def calls(name: str) -> Message:
    function = {"name": name, "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def recorded(replies: list[Any], *asked: list[Message], sampling: Any = (), **params: Any) -> tuple[Recorder, Endpoint]:
    """A recorder after these calls."""
    endpoint = Endpoint(*replies)
    recorder = Recorder(endpoint, TASK, dict(sampling))

    async def run() -> None:
        for messages in asked:
            await recorder.complete(messages, **params)

    asyncio.run(run())
    return recorder, endpoint


def trajectory(recorder: Recorder) -> Trajectory:
    t = Trajectory("train-1-1-0", "1", "train", 1, 0, "a", "m", tuple(recorder.turns), tuple(recorder.tools), "done")
    return t.scored({"r": Score(1.0)})


# -- the recorder -----------------------------------------------------------------------------------------------------


def test_a_growing_conversation_is_kept_once() -> None:
    first = [user("a")]
    second = [*first, reply("b"), user("c")]
    recorder, endpoint = recorded(["b", "d"], first, second)
    assert [(t.keep, list(t.prompt)) for t in recorder.turns] == [(0, first), (2, [user("c")])]
    assert list(trajectory(recorder).conversations()) == [[*first, reply("b")], [*second, reply("d")]]
    assert trajectory(recorder).messages == [*second, reply("d")]
    assert endpoint.tasks == [TASK, TASK], "the whole task, for demonstrations"


def test_what_frameworks_add_to_a_reply_does_not_part_the_conversation() -> None:
    sent_back = {**calls("add"), "content": None, "refusal": None, "annotations": []}
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    recorder, _ = recorded([calls("add"), "4"], [user("a")], [parts, sent_back, result])
    assert [t.keep for t in recorder.turns] == [0, 2]
    assert trajectory(recorder).messages == [user("a"), calls("add"), result, reply("4")]
    assert trajectory(recorder).tool_calls == 1


def test_the_line_break_before_a_tool_call_is_the_chat_templates() -> None:
    """vLLM leaves it in the content; a template that writes its own would show the model two."""
    said = {**calls("add"), "content": "First add.\n"}
    result = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    recorder, endpoint = recorded([said, "4"], [user("a")], [user("a"), said, result])
    assert endpoint.bodies[1]["messages"][1]["content"] == "First add."
    assert [t.keep for t in recorder.turns] == [0, 2]


def test_a_rewritten_history_is_kept_as_it_was_asked() -> None:
    recorder, _ = recorded(["b", "z"], [user("a")], [user("a"), reply("shorter"), user("c")])
    assert [t.keep for t in recorder.turns] == [0, 1]
    first, last = trajectory(recorder).conversations()
    assert first == [user("a"), reply("b")]
    assert last == [user("a"), reply("shorter"), user("c"), reply("z")]
    rows = list(training_rows([trajectory(recorder)]))
    assert [row["messages"] for row in rows] == [first, last]
    assert [row["learn"] for row in rows] == [[1], [3]], "what the agent wrote is not the policy's"


def test_each_reply_of_the_policy_is_learnt_once() -> None:
    shots = [user("1 + 1?"), reply("2"), user("a")]
    branch = [*shots, reply("b"), user("other")]
    recorder, _ = recorded(["b", "c", "d"], shots, [*shots, reply("b"), user("more")], branch)
    talks = [[*shots, reply("b"), user("more"), reply("c")], [*branch, reply("d")]]
    rows = list(training_rows([trajectory(recorder)]))
    assert [(row["messages"], row["learn"]) for row in rows] == [(talks[0], [3, 5]), (talks[1], [5])]


def test_attempts_that_differ_only_in_the_ids_of_their_calls_are_one() -> None:
    def attempt(call_id: str, result: str) -> Trajectory:
        call = calls("add")
        call["tool_calls"][0]["id"] = call_id
        answered = [user("a"), call, {"role": "tool", "tool_call_id": call_id, "content": result}]
        return trajectory(recorded([call, "4"], [user("a")], answered)[0])

    attempts = [attempt("c1", "4"), attempt("c2", "4"), attempt("c3", "5")]
    chosen = choose(attempts).kept
    assert sorted(t.messages[2]["content"] for t in chosen) == ["4", "5"]


def test_a_second_conversation_starts_anew() -> None:
    recorder, _ = recorded(["b", "y"], [user("a")], [user("x")])
    assert [t.keep for t in recorder.turns] == [0, 0]
    assert [row["messages"] for row in training_rows([trajectory(recorder)])] == [
        [user("a"), reply("b")],
        [user("x"), reply("y")],
    ]


def test_the_recipes_sampling_wins() -> None:
    sampling = {"temperature": 0.7, "max_tokens": 9}
    _, endpoint = recorded(["b"], [user("a")], sampling=sampling, temperature=0.0, max_completion_tokens=99, top_p=0.5)
    assert endpoint.bodies == [
        {"temperature": 0.7, "max_tokens": 9, "top_p": 0.5, "model": "policy", "messages": [user("a")]}
    ]


@pytest.mark.parametrize(
    ("asked", "given"),
    [({"max_tokens": 4}, 4), ({"max_completion_tokens": 4}, 4), ({"max_tokens": 0}, 9), ({"max_tokens": None}, 9)],
)
def test_an_agent_may_ask_for_fewer_tokens(asked: dict[str, Any], given: int) -> None:
    _, endpoint = recorded(["b"], [user("a")], sampling={"max_tokens": 9}, **asked)
    assert endpoint.bodies == [{"max_tokens": given, "model": "policy", "messages": [user("a")]}]


def test_tools_are_kept_once() -> None:
    tools = [{"type": "function", "function": {"name": n}} for n in ("add", "mul")]
    recorder, endpoint = recorded(["b", "d"], [user("a")], [user("a"), reply("b"), user("c")], tools=tools)
    assert recorder.tools == tools and endpoint.bodies[0]["tools"] == tools


def test_token_ids_and_logprobs_are_those_of_the_server() -> None:
    body = chat_server.completion("b")
    body["prompt_token_ids"] = [1, 2]
    body["choices"][0] |= {"token_ids": [3, 4], "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -1.0}]}}
    recorder, _ = recorded([body], [user("a")])
    (turn,) = recorder.turns
    assert (turn.prompt_ids, turn.reply_ids, turn.logprobs) == ((1, 2), (3, 4), (-0.5, -1.0))
    assert (turn.prompt_tokens, turn.reply_tokens, turn.finish_reason) == (5, 7, "stop")
    assert Trajectory.from_json(json.loads(json.dumps(trajectory(recorder).to_json()))) == trajectory(recorder)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{}]}}]},
        {"choices": [{"message": {"content": "x"}, "logprobs": "none"}]},
        {},
    ],
)
def test_a_reply_that_is_none_is_the_backends_error(body: Any) -> None:
    with pytest.raises(BackendError, match="the server's reply is no chat completion") as raised:
        recorded([body], [user("a")])
    assert raised.value.kind == "broken_reply"


def test_odd_tool_calls_are_kept_as_they_are() -> None:
    odd = {"role": "assistant", "content": "x", "tool_calls": [{"id": "c"}, "call"]}
    recorder, _ = recorded([odd, "d"], [user("a")], [user("a"), odd, user("c")])
    assert [t.keep for t in recorder.turns] == [0, 2]


# -- rows of token ids ------------------------------------------------------------------------------------------------


def turns(*pairs: tuple[list[int], list[int]]) -> Trajectory:
    made = tuple(
        Turn(0, (user(str(i)),), reply(str(i)), prompt_ids=tuple(p), reply_ids=tuple(r))
        for i, (p, r) in enumerate(pairs)
    )
    return Trajectory("t", "1", "train", 1, 0, "a", "m", made, completion="x", reward=0.5)


def rows(*pairs: tuple[list[int], list[int]]) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"], row["labels"]) for row in training_rows([turns(*pairs)])]


def test_turns_that_extend_each_other_are_one_row() -> None:
    assert rows(([1, 2], [3])) == [([1, 2, 3], [-100, -100, 3])]
    assert rows(([1, 2], [3, 4]), ([1, 2, 3, 4, 5], [6])) == [
        ([1, 2, 3, 4, 5, 6], [-100, -100, 3, 4, -100, 6]),
    ]


def test_a_turn_that_does_not_extend_the_one_before_is_a_row_of_its_own() -> None:
    expected = [([1, 2, 3, 4], [-100, -100, 3, 4]), ([1, 2, 9, 5, 6], [-100, -100, -100, -100, 6])]
    assert rows(([1, 2], [3, 4]), ([1, 2, 9, 5], [6])) == expected
    # a shorter prompt than what was there, and a reply that was tokenised otherwise
    assert len(rows(([1, 2], [3, 4]), ([1, 2], [6]))) == 2
    assert len(rows(([1, 2], [3, 4]), ([1, 2, 3], [6]), ([1, 2, 3, 6, 7], [8]))) == 2


def test_rows_say_where_they_come_from_and_need_all_ids() -> None:
    (row,) = training_rows([turns(([1], [2]))])
    assert (row["reward"], row["trajectory"]) == (0.5, "t")
    for lacking in (turns(([1], [2]), ([1, 2, 3], [])), turns(([], [2]))):
        assert all("messages" in row for row in training_rows([lacking]))


# -- over HTTP --------------------------------------------------------------------------------------------------------


def with_gateway(test: Callable[[Gateway], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with serve_gateway() as gateway:
            await test(gateway)

    asyncio.run(run())


async def post(
    base_url: str, key: str, body: bytes | dict[str, Any], path: str = "/chat/completions"
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def send() -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        request = urllib.request.Request(base_url + path, data if path.endswith("completions") else None, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(send)


def test_a_key_opens_its_own_rollout_only_and_only_while_it_runs() -> None:
    async def test(gateway: Gateway) -> None:
        body = {"model": "any", "messages": [user("a")]}
        with (
            gateway.recorder(Endpoint("one"), TASK, {}) as one,
            gateway.recorder(Endpoint("two"), TASK, {}) as two,
        ):
            assert one.api_key != two.api_key and one.base_url == two.base_url
            status, answered = await post(one.base_url, one.api_key, body)
            assert (status, answered["choices"][0]["message"]["content"]) == (200, "one")
            assert (len(one.turns), len(two.turns)) == (1, 0)
            status, models = await post(one.base_url, one.api_key, {}, "/models")
            assert (status, models["data"][0]["id"]) == (200, "policy")
            for key in ("", "rollout-guess", one.api_key[:-1]):
                for path in ("/chat/completions", "/models"):
                    status, refused = await post(one.base_url, key, body, path)
                    assert status == 401
                    assert refused["error"]["message"] == "this key belongs to no running rollout"
        assert (await post(one.base_url, one.api_key, body))[0] == 401
        with pytest.raises(BackendError, match="this rollout is over"):
            await one.complete([user("a")])
        assert (len(one.turns), len(two.turns)) == (1, 0)

    with_gateway(test)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"not json", 400, "the body is no JSON object"),
        (b"[1]", 400, "the body is no JSON object"),
        (b"[" * 100_000, 400, "the body is no JSON object"),
        ({"model": "m"}, 400, "`messages` is missing or no list of objects"),
        ({"messages": ["a"]}, 400, "`messages` is missing or no list of objects"),
        ({"messages": [], "tools": "x"}, 400, "`tools` is missing or no list of objects"),
        ({"messages": [], "n": 2}, 400, "`n` must be 1"),
        ({"messages": [], "n": 2, "stream": True}, 400, "`n` must be 1"),
    ],
)
def test_requests_that_are_wrong(
    body: bytes | dict[str, Any], status: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Endpoint(), TASK, {}) as recorder:
            got, answered = await post(recorder.base_url, recorder.api_key, body)
            assert got == status and message in answered["error"]["message"]
            assert recorder.turns == []

    with_gateway(test)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BackendError("too fast", kind="http_429"), 429),
        (BackendError("hangs", kind="timeout"), 504),
        (BackendError("down", kind="refused"), 502),
        (ValueError("odd"), 500),
    ],
)
def test_the_endpoints_errors_reach_the_agent(error: Exception, status: int) -> None:
    async def test(gateway: Gateway) -> None:
        with gateway.recorder(Endpoint(error), TASK, {}) as recorder:
            got, answered = await post(recorder.base_url, recorder.api_key, {"messages": [user("a")]})
            assert got == status and str(error) in answered["error"]["message"]
            assert recorder.error is (error if isinstance(error, BackendError) else None)

    with_gateway(test)


# -- agents of other frameworks ---------------------------------------------------------------------------------------

OPENAI_AGENT = """\
from openai import AsyncOpenAI

async def agent(task, policy, *, turns: int = 2):
    "The plain client; nothing in it knows of guerdon."
    messages = task.messages
    async with AsyncOpenAI(base_url=policy.base_url, api_key=policy.api_key, max_retries=0) as client:
        for _ in range(turns):
            reply = await client.chat.completions.create(model=policy.model, messages=messages, temperature=0.1)
            said = reply.choices[0].message
            messages = [*messages, said.model_dump(exclude_none=True), {"role": "user", "content": "Sure?"}]
    return said.content
"""


def first_question(body: dict[str, Any]) -> str:
    return chat_server.adds({"messages": body["messages"][:1]})


def test_an_agent_with_the_plain_openai_client(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    (tmp_path / "a.py").write_text(OPENAI_AGENT)
    with chat_server.serve(first_question) as server:
        write_recipe(
            tmp_path,
            server.base_url,
            additions(6),
            agent="./a.py:agent",
            sampling={"temperature": 0.5, "max_tokens": 9},
        )
        guerdon(tmp_path, "run", "recipe.yaml")
        assert len(server.requests) == 12
        assert {(b["model"], b["temperature"], b["max_tokens"]) for b in server.requests} == {("fake", 0.5, 9)}
        assert not any(key.startswith("rollout-") for key in server.keys), "a rollout's key stays here"
    found = trajectories(tmp_path)
    assert [t.reward for t in found] == [1.0] * 6
    for t in found:
        assert [turn.keep for turn in t.turns] == [0, 2], "the second turn extends the first"
        assert [m["role"] for m in t.messages] == ["user", "assistant", "user", "assistant"]
        assert str(int(t.task_id) + 1) in t.messages[0]["content"], "no rollout has another's messages"


def test_a_backends_error_is_the_reason_also_when_a_client_wraps_it(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    (tmp_path / "a.py").write_text(OPENAI_AGENT)
    with chat_server.serve(lambda _: chat_server.Reply(status=503, body="busy")) as server:
        write_recipe(tmp_path, server.base_url, additions(2), agent="./a.py:agent")
        guerdon(tmp_path, "run", "recipe.yaml", code=1)
    assert [t.failure.kind if t.failure else "" for t in trajectories(tmp_path)] == ["http_503"] * 2
