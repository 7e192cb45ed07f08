"""The chat agent; the math agent with a scripted model, the real SDK and the real MCP servers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from guerdon.errors import AgentError, ComponentError
from guerdon.task import Message, Task
from guerdon_agents.chat import chat
from guerdon_agents.math_agent import INSTRUCTIONS, math_agent
from guerdon_agents.tool_server import ToolServer, from_settings

TASK = Task("1", "What is 12 times 7?")
Step = str | Message | Callable[[], Awaitable[Message]]
Rollout = Callable[[Task, Any], Awaitable[str]]


class ScriptedPolicy:
    """Plays the model: a step is a reply's text, a reply, or a function that gives one. Keeps what it was asked."""

    base_url, api_key, model, sampling = "http://127.0.0.1:9/v1", "none", "scripted", {}

    def __init__(self, *steps: Step, finish_reason: str | None = "stop") -> None:
        self.steps = list(steps)
        self.finish_reason = finish_reason
        self.asked: list[list[Message]] = []
        self.tools: list[dict[str, Any]] = []

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[dict[str, Any]] = (), **params: Any
    ) -> dict[str, Any]:
        assert not params
        self.asked.append(list(messages))
        self.tools = list(tools)
        step = self.steps.pop(0)
        if callable(step):
            step = await step()
        reply = {"role": "assistant", "content": step} if isinstance(step, str) else step
        choice = {"index": 0, "message": reply, "finish_reason": self.finish_reason, "token_ids": [1]}
        return {"id": "r1", "prompt_token_ids": [1, 2], "choices": [choice]}

    @property
    def tool_result(self) -> str:
        """What the tool said before the last call of the model."""
        message = self.asked[-1][-1]
        assert message["role"] == "tool"
        return message["content"]


def call(name: str, arguments: Any) -> Message:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }


def calculate(expression: Any) -> Message:
    return call("calculate", {"expression": expression})


def servers(module: str = "guerdon_agents.calculator") -> list[int]:
    """The pids of our children that run this module or script."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text()
        except OSError:  # ended in between
            continue
        if int(parent) == os.getpid() and state != "Z" and module in command:
            found.append(int(folder.name))
    return found


class Worker:
    """An event loop with one math agent in it, as the engine's worker has."""

    def __init__(self) -> None:
        self.loop = asyncio.Runner()
        self.agent: AbstractAsyncContextManager[Rollout] = math_agent(max_turns=3)
        self.rollout = self.loop.run(self.agent.__aenter__())

    def run(self, *policies: ScriptedPolicy) -> list[str]:
        async def all_of_them() -> list[str]:
            return await asyncio.gather(*(self.rollout(TASK, policy) for policy in policies))

        return self.loop.run(all_of_them())

    def close(self) -> None:
        self.loop.run(self.agent.__aexit__(None, None, None))
        self.loop.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    assert len(servers()) == 1
    yield worker
    worker.close()
    assert servers() == []


def test_chat() -> None:
    policy = ScriptedPolicy("84")
    assert asyncio.run(chat(TASK, policy)) == "84"
    assert policy.asked == [[{"role": "user", "content": TASK.prompt}]]


def test_chat_with_system_prompt_and_conversation() -> None:
    conversation = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "2+2?"}]
    policy = ScriptedPolicy({"role": "assistant", "content": None})
    assert asyncio.run(chat(Task("1", conversation), policy, system="Be brief.")) == ""
    assert policy.asked == [[{"role": "system", "content": "Be brief."}, *conversation]]
    assert len(conversation) == 2


def test_registration_and_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, inspect, guerdon_agents, guerdon_agents.chat, guerdon_agents.math_agent as m\n"
        "names = []\n"
        "guerdon_agents.register_agents(lambda name, target, extra='': names.append((name, extra)))\n"
        "inspect.signature(m.math_agent)\n"
        "assert names == [('chat', ''), ('math', 'agents')], names\n"
        "heavy = {'agents', 'openai', 'mcp', 'torch', 'anyio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tool_call_then_answer(worker: Worker) -> None:
    policy = ScriptedPolicy(calculate("12 * 7"), "### 84 ###")
    assert worker.run(policy) == ["### 84 ###"]
    system, user = policy.asked[0]
    assert system == {"role": "system", "content": INSTRUCTIONS}
    assert user["content"] == TASK.prompt
    assert policy.tool_result == "84"
    (tool,) = policy.tools
    assert tool["function"].pop("description")
    assert tool == {  # nothing but what a small model needs
        "type": "function",
        "function": {
            "name": "calculate",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            },
        },
    }


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (calculate("1/0"), "division by zero"),
        (calculate("__import__('os')"), "unexpected"),
        (call("calculate", {}), "empty"),
        (call("calculate", '{"expression": '), "must be a JSON object"),
        (call("calculate", "[1]"), "must be a JSON object"),
        (call("calculator", {"expression": "1"}), "'calculator' not found"),
    ],
)
def test_a_wrong_call_is_told_to_the_model(worker: Worker, reply: Message, said: str) -> None:
    policy = ScriptedPolicy(reply, "sorry")
    assert worker.run(policy) == ["sorry"]
    assert said in policy.tool_result
    assert len(policy.tool_result) < 120


def test_two_calls_in_one_turn(worker: Worker) -> None:
    both = calculate("1 + 1")
    both["tool_calls"] += [{**calculate("2 + 2")["tool_calls"][0], "id": "c2"}]
    policy = ScriptedPolicy(both, "done", finish_reason="stopped by a word of its own")
    assert worker.run(policy) == ["done"]
    assert [m["content"] for m in policy.asked[-1] if m["role"] == "tool"] == ["2", "4"]


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        (ScriptedPolicy(*[calculate("1")] * 4), "max_turns"),
        (ScriptedPolicy("", finish_reason="length"), "model_behavior"),
        (ScriptedPolicy(call("calculate", '{"expression": "\\ud800"}')), "model_behavior"),
        (ScriptedPolicy(call("calculate", "[" * 100_000)), "model_behavior"),
    ],
    ids=["max turns", "nothing but length", "half a surrogate pair", "nested too deeply"],
)
def test_failure_has_a_kind(worker: Worker, policy: ScriptedPolicy, kind: str) -> None:
    with pytest.raises(AgentError) as caught:
        worker.run(policy)
    assert caught.value.kind == kind
    assert len(policy.asked) <= 3


def test_an_error_of_the_policy_stays_what_it_is(worker: Worker) -> None:
    async def refuse() -> Message:
        raise ConnectionRefusedError("no server")

    with pytest.raises(ConnectionRefusedError):
        worker.run(ScriptedPolicy(refuse))


def test_rollouts_share_one_server(worker: Worker) -> None:
    before, seen = servers(), []

    async def look() -> Message:
        seen.append(servers())
        return calculate("12 * 7")

    policies = [ScriptedPolicy(look, f"### {n} ###") for n in range(8)]
    assert worker.run(*policies) == [f"### {n} ###" for n in range(8)]
    assert [policy.tool_result for policy in policies] == ["84"] * 8
    assert len(before) == 1 and seen == [before] * 8 and servers() == before


def test_server_killed_under_calls_is_restarted_once(worker: Worker) -> None:
    (pid,) = servers()

    async def stop_it() -> Message:
        os.kill(pid, signal.SIGSTOP)  # the calls are sent, and wait
        asyncio.get_running_loop().call_later(0.3, os.kill, pid, signal.SIGKILL)
        return calculate("12 * 7")

    policies = [ScriptedPolicy(stop_it, "done"), *(ScriptedPolicy(calculate("6 * 7"), "done") for _ in range(3))]
    assert worker.run(*policies) == ["done"] * 4
    assert [policy.tool_result for policy in policies] == ["84", "42", "42", "42"]
    (new,) = servers()
    assert new != pid


def test_server_found_dead_is_restarted(worker: Worker) -> None:
    os.kill(servers()[0], signal.SIGKILL)
    policy = ScriptedPolicy(calculate("12 * 7"), "done")
    assert worker.run(policy) == ["done"]
    assert policy.tool_result == "84"


# an MCP server of few lines, because importing the SDK takes longer than the test
FRAGILE = """
import json, os, sys

def note(word):
    with open(sys.argv[1], "a") as file:
        file.write(word + " ")

def tool(name, **hints):
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": hints}

def answer(method, params):
    if method == "initialize":
        about = {"name": "fragile", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [tool("die", idempotentHint=True), tool("die_once"), *map(tool, sys.argv[2:])]}
    note(params["name"])
    os._exit(1)

note("start")
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        known = request["method"] in ("initialize", "tools/list", "tools/call")
        said = {"result": answer(request["method"], request.get("params"))} if known else {
            "error": {"code": -32601, "message": "no such method"}}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}), flush=True)
"""


@pytest.fixture
def fragile(tmp_path: Path) -> dict[str, Any]:
    """Settings of a server that dies when called; it keeps a diary in `notes`, beside its script."""
    script = tmp_path / "fragile.py"
    script.write_text(FRAGILE)
    return {"name": "fragile", "command": sys.executable, "args": [str(script), str(tmp_path / "notes")]}


def test_a_server_that_keeps_dying_fails_the_rollout(tmp_path: Path, fragile: dict[str, Any]) -> None:
    async def run() -> None:
        async with math_agent(mcp_servers=[fragile]) as rollout:
            for tool in ("die_once", "die"):
                with pytest.raises(AgentError, match=f"'fragile' failed in a call of '{tool}'") as caught:
                    await rollout(TASK, ScriptedPolicy(call(tool, {}), "as if nothing had happened"))
                assert caught.value.kind == "tool_server"
            policy = ScriptedPolicy(calculate("12 * 7"), "84")
            assert await rollout(TASK, policy) == "84"  # the other server does not mind
            assert policy.tool_result == "84"

    before = servers()
    asyncio.run(run())
    # what is not idempotent is not repeated; the server is restarted when it is needed
    assert (tmp_path / "notes").read_text().split() == ["start", "die_once", "start", "die", "start", "die"]
    assert servers() == before and servers("fragile.py") == []


def test_a_hung_server_fails_the_rollout_and_ends_when_we_are_cancelled() -> None:
    async def run() -> None:
        async with math_agent(tool_timeout=0.3) as rollout:
            (pid,) = set(servers()) - before
            os.kill(pid, signal.SIGSTOP)
            start = time.monotonic()
            with pytest.raises(AgentError, match="timed out") as caught:
                await rollout(TASK, ScriptedPolicy(calculate("1")))
            assert caught.value.kind == "tool_server"
            assert time.monotonic() - start < 2
            hung.set()
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(run())
        waiting = asyncio.create_task(hung.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()  # again, while it waits for the server's end
        with pytest.raises(asyncio.CancelledError):
            await task

    before, hung = set(servers()), asyncio.Event()
    asyncio.run(cancel())
    assert set(servers()) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"comand": "python"}, "unknown key 'comand'. Did you mean 'command'?"),
        ({"name": "x"}, "give one of command and url"),
        ({"command": "a", "url": "b", "headers": {"K": "sk"}}, "give one of .* got the keys: command, url, headers$"),
    ],
)
def test_wrong_server_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        asyncio.run(math_agent(mcp_servers=[settings]).__aenter__())


@pytest.mark.parametrize("command", [["/does/not/exist"], [sys.executable, "-c", "raise SystemExit(1)"]])
def test_a_server_that_does_not_start(command: list[str]) -> None:
    async def run() -> None:
        settings = {"name": "x", "command": command[0], "args": command[1:]}
        async with ToolServer(*from_settings(settings), timeout=1):
            pass

    with pytest.raises(AgentError, match=r"MCP server 'x' did not start: (.*No such file|Connection closed)"):
        asyncio.run(run())


def test_a_rollout_that_outlives_the_agent_starts_no_server(fragile: dict[str, Any]) -> None:
    async def run() -> None:
        async with ToolServer(*from_settings(fragile), timeout=1) as server:
            tools = server.tools
        with pytest.raises(AgentError, match="was shut down"):
            await server.call(tools[0], {})
        assert servers("fragile.py") == []

    asyncio.run(run())


def test_two_servers_with_a_tool_of_one_name(fragile: dict[str, Any]) -> None:
    fragile["args"].append("calculate")

    async def run() -> None:
        async with math_agent(mcp_servers=[fragile]):
            pass

    before = servers()
    with pytest.raises(ComponentError, match="'calculator' and 'fragile' both offer a tool named 'calculate'"):
        asyncio.run(run())
    assert servers() == before and servers("fragile.py") == []
