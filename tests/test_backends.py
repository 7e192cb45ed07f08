"""Backends that need no model: HTTP endpoints against a server that misbehaves, demonstrations, the choice of one."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from guerdon.errors import BackendError
from guerdon.task import Task
from guerdon_backends.auto import auto
from guerdon_backends.chat import Prompts
from guerdon_backends.demonstrations import demonstrations
from guerdon_backends.embedded import transformers
from guerdon_backends.openai_backend import openai

TASK = Task("1", "2+2?")
GOOD = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}


class Bad(ThreadingHTTPServer):
    """Answers chat requests from a script; each item is a status with headers and body, or an oddity by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = []
        self.seen: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.models_status = 404

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Bad

    def do_GET(self) -> None:
        self.answer(self.server.models_status, {}, "{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        self.server.headers.append(dict(self.headers))
        self.server.times.append(time.monotonic())
        step = self.server.script.pop(0) if self.server.script else (200, {}, json.dumps(GOOD))
        if step == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif step == "hang":
            time.sleep(30)
            self.close_connection = True
        elif step == "drip":  # each byte within any read timeout, the whole never done
            self.send_response(200)
            self.end_headers()
            for _ in range(300):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    break
                time.sleep(0.1)
        else:
            self.answer(*step)

    def answer(self, status: int, headers: dict[str, str], body: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def bad() -> Iterator[Bad]:
    with Bad() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def call(bad: Bad, script: list[Any], **settings: Any) -> dict[str, Any]:
    bad.script = script

    async def main() -> dict[str, Any]:
        async with openai("m", base_url=bad.url, **settings) as endpoint:
            return await endpoint.complete({"messages": TASK.messages, "model": "what the agent thinks"}, TASK)

    return asyncio.run(main())


def failure(bad: Bad, script: list[Any], **settings: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        call(bad, script, **settings)
    return caught.value


def test_the_body_goes_out_with_the_models_name_and_token_ids_only_when_asked(bad: Bad) -> None:
    assert call(bad, []) == GOOD
    call(bad, [], token_ids=True)
    assert bad.seen[0] == {"messages": TASK.messages, "model": "m"}
    assert bad.seen[1] == {**bad.seen[0], "return_token_ids": True, "logprobs": True}


def test_429_waits_as_long_as_the_server_says(bad: Bad) -> None:
    assert call(bad, [(429, {"Retry-After": "1"}, "slow down")]) == GOOD
    assert bad.times[1] - bad.times[0] >= 1.0


def test_an_absurd_retry_after_is_bounded(bad: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guerdon.http_endpoint.LONGEST_WAIT", 0.1)
    assert (
        call(bad, [(429, {"Retry-After": "86400"}, ""), (503, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, "")])
        == GOOD
    )


@pytest.mark.parametrize("trouble", ["drop", (500, {}, "oops"), (503, {}, "")])
def test_passing_trouble_is_tried_again(bad: Bad, trouble: Any) -> None:
    assert call(bad, [trouble], retries=1) == GOOD
    assert len(bad.seen) == 2


def test_lasting_trouble_is_an_error_with_its_status_and_the_servers_words(bad: Bad) -> None:
    error = failure(bad, [(500, {}, '{"error": {"message": "CUDA out of memory"}}')] * 2, retries=1)
    assert error.kind == "http_500"
    assert f'{bad.url}/chat/completions answered 500: "CUDA out of memory". Gave up after 2 attempts.' in str(error)
    assert failure(bad, ["drop"], retries=0).kind == "dropped"
    assert failure(bad, [(429, {}, "")], retries=0).kind == "http_429"


def test_other_4xx_are_final(bad: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    error = failure(bad, [(401, {}, "no")], api_key_env="MY_KEY")
    assert error.kind == "http_401" and "environment variable MY_KEY" in str(error)
    assert "sk-secret" not in str(error)
    assert bad.headers[0]["Authorization"] == "Bearer sk-secret"
    assert failure(bad, [(400, {}, "bad")]).kind == "http_400"
    assert "know the model 'm'" in str(failure(bad, [(404, {}, "?")]))
    assert len(bad.seen) == 3


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_hanging_server_is_given_up_at_the_deadline(bad: Bad, how: str) -> None:
    started = time.monotonic()
    error = failure(bad, [how], timeout=0.3)
    assert error.kind == "timeout" and "within 0.3 s" in str(error)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"choices": []}', '{"choices": 3}', '{"choices": [3]}', "<html>hello</html>"]
)
def test_what_is_no_completion_is_a_broken_reply(bad: Bad, body: str) -> None:
    error = failure(bad, [(200, {}, body)])
    assert error.kind == "broken_reply"
    assert "OpenAI-compatible server?" in str(error)


def test_a_refused_connection_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"

    async def main() -> None:
        async with openai("m", base_url=url):
            raise AssertionError("opened")

    with pytest.raises(BackendError, match=rf"Cannot connect to {url}/models .*Is the server running there") as caught:
        asyncio.run(main())
    assert caught.value.kind == "refused"


def test_a_refused_key_is_told_at_once(bad: Bad) -> None:
    bad.models_status = 401
    assert failure(bad, []).kind == "http_401"
    assert bad.seen == []


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def main() -> None:
        async with openai("gpt-4.1-mini"):
            raise AssertionError("opened")

    with pytest.raises(BackendError, match="set the environment variable OPENAI_API_KEY"):
        asyncio.run(main())


def test_a_key_from_a_file_with_windows_line_ends_is_taken(bad: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret\r\n")
    assert call(bad, [], api_key_env="MY_KEY") == GOOD
    assert bad.headers[0]["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("key", ["sk-sec\r\nret", "sk-sécret"])
def test_a_malformed_key_is_refused_and_not_shown(bad: Bad, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    error = failure(bad, [], api_key_env="MY_KEY")
    assert "variable MY_KEY has a line break or a character that is not ASCII" in str(error)
    assert "sk-" not in str(error)


def test_adapters_cannot_be_sent_to_a_remote_server(bad: Bad) -> None:
    async def main() -> None:
        async with openai("m", base_url=bad.url) as endpoint:
            await endpoint.load_adapter(None)
            await endpoint.load_adapter(Path("a"))

    with pytest.raises(BackendError, match="only the models that the remote server has"):
        asyncio.run(main())


def test_auto_goes_where_openai_base_url_points(
    bad: Bad, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", bad.url)

    async def main() -> dict[str, Any]:
        async with auto("m") as endpoint:
            return await endpoint.complete({"messages": TASK.messages}, TASK)

    with caplog.at_level("INFO", "guerdon"):
        assert asyncio.run(main()) == GOOD
    assert "backend openai: OPENAI_BASE_URL is set" in caplog.text


def test_a_folder_is_served_here_and_what_it_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")

    async def main(model: str) -> None:
        async with auto(model):
            raise AssertionError("opened")

    with pytest.raises(BackendError, match=r"has no config.json \(it holds a LoRA adapter.*no weights"):
        asyncio.run(main(str(tmp_path)))
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(BackendError, match=r"no folder and no hub id .* Did you mean 'smollm2-135m'"):
        asyncio.run(main("smolm2-135m"))


def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")

    async def main() -> None:
        async with transformers(str(tmp_path)):
            raise AssertionError("opened")

    with pytest.raises(BackendError, match=r"did not start \(exit code 1\)(.|\n)*Error") as caught:
        asyncio.run(main())
    assert caught.value.kind == "server_died"


class Alternating:
    """A tokenizer whose template checks that roles alternate, tool calls and their results aside, as Mistral's does."""

    def get_chat_template(self) -> str:
        return "arguments is string"

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        roles = [m["role"] for m in messages if m["role"] != "tool" and not m.get("tool_calls")]
        if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2):
            raise ValueError("roles must alternate")
        return "".join(f"<{m['role']}>{m['content']}" for m in messages)

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}


def test_a_template_that_refuses_remembered_replies_gets_the_plain_messages() -> None:
    prompts = Prompts(Alternating())
    function = {"name": "calculate", "arguments": "{}"}
    asked = {"role": "user", "content": "12*7?"}
    called = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    result = {"role": "tool", "content": "84", "tool_call_id": "1"}
    answered = {"role": "assistant", "content": "84"}
    messages = [asked, called, result, answered, asked]
    plain = prompts.encode(messages, [])
    prompts.remember([asked], called, [1, 2])  # put back, it stands as a reply without tool calls: not alternating
    assert prompts.encode(messages, []) == plain
    with pytest.raises(ValueError, match="refuses these messages: roles must alternate"):
        prompts.encode([asked, asked], [])
    prompts.remember([asked], answered, [3])
    head = prompts.encode([asked], []) + [ord(c) for c in "<assistant>"]
    assert prompts.encode([asked, answered, asked], [])[: len(head) + 1] == [*head, 3]


def demonstrate(task: Task, results: list[Any], **settings: Any) -> dict[str, Any]:
    """The reply after these tool results, played from the start of the conversation."""

    async def main() -> dict[str, Any]:
        async with demonstrations("m", **settings) as endpoint:
            messages = [*task.messages, *({"role": "tool", "content": r} for r in results)]
            reply = await endpoint.complete({"messages": messages}, task)
            choice: dict[str, Any] = reply["choices"][0]
            return choice

    return asyncio.run(main())


def test_a_demonstration_plays_the_steps_and_ends_with_the_tools_own_result() -> None:
    task = Task("1", "12*7+5?", answer="89", fields={"steps": ["12*7", "84+5"]})
    first = demonstrate(task, [])
    call = first["message"]["tool_calls"][0]
    assert first["finish_reason"] == "tool_calls" and call["type"] == "function"
    assert call["function"] == {"name": "calculate", "arguments": '{"expression": "12*7"}'}
    assert demonstrate(task, ["84"])["message"]["tool_calls"][0]["function"]["arguments"] == '{"expression": "84+5"}'
    last = demonstrate(task, ["84", [{"type": "text", "text": "89.0"}]])
    assert last["finish_reason"] == "stop"
    assert last["message"] == {"role": "assistant", "content": "### 89.0 ###"}
    assert demonstrate(task, ["84", "89"], answer_format="<answer>{answer}</answer>")["message"]["content"] == (
        "<answer>89</answer>"
    )


def test_only_results_since_the_last_question_count() -> None:
    earlier = [
        {"role": "user", "content": "1+1?"},
        {"role": "tool", "content": "2"},
        {"role": "user", "content": "2*3?"},
    ]
    task = Task("1", earlier, fields={"steps": ["2*3"]})
    assert demonstrate(task, [])["message"]["tool_calls"][0]["function"]["arguments"] == '{"expression": "2*3"}'


def test_gsm8k_annotations_are_steps_and_a_task_without_steps_is_an_error() -> None:
    task = Task("1", "?", answer="72", fields={"solution": "48/2 = <<48/2=24>>24, 48+24 = <<48+24=72>>72"})
    assert demonstrate(task, ["24"], tool="calc")["message"]["tool_calls"][0]["function"] == {
        "name": "calc",
        "arguments": '{"expression": "48+24"}',
    }
    with pytest.raises(BackendError, match="task 9 has no worked steps") as caught:
        demonstrate(Task("9", "Why?", answer="42"), [])
    assert caught.value.kind == "no_demonstration"
