"""What `rollouts.py` compares, one a process: `python rollout_rows.py ROW URL ROLLOUTS AT_ONCE [OPTION]`.

Each does the same: two model calls and one call of a calculator between them. Printed is one line of JSON: CPU
milliseconds a rollout, of this process and all that it started, after a warm-up. Imports are within the rows, since
each runs on the interpreter that has what it needs.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
QUESTION = "What is 12 times 7? Use the calculator."
INSTRUCTIONS = "Solve the problem with the calculator tool. Then output only the answer, like this: ### <answer> ###"
ANSWER = "### 84 ###"
SERVER = [str(Path(__file__).resolve().parent / "rollout_rows.py"), "server"]
"""A calculator as one writes it with the mcp package."""

One = Callable[[], Awaitable[str]]
Row = Callable[[str, str], contextlib.AbstractAsyncContextManager[One]]

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int = 0) -> float:
    """Of a process and all below it, the dead that were waited for among them."""
    parents, used = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)], used[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    total, todo = 0, [root or os.getpid()]
    while todo:
        pid = todo.pop()
        total += used.get(pid, 0)
        todo += [child for child, parent in parents.items() if parent == pid]
    return total / TICK


def printed(rollouts: int, cpu: float, seconds: float) -> None:
    print(json.dumps({"rollouts": rollouts, "cpu_ms": 1000 * cpu / rollouts, "seconds": seconds}), flush=True)


async def measured(row: Row, url: str, option: str, rollouts: int, at_once: int) -> None:
    async with row(url, option) as one:

        async def many(count: int) -> None:
            left = iter(range(count))

            async def worker() -> None:
                for _ in left:
                    said = await one()
                    if ANSWER not in said:
                        raise SystemExit(f"a wrong answer: {said!r}")

            await asyncio.gather(*(worker() for _ in range(at_once)))

        await many(min(at_once, rollouts))
        cpu, started = cpu_seconds(), time.perf_counter()
        await many(rollouts)
        printed(rollouts, cpu_seconds() - cpu, time.perf_counter() - started)


@contextlib.asynccontextmanager
async def floor(url: str, _: str) -> AsyncIterator[One]:
    """Two requests and the calculator's function, nothing kept: what any loop has to pay."""
    import aiohttp

    from guerdon_agents.calculator import TOOL
    from guerdon_agents.expression import evaluate

    function = {"name": "calculate", "description": TOOL["description"], "parameters": TOOL["inputSchema"]}
    tools = [{"type": "function", "function": function}]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one() -> str:
            messages: list[Any] = [
                {"role": "system", "content": INSTRUCTIONS},
                {"role": "user", "content": QUESTION},
            ]
            while True:
                body = {"model": "mock", "messages": messages, "tools": tools, "return_token_ids": True}
                async with http.post(url + "/chat/completions", json=body) as response:
                    reply = json.loads(await response.read())["choices"][0]["message"]
                if not reply["tool_calls"]:
                    return str(reply["content"])
                messages.append(reply)
                for call in reply["tool_calls"]:
                    value = evaluate(json.loads(call["function"]["arguments"])["expression"])
                    messages.append({"role": "tool", "tool_call_id": call["id"], "content": value})

        yield one


@contextlib.asynccontextmanager
async def guerdon(url: str, agent: str) -> AsyncIterator[One]:
    """One of guerdon's agents as the engine runs it: recorded in full, with token ids and logprobs."""
    from guerdon.gateway import serve_gateway
    from guerdon.recipe import Rollout
    from guerdon.rollout import Attempt, RolloutRunner
    from guerdon.rollout_worker import rarely_collecting
    from guerdon.task import Task
    from guerdon_agents import math_agent, tool_agent
    from guerdon_backends.openai_backend import openai

    opened: Any = {"math": math_agent.math_agent, "tool": tool_agent.tool_agent}[agent]
    async with (
        contextlib.AsyncExitStack() as stack,
        serve_gateway() as gateway,
        openai("mock", base_url=url, token_ids=True) as endpoint,
        opened(instructions=INSTRUCTIONS) as rollout,
    ):
        stack.enter_context(rarely_collecting())
        runner = RolloutRunner(rollout, agent, endpoint, gateway, Rollout(), {"temperature": 1.0}, "mock")

        async def one() -> str:
            trajectory = await runner.run(Attempt(Task("1", QUESTION), "train", 1, 0))
            if [len(t.prompt_ids) + len(t.reply_ids) + len(t.logprobs) for t in trajectory.turns] != [396, 552]:
                raise SystemExit(f"not all was recorded: {trajectory}")
            return trajectory.completion or ""

        yield one


@contextlib.asynccontextmanager
async def sdk(url: str, option: str) -> AsyncIterator[One]:
    """The OpenAI Agents SDK with its own MCP client: "shared" server and client, or each "anew" for every rollout."""
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, RunConfig, Runner
    from agents.mcp import MCPServerStdio
    from openai import AsyncOpenAI

    extra = {"return_token_ids": True, "logprobs": True}

    def server() -> Any:
        params: Any = {"command": sys.executable, "args": SERVER}
        return MCPServerStdio(params=params, cache_tools_list=True, client_session_timeout_seconds=60)

    def client() -> AsyncOpenAI:
        return AsyncOpenAI(base_url=url, api_key="none")

    async def run(server: Any, client: AsyncOpenAI) -> str:
        agent = Agent(
            name="math",
            instructions=INSTRUCTIONS,
            mcp_servers=[server],
            model=OpenAIChatCompletionsModel("mock", client),
            model_settings=ModelSettings(temperature=1.0, extra_body=extra),
        )
        result = await Runner.run(agent, QUESTION, run_config=RunConfig(tracing_disabled=True))
        return str(result.final_output)

    if option == "shared":
        async with server() as one_server:
            one_client = client()
            yield lambda: run(one_server, one_client)
        return

    async def anew() -> str:
        async with server() as own:
            return await run(own, client())

    yield anew


def server() -> None:
    """The calculator, written with the mcp package (2, or 1 where a peer has that)."""
    try:
        from mcp.server import MCPServer
    except ImportError:
        from mcp.server.fastmcp import FastMCP as MCPServer

    app = MCPServer("calculator")

    @app.tool()
    def calculate(expression: str) -> str:
        """Evaluates arithmetic, such as 12 * 7."""
        a, b = expression.split("*")
        return str(int(a) * int(b))

    app.run("stdio")


def trl(url: str, folder: str, rollouts: int, at_once: int) -> None:
    """trl's loop for asynchronous GRPO as its worker process runs it; the tool is a Python function in a thread."""
    import multiprocessing
    import threading
    import urllib.request

    os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from accelerate.state import PartialState

    PartialState(cpu=True)
    import datasets
    import trl
    from transformers import AutoTokenizer
    from trl.experimental.async_grpo.async_rollout_worker import _AsyncRolloutLoop

    def calculate(expression: str) -> str:
        """Evaluates arithmetic, such as 12 * 7.

        Args:
            expression: What to evaluate.
        """
        a, b = expression.split("*")
        return str(int(a) * int(b))

    def right(completions: Any, **_: Any) -> list[float]:
        return [float(ANSWER in str(c[-1]["content"])) for c in completions]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text()
    prompt = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": QUESTION}]
    call = json.dumps({"name": "calculate", "arguments": {"expression": "12 * 7"}})
    said = [f"<tool_call>\n{call}\n</tool_call><|im_end|>", f"The calculator says 84. {ANSWER}<|im_end|>"]
    first = tokenizer.apply_chat_template(prompt, tools=[calculate], add_generation_prompt=True, return_dict=False)
    script = {"replies": [tokenizer.encode(text) for text in said], "answered": len(first) + 10}
    urllib.request.urlopen(url + "/script", json.dumps(script).encode()).read()

    context = multiprocessing.get_context("spawn")
    done, metrics = context.Queue(), context.Queue(4096)
    loop = _AsyncRolloutLoop(
        model_name="mock",
        dataset=datasets.Dataset.from_list([{"prompt": prompt}] * 512),
        reward_funcs=[right],
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        rollout_buffer=done,
        model_version_value=context.Value("i", 0),
        heartbeat_value=context.Value("d", 0.0),
        failed_event=context.Event(),
        exception_info_queue=context.Queue(1),
        metrics_queue=metrics,
        tools=[calculate],
        max_inflight_tasks=at_once,
        vllm_server_url=url.removesuffix("/v1"),
        max_tokens=256,
        max_tool_calling_iterations=3,
    )

    def count() -> None:
        for n in range(at_once + rollouts):
            if n == at_once:
                cpu, started = cpu_seconds(), time.perf_counter()
            sample = done.get()
            if sample.metrics["reward"] != 1:
                os._exit(1)
            while not metrics.empty():
                metrics.get()
        printed(rollouts, cpu_seconds() - cpu, time.perf_counter() - started)
        os._exit(0)

    threading.Thread(target=count, daemon=True).start()
    loop.run()


def agl03(url: str, _: str, rollouts: int, at_once: int) -> None:
    """Agent Lightning 0.3 on the agent of its Unsloth example: trainer, store, runners, and its proxy for token ids."""
    os.environ |= {"OPENAI_AGENTS_DISABLE_TRACING": "1", "AGENTOPS_TELEMETRY_OPT_OUT": "1", "DO_NOT_TRACK": "1"}
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    from agentlightning import Trainer
    from agentlightning.adapter import LlmProxyTraceToTriplet
    from agentlightning.algorithm import Algorithm
    from agentlightning.litagent import rollout
    from agentlightning.llm_proxy import LLMProxy
    from agentlightning.store import InMemoryLightningStore
    from agentlightning.tracer import OtelTracer
    from agentlightning.types import LLM

    @rollout
    async def agent(task: dict[str, Any], llm: LLM) -> float:
        return float(ANSWER in await as_the_example(llm.endpoint, "none", task["input"]))

    class Batch(Algorithm):
        async def run(self, train_dataset: Any = None, val_dataset: Any = None) -> None:
            store, proxy = self.get_store(), self.get_llm_proxy()
            upstream = {"model": "hosted_vllm/mock", "api_base": url, "api_key": "none"}
            proxy.update_model_list([{"model_name": "mock", "litellm_params": upstream}])
            await proxy.restart()
            resources = await store.add_resources({"main_llm": proxy.as_resource()})

            async def batch(count: int) -> None:
                ids = []
                for _ in range(count):
                    task = {"input": QUESTION}
                    queued = await store.enqueue_rollout(input=task, mode="train", resources_id=resources.resources_id)
                    ids.append(queued.rollout_id)
                ended: Any = []
                while len(ended) < count:
                    await asyncio.sleep(0.1)
                    ended = await store.wait_for_rollouts(rollout_ids=ids, timeout=0.0)
                if not all(r.status == "succeeded" for r in ended):
                    raise SystemExit(f"not all succeeded: {[r.status for r in ended]}")

            await batch(at_once)
            cpu, started = cpu_seconds(os.getpid()), time.perf_counter()
            await batch(rollouts)
            printed(rollouts, cpu_seconds(os.getpid()) - cpu, time.perf_counter() - started)

    Trainer(
        n_runners=at_once,
        algorithm=Batch(),
        store=InMemoryLightningStore(thread_safe=True),
        tracer=OtelTracer(),
        adapter=LlmProxyTraceToTriplet(),
        port=free_port(),
        llm_proxy=LLMProxy(port=free_port()),
    ).fit(agent, train_dataset=[1])


async def as_the_example(url: str, key: str, question: str) -> str:
    """The math agent as in Agent Lightning's Unsloth example: a server and a client for each rollout."""
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner
    from agents.mcp import MCPServerStdio
    from openai import AsyncOpenAI

    params: Any = {"command": sys.executable, "args": SERVER}
    async with MCPServerStdio(params=params, client_session_timeout_seconds=60) as server:
        agent = Agent(
            name="math",
            instructions=INSTRUCTIONS,
            mcp_servers=[server],
            model=OpenAIChatCompletionsModel("mock", AsyncOpenAI(base_url=url, api_key=key)),
            model_settings=ModelSettings(temperature=1.0),
        )
        return str((await Runner.run(agent, question)).final_output)


class Agl1Agent:
    """The same for Agent Lightning 1.0, whose controller starts a process for each rollout."""

    async def run(self) -> None:
        import httpx

        os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
        key = os.environ["AGL_KEY"]
        said = await as_the_example(os.environ["AGL_OPENAI_BASE_URL"], key, os.environ["QUESTION"])
        event = {"event_type": "reward", "data": {"value": float(ANSWER in said)}}
        headers = {"Authorization": f"Bearer {key}"}
        httpx.post(os.environ["AGL_EVENT_URL"], json=event, headers=headers).raise_for_status()


def agl1(url: str, _: str, rollouts: int, at_once: int) -> None:
    """Agent Lightning 1.0: its server (store and gateway) and its local controller, polling five times a second."""
    import subprocess
    import tempfile

    import httpx

    programs = Path(sys.executable).parent
    env = {**os.environ, "PYTHONPATH": str(HERE), "PATH": f"{programs}:{os.environ['PATH']}"}
    address = f"http://127.0.0.1:{free_port()}"
    http = httpx.Client(base_url=address, headers={"Authorization": "Bearer none"}, timeout=60)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(program: str, *settings: str) -> None:
            log = stack.enter_context((Path(folder) / f"{program}.log").open("w"))
            command = [str(programs / program), *settings, f"hydra.run.dir={folder}", "hydra.output_subdir=null"]
            process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        def batch(name: str, count: int) -> None:
            local = {"agent_class": "rollout_rows:Agl1Agent", "env_map": {"QUESTION": "input.question"}}
            config = {"timeout_seconds": 120, "local": local}
            asked = [
                {"input": {"data_id": f"{name}{n}", "question": QUESTION}, "is_train": True, "config": config}
                for n in range(count)
            ]
            before = http.get("/api/rollouts/terminal", params={"after": 0, "limit": 1}).json()["total_terminal"]
            http.post("/api/rollouts", json=asked).raise_for_status()
            ended: Any = {"total_terminal": before}
            while ended["total_terminal"] < before + count:
                time.sleep(0.1)
                ended = http.get("/api/rollouts/terminal", params={"after": before, "limit": 1000}).json()
            if not all(item["state"] == "succeeded" for item in ended["items"]):
                raise SystemExit(f"not all succeeded: {ended['items']}")

        port = address.rpartition(":")[2]
        start("agl-server", "host=127.0.0.1", f"port={port}", "key=none", "default_proxy.model_name=mock")
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if http.get("/healthz").status_code == 200:
                    break
            time.sleep(0.2)
        http.post("/api/models", json=[{"model": "mock", "endpoint": url, "version": 0}]).raise_for_status()
        runner = [f"agl_server.url={address}", "agl_server.key=none", "local_runner.poll_interval=0.2"]
        start("agl-controller", "runner_type=local", *runner, f"local_runner.maximum_size={at_once}")
        batch("warm", 2)
        cpu, started = cpu_seconds(), time.perf_counter()
        batch("timed", rollouts)
        printed(rollouts, cpu_seconds() - cpu, time.perf_counter() - started)


def verifiers(url: str, _: str, rollouts: int, at_once: int) -> None:
    """verifiers 0.4 as its evaluation runs it: a process for each rollout, one tool server, its interception server."""
    import itertools
    import tempfile

    os.environ |= {
        "NO_KEY": "none",
        "VF_RUN_ID": "rollouts",
        "PYTHONPATH": str(HERE),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    from verifiers.v1.cli.resolve import narrow_config
    from verifiers.v1.clients import ModelContext
    from verifiers.v1.configs.cli.eval import EvalConfig
    from verifiers.v1.utils.loaders import load_environment
    from verifiers.v1.utils.trace_store import append_episode

    narrow = narrow_config(EvalConfig, ["--env.taskset.id", "rollout_taskset", "--env.agent.harness.id", "null"])
    client = {"type": "eval", "base_url": url, "api_key_var": "NO_KEY"}
    agent = {"harness": {"id": "null"}, "runtime": {"type": "subprocess"}}
    config = narrow.model_validate(
        {
            "env": {"taskset": {"id": "rollout_taskset"}, "agent": agent},
            "model": "mock",
            "client": client,
            "push": False,
            "rich": None,
        }
    )

    async def main(folder: Path) -> None:
        environment = load_environment(config.env)
        context = ModelContext(client=config.client, model=config.model, sampling=config.sampling)
        tasks, limit, lock = iter(environment.taskset), asyncio.Semaphore(at_once), asyncio.Lock()

        async def batch(count: int) -> None:
            episodes: list[Any] = []

            async def done(episode: Any) -> None:
                await append_episode(folder, episode, lock)
                episodes.append(episode)

            slots = [slot for task in itertools.islice(tasks, count) for slot in environment.slots(task, 1)]
            await asyncio.gather(*(environment.run_slot(slot, context, limit, done) for slot in slots))
            rewards = [trace.reward for episode in episodes for trace in episode.traces]
            if rewards != [1.0] * count:
                raise SystemExit(f"not all were right: {[t.errors for e in episodes for t in e.traces]}")

        async with environment.serving():
            await batch(2)
            cpu, started = cpu_seconds(), time.perf_counter()
            await batch(rollouts)
            printed(rollouts, cpu_seconds() - cpu, time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


ROWS: dict[str, Row] = {"floor": floor, "guerdon": guerdon, "sdk": sdk}
PROGRAMS: dict[str, Callable[[str, str, int, int], None]] = {
    "trl": trl,
    "agl03": agl03,
    "agl1": agl1,
    "verifiers": verifiers,
}

if __name__ == "__main__":
    if sys.argv[1] == "server":
        server()
    else:
        name, url, rollouts, at_once, option = [*sys.argv[1:], ""][:5]
        if name in PROGRAMS:
            PROGRAMS[name](url, option, int(rollouts), int(at_once))
        else:
            asyncio.run(measured(ROWS[name], url, option, int(rollouts), int(at_once)))
