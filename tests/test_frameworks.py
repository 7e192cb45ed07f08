"""Agents of other frameworks, unmodified, as docs/how-to/bring-any-framework.md shows them: the same records."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_server
import pytest
from command import additions, guerdon, trajectories, write_recipe

from guerdon.trajectory import Trajectory

DOCUMENT = Path(__file__).parent.parent / "docs" / "how-to" / "bring-any-framework.md"


def documented(folder: Path) -> None:
    """Write the document's files."""
    for name, text in re.findall(r"^```\w+\n# file: (\S+)\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.M | re.S):
        (folder / name).write_text(text)


def with_ids(body: dict[str, Any], reply: Any) -> dict[str, Any]:
    """A reply as vLLM gives it, each character a token."""
    whole = chat_server.completion(reply)
    asked, said = str(body["messages"]), str(reply)
    whole["prompt_token_ids"] = [ord(c) for c in asked]
    whole["choices"][0]["token_ids"] = [ord(c) for c in said]
    whole["choices"][0]["logprobs"] = {"content": [{"token": c, "logprob": -0.5} for c in said]}
    return whole


def adds(body: dict[str, Any]) -> Any:
    """Calls the tool `add`, and says what it gives."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return with_ids(body, f"### {float(last['content']):g} ###")
    a, b = re.findall(r"\d+", last["content"])
    function = {"name": "add", "arguments": f'{{"a": {a}, "b": {b}}}'}
    return with_ids(body, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]})


def rolled_out(folder: Path, answer: Callable[[dict[str, Any]], Any], agent: str, count: int = 3) -> list[Trajectory]:
    with chat_server.serve(answer) as server:
        backend = {"openai": {"base_url": server.base_url, "token_ids": True}}
        write_recipe(folder, server.base_url, additions(count), agent=agent, backend=backend)
        guerdon(folder, "rollout", "recipe.yaml")
        assert all(body["return_token_ids"] for body in server.requests)
    return trajectories(folder)


def test_pydantic_ai_with_a_tool(tmp_path: Path) -> None:
    pytest.importorskip("pydantic_ai")
    documented(tmp_path)
    for t in rolled_out(tmp_path, adds, "./adder.py:adder"):
        assert (t.reward, t.failure, t.tool_calls) == (1.0, None, 1)
        assert [turn.keep for turn in t.turns] == [0, 3], "the second turn extends the first"
        assert [m["role"] for m in t.messages] == ["system", "user", "assistant", "tool", "assistant"]
        assert [tool["function"]["name"] for tool in t.tools] == ["add"]
        assert all(turn.prompt_ids and len(turn.reply_ids) == len(turn.logprobs) for turn in t.turns)


@pytest.mark.parametrize(("agent", "turns"), [("plain", 2), ("blocking", 1)])
def test_the_plain_client_streamed_and_in_a_thread(tmp_path: Path, agent: str, turns: int) -> None:
    pytest.importorskip("openai")
    documented(tmp_path)

    def answer(body: dict[str, Any]) -> Any:
        return with_ids(body, chat_server.adds({"messages": body["messages"][:1]}))

    for t in rolled_out(tmp_path, answer, f"./{agent}.py:{agent}"):
        assert (t.reward, len(t.turns)) == (1.0, turns)
        for turn in t.turns:
            said = [ord(c) for c in turn.reply["content"]]
            assert (list(turn.reply_ids), turn.finish_reason) == (said, "stop")
            assert (turn.prompt_tokens, turn.reply_tokens) == (5, 7)


def test_an_agents_client_reaches_the_gateway_past_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    documented(tmp_path)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("no_proxy", raising=False)

    def answer(body: dict[str, Any]) -> Any:
        return with_ids(body, chat_server.adds({"messages": body["messages"][:1]}))

    for t in rolled_out(tmp_path, answer, "./plain.py:plain", 1):
        assert (t.reward, t.failure) == (1.0, None)
