"""Where rollouts meet what is not theirs: other callers' mistakes, forked processes, proxies, edited files."""

import asyncio
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import chat_server
import pytest
from chat_server import adds
from command import guerdon, wait_until, write_recipe

from guerdon import worker_process
from guerdon.errors import AgentError, BackendError
from guerdon.gateway import Gateway, serve_gateway
from guerdon.http_endpoint import HttpEndpoint
from guerdon.local_queue import LocalQueue
from guerdon.policy import Policy
from guerdon.queue import Item, Lease, Outcome, Queue
from guerdon.queue_server import queue_app
from guerdon.recipe import Rollout
from guerdon.rollout import Attempt, RolloutRunner
from guerdon.rollout_worker import RolloutWorker
from guerdon.store import Run
from guerdon.task import Task
from guerdon.trajectory import Failure, Trajectory
from guerdon.worker_process import agents_of
from guerdon_agents.stdio_session import StdioSession

SPEC = {"rollout": {"tries": 3, "timeout": 60}}


def items(*names: str) -> list[Item]:
    return [Item(name, "{}", "train", 1, 0, 60.0) for name in names]


def test_a_call_that_the_queue_cannot_do_is_no_others_affair(tmp_path: Path) -> None:
    async def run() -> None:
        queue = LocalQueue(Queue(tmp_path / "queue.db"))
        await queue.put("s", SPEC, items("a", "b"))
        good, bad = await queue.lease("w", 2, 60)
        calls = [queue.finish("w", [Outcome(good.key, "", "1")]), queue.finish("w", [Outcome(bad.key, "", "\ud800")])]
        done, failed = await asyncio.gather(*calls, return_exceptions=True)
        assert done is None and isinstance(failed, UnicodeEncodeError)
        assert [r.id for r in await queue.results("s", 0)] == ["a"]
        await queue.aclose()

    asyncio.run(run())


def test_nothing_is_acknowledged_after_a_commit_that_failed(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.db")
    queue._db.executescript(
        "pragma foreign_keys = on; create table a (id integer primary key);"
        "create table b (a references a deferrable initially deferred)"
    )
    with pytest.raises(sqlite3.IntegrityError), queue.transaction():
        queue._db.execute("insert into b values (1)")  # which only the commit finds wrong
    queue.put("s", SPEC, items("a"))
    assert Queue(tmp_path / "queue.db").counts("s")["queued"] == 1


def test_nothing_is_read_for_those_without_the_token() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/queue/put", "headers": [(b"authorization", b"Bearer no")]}
    asyncio.run(queue_app(LocalQueue(Queue()), "the-token")(scope, receive, send))
    assert sent[0]["status"] == 401


def test_a_rollout_that_is_given_again_to_the_worker_that_has_it(tmp_path: Path) -> None:
    """The engine is stopped and goes on, sooner than the worker hears of it."""
    began, ended = list[int](), list[int]()

    async def roll(lease: Lease) -> Trajectory:
        began.append(len(began))
        number = began[-1]
        try:
            if number == 0:
                await asyncio.sleep(60)
        finally:
            ended.append(number)
        return Trajectory("a", "t", "train", 1, 0, "", "", completion="yes")

    async def run() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        queue = LocalQueue(Queue(tmp_path / "queue.db"))
        worker = RolloutWorker(queue, roll, name="w", concurrency=2, lease=60)
        working = asyncio.create_task(worker.run())
        await queue.put("s", SPEC, items("a"))
        while not began:
            await asyncio.sleep(0.01)
        await queue.cancel("s")
        await queue.put("s", SPEC, items("a"))
        assert [r.id for r in await queue.results("s", 0, wait=10)] == ["a"]
        while len(ended) < 2:
            await asyncio.sleep(0.01)
        working.cancel()
        await asyncio.wait([working])
        await queue.aclose()
        assert not complaints and not worker.running

    asyncio.run(asyncio.wait_for(run(), 20))


AGENT = """\
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path

@asynccontextmanager
async def agent(*, number: int = 0):
    "Says which text its file had; slow to close."
    async def roll(task, policy):
        return "first"
    yield roll
    await asyncio.sleep(0.2)


@asynccontextmanager
async def leaves(*, number: int = 0):
    "Raises what is no Exception."
    raise asyncio.CancelledError
    yield
"""


def lease_of(folder: Path, agent: Any, url: str = "http://127.0.0.1:9/v1") -> Lease:
    import yaml

    own = {"model": "-", "tasks": {"path": "-"}, "rewards": ["-"], "agent": agent}
    spec = {
        "recipe": yaml.safe_dump(own),
        "folder": str(folder),
        "model": "m",
        "serves": "m",
        "sampling": {},
        "expose": [],
        "url": url,
        "rollout": {"tries": 3, "timeout": 20.0},
    }
    return Lease(spec, 1, "s", "a", '{"id": "t", "prompt": "?"}', "train", 1, 0, 1)


def completions(folder: Path, monkeypatch: pytest.MonkeyPatch, *rounds: list[Lease]) -> list[list[Any]]:
    """What comes of leases, of each round's at once; no agent is kept for longer than it is used."""
    monkeypatch.setattr(worker_process, "IDLE_SECONDS", -1.0)

    async def run() -> list[list[Any]]:
        done = []
        async with agents_of(Gateway(), "the-token") as agents:
            for leases in rounds:
                found = await asyncio.gather(*map(agents.roll, leases))
                done.append([t.completion or (t.failure and t.failure.message) for t in found])
        return done

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_agents_that_nobody_uses_are_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts.py").write_text(AGENT)
    first, second, third, fourth = (lease_of(tmp_path, {"./parts.py:agent": {"number": i}}) for i in range(4))
    assert completions(tmp_path, monkeypatch, [first, second], [third, fourth]) == [["first"] * 2] * 2


def test_an_agent_that_is_edited_between_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "parts.py"
    file.write_text(AGENT)
    monkeypatch.setattr(worker_process, "IDLE_SECONDS", 300.0)

    async def run() -> None:
        async with agents_of(Gateway(), "the-token") as agents:
            assert (await agents.roll(lease_of(tmp_path, "./parts.py:agent"))).completion == "first"
            file.write_text(AGENT.replace('"first"', '"second"'))
            os.utime(file, ns=(1, 1))
            next_engine = lease_of(tmp_path, "./parts.py:agent", "http://127.0.0.1:10/v1")
            assert (await agents.roll(next_engine)).completion == "second"

    asyncio.run(run())


def test_an_agent_that_is_cancelled_as_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts.py").write_text(AGENT)
    ((said,),) = completions(tmp_path, monkeypatch, [lease_of(tmp_path, "./parts.py:leaves")])
    assert "CancelledError" in said


def test_a_worker_that_lacks_something_says_where(tmp_path: Path) -> None:
    async def run() -> None:
        async with agents_of(Gateway(), "the-token") as agents:
            trajectory = await agents.roll(lease_of(tmp_path, "./not_here.py:agent"))
            assert trajectory.failure and trajectory.failure.kind == "agent_start"
            assert "not_here.py" in trajectory.failure.message and "process" in trajectory.failure.message

    asyncio.run(run())


def test_a_worker_goes_on_saying_that_it_lives() -> None:
    """Whatever a call comes to."""
    beats: list[bytes] = []

    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            waits = self.path.endswith("lease")
            if waits:
                time.sleep(0.1)
            elif b'"seconds":0' not in asked:
                beats.append(asked)
            answer = b'{"specs": {}, "leases": []}' if waits else b"not JSON" if len(beats) == 1 else b"[]"
            self.send_response(401 if len(beats) == 2 and not waits else 200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    code = """
import sys
from guerdon import worker_process
worker_process.BEAT_SECONDS = 0.1
worker_process.work(sys.argv[1], "the-token")
"""
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        worker = subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: len(beats) >= 4, 30)
        finally:
            worker.terminate()
            said = worker.communicate(timeout=30)[1]
            server.shutdown()
    assert "saying that this worker lives failed" in said and "Traceback" not in said


def test_hundreds_of_connections_are_not_too_many_files() -> None:
    """A shell's usual limit is 1024, of which each rollout has two or three."""
    code = """
import asyncio, resource
from guerdon.gateway import serve_gateway
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

async def main():
    async with serve_gateway():
        print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

asyncio.run(main())
"""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(ran.stdout) == (65536 if hard < 0 else min(hard, 65536))


def test_a_process_that_is_forked_in_a_write_does_not_hold_up_the_next(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "r", "", {})
    heirs: list[subprocess.Popen[bytes]] = []

    def fork() -> int:
        for fd in Path("/proc/self/fd").iterdir():
            if str(fd.resolve()).endswith(".store.db.lock"):
                heirs.append(subprocess.Popen(["sleep", "30"], pass_fds=[int(fd.name)]))
        return 1

    try:
        run.log("s", 1, {})
        assert run._writer._db
        run._writer._db.create_function("fork", 0, fork)
        run._writer.write("insert into metrics (at, stage, step, data) values (fork(), ?, 2, '{}')", [("s",)])
        assert len(heirs) == 1
        started = time.monotonic()
        run.log("s", 3, {})
        assert time.monotonic() - started < 10 and len(run.metrics()) == 3
    finally:
        for heir in heirs:
            heir.kill()
            heir.wait()
    run.close()


def test_what_a_tool_servers_wrapper_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {pid}; exec {sys.executable} -m guerdon_agents.calculator"

    async def run() -> None:
        async with StdioSession("sh", ["-c", script], {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}) as session:
            assert await session.list_tools()

    asyncio.run(run())
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


def test_servers_of_this_machine_are_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def ask(url: str) -> str:
        endpoint = HttpEndpoint(url, "m", "", timeout=10, retries=0, token_ids=False)
        body = {"messages": [{"role": "user", "content": "What is 1 + 1?"}]}
        try:
            reply = await endpoint.complete(body, Task("t", "?"))
            return str(reply["choices"][0]["message"]["content"])
        finally:
            await endpoint.aclose()

    with chat_server.serve(adds) as server:
        assert "2" in asyncio.run(ask(server.base_url))


# -- why an agent failed ----------------------------------------------------------------------------------------------

BUSY = BackendError('it answered 503: "it\'s busy"\nGave up after 2 attempts \N{EM DASH} all in vain.', kind="http_503")


class Refuses:
    """An endpoint that answers only those who ask whether it does, once it has refused another."""

    model = "m"

    def __init__(self) -> None:
        self.refused = asyncio.Event()

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        if body["messages"][0]["content"] != "Are you there?":
            self.refused.set()
            raise BUSY
        await self.refused.wait()
        return chat_server.completion("yes")


async def plainly(policy: Policy, content: str = "?") -> Any:
    return await policy.complete([{"role": "user", "content": content}])


async def by_openai(policy: Policy, stream: bool = False) -> Any:
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=policy.base_url, api_key=policy.api_key) as client:
        return await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "?"}], stream=stream
        )


def as_json(policy: Policy) -> tuple[str, dict[str, Any], dict[str, str]]:
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    return f"{policy.base_url}/chat/completions", body, {"Authorization": f"Bearer {policy.api_key}"}


async def by_httpx(policy: Policy) -> None:
    httpx = pytest.importorskip("httpx")
    url, body, headers = as_json(policy)
    async with httpx.AsyncClient() as client:
        (await client.post(url, json=body, headers=headers)).raise_for_status()


async def by_aiohttp(policy: Policy) -> None:
    url, body, headers = as_json(policy)
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await session.post(url, json=body, headers=headers)


async def by_urllib(policy: Policy) -> None:
    url, body, headers = as_json(policy)
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        await asyncio.to_thread(urllib.request.urlopen, request)
    except urllib.error.HTTPError as error:
        with error:
            raise


ASKING: dict[str, Callable[[Policy], Awaitable[Any]]] = {
    "policy": plainly,
    "openai": by_openai,
    "openai, streamed": lambda policy: by_openai(policy, stream=True),
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
    "urllib": by_urllib,
}


async def as_it_is(asking: Awaitable[Any]) -> None:
    await asking


async def in_a_group(asking: Awaitable[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(as_it_is(asking))


async def wrapped(asking: Awaitable[Any]) -> None:
    try:
        await in_a_group(asking)
    except Exception:
        raise RuntimeError("the framework gives up") from None


async def retold(asking: Awaitable[Any]) -> None:
    said = ""
    try:
        await asking
    except Exception as error:
        said = json.dumps({"url": str(getattr(error, "url", "")), "error": str(error)})
    raise RuntimeError(f"the framework says: {said}")


def failure_of(agent: Callable[[Task, Policy], Awaitable[str]]) -> Failure:
    async def run() -> Failure | None:
        async with serve_gateway() as gateway:
            runner = RolloutRunner(agent, "agent", Refuses(), gateway, Rollout(timeout=20), {}, "m")  # type: ignore[arg-type]
            return (await runner.run(Attempt(Task("t", "?"), "train", 1, 0))).failure

    failure = asyncio.run(run())
    assert failure
    return failure


@pytest.mark.parametrize("raising", [as_it_is, in_a_group, wrapped, retold])
@pytest.mark.parametrize("asking", ASKING)
def test_a_request_that_ended_the_agent_is_why_it_failed(
    asking: str, raising: Callable[[Awaitable[Any]], Awaitable[None]]
) -> None:
    """However a client puts it; of this kind are those that are tried again."""

    async def agent(task: Task, policy: Policy) -> str:
        await raising(ASKING[asking](policy))
        return "not reached"

    assert failure_of(agent) == Failure("http_503", str(BUSY))


@pytest.mark.parametrize("asking", ASKING)
def test_an_agents_own_error_is_not_hidden_behind_a_request_that_it_gave_up(asking: str) -> None:
    async def agent(task: Task, policy: Policy) -> str:
        with suppress(Exception):
            await ASKING[asking](policy)
        raise KeyError("my own bug")

    line = agent.__code__.co_firstlineno + 3
    own = f"KeyError: 'my own bug' (test_rollout_edges.py, line {line})"
    assert failure_of(agent) == Failure("agent", f"{own} (its last request had failed: {BUSY})")


def test_a_program_that_ends_after_a_failed_request_ends_for_that() -> None:
    """It does not say why; and where the request could be tried again, so can the rollout."""

    async def agent(task: Task, policy: Policy) -> str:
        with suppress(Exception):
            await plainly(policy)
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)
        return "not reached"

    assert failure_of(agent) == Failure("http_503", str(BUSY))


def test_an_agents_own_kind_of_failure_stays() -> None:
    async def agent(task: Task, policy: Policy) -> str:
        with suppress(Exception):
            await plainly(policy)
        raise AgentError("no answer", kind="max_turns")

    assert failure_of(agent) == Failure("max_turns", f"no answer (its last request had failed: {BUSY})")


def test_a_request_that_failed_before_another_succeeded_is_not_mentioned() -> None:
    async def agent(task: Task, policy: Policy) -> str:
        try:
            await plainly(policy)
        except BackendError:
            await plainly(policy, "Are you there?")
            raise ValueError("mine")  # noqa: B904  as agents do

    failure = failure_of(agent)
    assert failure.kind == "agent" and re.fullmatch(
        r"ValueError: mine \(test_rollout_edges.py, line \d+\)", failure.message
    )


@pytest.mark.parametrize("asking", ["policy", "urllib"])
def test_a_request_that_succeeds_beside_one_that_fails_does_not_excuse_it(asking: str) -> None:
    async def agent(task: Task, policy: Policy) -> str:
        there = asyncio.create_task(plainly(policy, "Are you there?"))
        await asyncio.sleep(0)
        (refused, _) = await asyncio.gather(ASKING[asking](policy), there, return_exceptions=True)
        raise RuntimeError("one of two failed") from refused

    assert failure_of(agent) == Failure("http_503", str(BUSY))


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def in_the_library() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        raise RuntimeError("bad plan.") from error


def tells_its_cause_itself() -> None:
    try:
        raise OSError("no disk")
    except OSError as error:
        raise RuntimeError(f"cannot write: {error}") from error


def group() -> None:
    raise ExceptionGroup("several", [ExceptionGroup("inner", [ValueError("first")]), ValueError("second")])


def kind_in_a_group() -> None:
    raise ExceptionGroup("several", [AgentError("it hung", kind="tool_server")])


def wordless() -> None:
    raise TimeoutError


def mute() -> None:
    raise Mute


@pytest.mark.parametrize(
    ("does", "kind", "said"),
    [
        (lambda: json.loads("{"), "agent", "JSONDecodeError: Expecting property name .* \\(HERE, line LINE\\)"),
        (in_the_library, "agent", r"RuntimeError: bad plan. JSONDecodeError: Expecting .* \(HERE, line \d+\)"),
        (tells_its_cause_itself, "agent", r"RuntimeError: cannot write: no disk \(HERE, line \d+\)"),
        (group, "agent", r"ValueError: first \(HERE, line \d+\)"),
        (kind_in_a_group, "tool_server", "it hung"),
        (wordless, "agent", r"TimeoutError \(HERE, line \d+\)"),
        (mute, "agent", r"Mute, which cannot be shown \(HERE, line \d+\)"),
    ],
)
def test_what_an_agent_raised_is_told_with_its_place_and_cause(does: Callable[[], None], kind: str, said: str) -> None:
    async def agent(task: Task, policy: Policy) -> str:
        does()
        return "not reached"

    failure = failure_of(agent)
    said = said.replace("HERE", "test_rollout_edges.py").replace("LINE", str(does.__code__.co_firstlineno))
    assert failure.kind == kind and re.fullmatch(said, failure.message), failure.message


# -- what a trainer is handed -----------------------------------------------------------------------------------------

TRAINED = """
import json
from contextlib import asynccontextmanager
from guerdon.traits import traits

class Endpoint:
    model = "fake"
    async def complete(self, body, task):
        ids = [ord(c) for m in body["messages"] for c in m["content"]]
        message = {"role": "assistant", "content": "7"}  # what was sampled is 7.
        return {"prompt_token_ids": ids, "choices": [{"message": message, "token_ids": [55, 46]}]}
    async def load_adapter(self, path):
        pass

@asynccontextmanager
async def backend(model):
    yield Endpoint()

async def ask(messages, policy, **own):
    return (await policy.complete(messages, **own))["choices"][0]["message"]["content"]

@traits(single_turn=True)
async def plain(task, policy):
    return (await ask(task.messages, policy, max_tokens=1000, temperature=0.3)).strip()

@traits(single_turn=True)
async def takes_out(task, policy):
    return (await ask(task.messages, policy)).split("<answer>")[-1]

@traits(single_turn=True)
async def raises(task, policy):
    return str(int(await ask(task.messages, policy)))

@traits(single_turn=True)
async def stops(task, policy):
    return await ask(task.messages, policy, stop=["."], max_tokens=5)

@traits(single_turn=True)
async def twice(task, policy):
    await ask(task.messages, policy)
    return await ask(task.messages, policy)

async def stop_and_go(task, policy):
    messages = task.messages
    for _ in range(2):
        said = await ask(messages, policy, stop=["."])
        messages = [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": "Go on."}]
    return said

@traits(rolls_out=True)
def trainer(job, *, rollout: str = "auto"):
    tasks = [json.loads(line)["task"] for line in job.rows.open()]
    job.rollouts.generate(tasks, None, 1)
    job.output.mkdir()
"""


def train(folder: Path, agent: str, rollout: str = "auto", code: int = 0) -> str:
    (folder / "mine.py").write_text(TRAINED)
    trainer = {"./mine.py:trainer": {"rollout": rollout}}
    write_recipe(folder, "", trainer=trainer, backend="./mine.py:backend", agent=f"./mine.py:{agent}")
    ran = guerdon(folder, "run", "recipe.yaml", code=code)
    return ran.out + ran.err


@pytest.mark.parametrize(
    ("agent", "does"),
    [
        ("takes_out", "gives back something else than the model's reply"),
        ("raises", "gives back something else than the model's reply"),
        ("stops", "asks with stop and max_tokens of its own"),
        ("twice", "asks more than once"),
    ],
)
def test_an_agent_that_does_more_than_ask_once_is_not_replaced(tmp_path: Path, agent: str, does: str) -> None:
    """Its trainer would score and learn what this agent does not say."""
    said = train(tmp_path, agent, code=1)
    assert f"{agent} has the trait single_turn, but for task " in said and f" it {does}; " in said
    assert "Set rollout: agent" in said
    assert "single_turn" not in train(tmp_path, agent, rollout="agent")


def test_an_agent_that_asks_once_is_replaced(tmp_path: Path) -> None:
    assert "single_turn" not in train(tmp_path, "plain")


def test_a_stop_text_that_breaks_the_sequence_is_named(tmp_path: Path) -> None:
    said = train(tmp_path, "stop_and_go")
    assert "in 4 of 4 rollouts requests do not continue those before" in said
    assert "a `stop` text ends replies" in said and "Keep the history" not in said
