"""The chat agent; the math and tool agents with a scripted model, the real SDK and real MCP servers."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, StdioServerParameters

from guerdon.errors import AgentError, ComponentError
from guerdon.task import Message, Task
from guerdon_agents import calculator
from guerdon_agents.chat import chat
from guerdon_agents.math_agent import INSTRUCTIONS, math_agent
from guerdon_agents.session import Late, Lost, text_of
from guerdon_agents.stdio_session import StdioSession
from guerdon_agents.tool_agent import tool_agent
from guerdon_agents.tool_server import ToolServer, from_settings

TASK = Task("1", "What is 12 times 7?")
Step = str | Message | Callable[[], Awaitable[Message]]
Rollout = Callable[[Task, Any], Awaitable[str]]
Open = Callable[..., AbstractAsyncContextManager[Rollout]]


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
    """An event loop with one agent in it, as the engine's worker has."""

    def __init__(self, agent: Open) -> None:
        self.name = agent.__name__.removesuffix("_agent")
        self.loop = asyncio.Runner()
        self.agent = agent(max_turns=3)
        self.rollout = self.loop.run(self.agent.__aenter__())

    def run(self, *policies: ScriptedPolicy) -> list[str]:
        async def all_of_them() -> list[str]:
            return await asyncio.gather(*(self.rollout(TASK, policy) for policy in policies))

        return self.loop.run(all_of_them())

    def close(self) -> None:
        self.loop.run(self.agent.__aexit__(None, None, None))
        self.loop.close()


@pytest.fixture(scope="module", params=[math_agent, tool_agent], ids=["math", "tool"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    worker = Worker(request.param)
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
        "import sys, inspect, guerdon_agents, guerdon_agents.chat, guerdon_agents.tool_agent\n"
        "import guerdon_agents.math_agent as m\n"
        "names = []\n"
        "guerdon_agents.register_agents(lambda name, target, extra='': names.append((name, extra)))\n"
        "inspect.signature(m.math_agent)\n"
        "assert names == [('chat', ''), ('math', 'agents'), ('tool', '')], names\n"
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
    ("steps", "finish_reason", "kind"),
    [([calculate("1")] * 4, "stop", "max_turns"), ([""], "length", "model_behavior")],
    ids=["max turns", "nothing but length"],
)
def test_failure_has_a_kind(worker: Worker, steps: list[Step], finish_reason: str, kind: str) -> None:
    policy = ScriptedPolicy(*steps, finish_reason=finish_reason)
    with pytest.raises(AgentError) as caught:
        worker.run(policy)
    assert caught.value.kind == kind
    assert len(policy.asked) <= 3


@pytest.mark.parametrize("arguments", ['{"expression": "\\ud800"}', "[" * 100_000], ids=["half a pair", "too deep"])
def test_arguments_that_cannot_be_sent(worker: Worker, arguments: str) -> None:
    """`tool` tells the model; the SDK cannot even keep them."""
    policy = ScriptedPolicy(call("calculate", arguments), "sorry")
    if worker.name == "tool":
        assert worker.run(policy) == ["sorry"]
        assert policy.tool_result == "Error: the arguments of calculate must be a JSON object."
    else:
        with pytest.raises(AgentError) as caught:
            worker.run(policy)
        assert caught.value.kind == "model_behavior"


def test_a_tool_call_that_cannot_be_answered() -> None:
    async def run() -> None:
        async with tool_agent() as rollout:
            reply = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function"}]}
            await rollout(TASK, ScriptedPolicy(reply))

    with pytest.raises(AgentError, match="without id, name or arguments") as caught:
        asyncio.run(run())
    assert caught.value.kind == "model_behavior"


def test_the_tool_agent_needs_no_extra() -> None:
    code = (
        "import asyncio, sys\n"
        "heavy = {'mcp', 'mcp_types', 'agents', 'openai', 'anyio', 'httpx'}\n"
        "for name in heavy: sys.modules[name] = None\n"
        "from guerdon_agents.tool_agent import tool_agent\n"
        "class Policy:\n"
        "    async def complete(self, messages, *, tools):\n"
        "        if messages[-1]['role'] == 'tool': return reply(content=messages[-1]['content'])\n"
        "        function = {'name': 'calculate', 'arguments': '{\"expression\": \"6 * 7\"}'}\n"
        "        return reply(content=None, tool_calls=[{'id': '1', 'type': 'function', 'function': function}])\n"
        "def reply(**message): return {'choices': [{'index': 0, 'message': message, 'finish_reason': 'stop'}]}\n"
        "async def main():\n"
        "    from guerdon.task import Task\n"
        "    async with tool_agent() as rollout: assert await rollout(Task('1', '?'), Policy()) == '42'\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
            assert time.monotonic() - start < 20
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


# what the mcp package's own server sends, over both transports
SDK_SERVER = """
import sys
import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError

app = MCPServer("sdk", log_level="WARNING")

@app.tool()
def add(a: int, b: int) -> int:
    return a + b

@app.tool()
def refuse() -> str:
    raise ToolError("not today")

@app.tool()
def picture() -> Image:
    return Image(data=b"x", format="png")

@app.tool()
async def nap(seconds: float) -> str:
    await anyio.sleep(seconds)
    return "slept"

if sys.argv[1] == "stdio":
    app.run("stdio")
else:
    app.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.fixture
def sdk_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings of an MCP server written with the mcp package, reached as the test's parameter says."""
    script = tmp_path / "sdk_server.py"
    script.write_text(SDK_SERVER)
    if request.param == "stdio":
        env = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
        yield {"name": "sdk", "command": sys.executable, "args": [str(script), "stdio"], "env": env}
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen([sys.executable, str(script), str(port)]) as process:
        try:
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield {"name": "sdk", "url": f"http://127.0.0.1:{port}/mcp"}
        finally:
            process.terminate()


@pytest.mark.parametrize("sdk_server", ["stdio", "http"], indirect=True)
def test_a_server_of_the_mcp_package(sdk_server: dict[str, Any]) -> None:
    async def run() -> None:
        async with ToolServer(*from_settings(sdk_server), timeout=1) as server:
            tools = {tool.name: tool for tool in server.tools}
            assert tools["add"].schema["required"] == ["a", "b"]
            assert await tools["add"]('{"a": 2, "b": 3}') == "5"
            assert "not today" in await tools["refuse"]("{}")
            assert "a" in await tools["add"]('{"b": 3}') and "validation error" in await tools["add"]('{"b": 3}')
            assert await tools["picture"]("") == "[image]"
            both = asyncio.gather(tools["nap"]('{"seconds": 0.5}'), tools["nap"]('{"seconds": 0.5}'))
            started = time.monotonic()
            assert await both == ["slept", "slept"]
            assert time.monotonic() - started < 0.9  # at once
            with pytest.raises(AgentError, match=r"'nap': .*[Tt]imed out") as caught:
                await tools["nap"]('{"seconds": 60}')
            assert caught.value.kind == "tool_server"
            assert await tools["add"]('{"a": 2, "b": 4}') == "6"  # by a new session

    asyncio.run(run())


# sends what a client need not expect, answers when it likes, and keeps what it is sent in a file
RUDE = """
import json, sys

def send(message):
    text = json.dumps({"jsonrpc": "2.0", **message}) + "\\n"
    for part in (text[:7], text[7:]):
        print(part, end="", flush=True)

held = []
for line in sys.stdin:
    with open(sys.argv[1], "a") as notes:
        notes.write(line)
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        print("Welcome!\\n[1]\\n", flush=True)
        send({"id": number, "result": {"protocolVersion": sys.argv[2], "capabilities": {}}})
    elif method == "tools/list" and "cursor" not in message["params"]:
        tool = {"name": "echo", "inputSchema": {"type": "object"}}
        send({"id": number, "result": {"tools": [tool], "nextCursor": "2"}})
    elif method == "tools/list":
        send({"id": number, "result": {"tools": [{"name": "hang", "inputSchema": {"type": "object"}}]}})
    elif method == "tools/call" and message["params"]["name"] == "echo":
        held.append(message)
        send({"method": "notifications/message", "params": {"level": "info", "data": "hm"}})
        if len(held) == 2:
            send({"id": "mine", "method": "ping"})
            send({"id": "yours", "method": "sampling/createMessage", "params": {}})
            for late in reversed(held):
                said = late["params"]["arguments"]["say"]
                send({"id": late["id"], "result": {"content": [{"type": "text", "text": said}]}})
            send({"id": late["id"], "result": {"content": []}})
            send({"id": 4711, "result": {}})
    elif method == "tools/call":
        pass
"""


@pytest.fixture
def rude(tmp_path: Path) -> Callable[[str], StdioSession]:
    script = tmp_path / "rude.py"
    script.write_text(RUDE)
    return lambda version: StdioSession(sys.executable, [str(script), str(tmp_path / "notes"), version])


def test_a_session_with_a_rude_server(tmp_path: Path, rude: Callable[[str], StdioSession]) -> None:
    def sent() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]

    async def run() -> None:
        async with rude("2025-06-18") as session:
            assert [tool["name"] for tool in await session.list_tools()] == ["echo", "hang"]
            results = await asyncio.gather(*(session.call_tool("echo", {"say": word}, 5) for word in ("päng", "b")))
            assert [text_of(result) for result in results] == ["päng", "b"]
            with pytest.raises(Late, match=r"timed out after 0\.1 s"):
                await session.call_tool("hang", {}, 0.1)
            left = asyncio.create_task(session.call_tool("hang", {}, 60))
            await asyncio.sleep(0.05)
            left.cancel()
            while len(sent()) < 12:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [m["method"] for m in sent()[:2]] == ["initialize", "notifications/initialized"]
    answers = {m["id"]: m for m in sent() if "method" not in m}
    assert answers["mine"]["result"] == {} and answers["yours"]["error"]["code"] == -32601
    hanging = [m["id"] for m in sent() if m.get("params", {}).get("name") == "hang"]
    cancelled = [m["params"]["requestId"] for m in sent() if m.get("method") == "notifications/cancelled"]
    assert len(hanging) == 2 and cancelled == hanging


def test_a_version_of_the_protocol_that_is_not_known(rude: Callable[[str], StdioSession]) -> None:
    async def run() -> None:
        async with rude("3000-01-01"):
            pass

    with pytest.raises(Lost, match="speaks version '3000-01-01'"):
        asyncio.run(run())
    assert servers("rude.py") == []


MODERN_ONLY = """
import sys
import guerdon_agents.calculator as calculator

real = calculator.result

def result(method, params):
    if not calculator.enveloped(params):
        raise calculator.Refusal(-32022, "Unsupported protocol version", supported=["2026-07-28"])
    return real(method, params)

calculator.result = result
calculator.main(sys.stdin, calculator.write)
"""


def test_a_server_without_the_handshake() -> None:
    async def run() -> None:
        env = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
        async with StdioSession(sys.executable, ["-c", MODERN_ONLY], env) as session:
            assert [tool["name"] for tool in await session.list_tools()] == ["calculate"]
            assert text_of(await session.call_tool("calculate", {"expression": "6 * 7"}, 5)) == "42"

    asyncio.run(run())


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
def test_the_calculator_with_the_mcp_package(mode: str, version: str) -> None:
    env = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    server = StdioServerParameters(command=sys.executable, args=["-m", "guerdon_agents.calculator"], env=env)

    async def run() -> None:
        async with Client(server, mode=mode) as client:
            assert client.session.protocol_version == version
            (tool,) = (await client.list_tools()).tools
            assert tool.annotations and tool.annotations.read_only_hint and tool.annotations.idempotent_hint
            result = await client.call_tool("calculate", {"expression": "6 * 7"})
            assert (result.content[0].text, result.is_error) == ("42", False)
            result = await client.call_tool("calculate", {"expression": "1/0"})
            assert (result.content[0].text, result.is_error) == ("Error: division by zero", True)
            with pytest.raises(MCPError, match="Unknown tool: pray"):
                await client.call_tool("pray", {})
            with pytest.raises(MCPError, match="Method not found"):
                await client.list_prompts()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nonsense", -32700),
        ("[" * 100_000, -32700),
        ("[]", -32600),
        ('{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "tools/call"}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}', -32601),
        (
            '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": '
            '{"_meta": {"io.modelcontextprotocol/protocolVersion": "3000-01-01"}}}',
            -32022,
        ),
        ('{"jsonrpc": "2.0", "id": 1, "method": "ping"}', None),
        ('{"jsonrpc": "2.0", "method": "notifications/initialized"}', None),
    ],
)
def test_what_the_calculator_answers(line: str, code: int | None) -> None:
    said = calculator.answer(line)
    assert (said or {}).get("error", {}).get("code") == code


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [], "structuredContent": {"sum": 5}}, '{"sum": 5}'),
        ({"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "in it"}}]}, "in it"),
        ({"content": [{"type": "resource_link", "uri": "file:///a", "name": "a"}]}, "[resource_link file:///a]"),
        ({"content": [{"type": "audio", "data": ""}]}, "[audio]"),
        ({"content": [{"type": "text", "text": "half \ud800"}]}, "half ?"),
        ({}, ""),
    ],
)
def test_a_result_as_text(result: dict[str, Any], text: str) -> None:
    assert text_of(result) == text


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


def test_the_benchmark_of_rollouts() -> None:
    """Its model server and its row of the tool agent, so that they cannot rot."""
    folder = Path(__file__).parent / "benchmarks"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    with subprocess.Popen([sys.executable, str(folder / "mock_model.py"), port]) as model:
        try:
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(port))):
                    break
                time.sleep(0.1)
            row = [str(folder / "rollout_rows.py"), "guerdon", f"http://127.0.0.1:{port}/v1", "4", "2", "tool"]
            ran = subprocess.run([sys.executable, *row], check=True, stdout=subprocess.PIPE, text=True)
        finally:
            model.kill()
    assert json.loads(ran.stdout)["rollouts"] == 4
