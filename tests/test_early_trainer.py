"""A training's process is started while the agent rolls out, imports what it needs, and waits for its rows."""

import asyncio
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import Reply, adds
from command import BACKEND, additions, finish, guerdon, last_run, processes_with, start, wait_until, write_recipe
from tiny import byte_tokenizer, save_model

from guerdon.errors import TrainingError
from guerdon.plugins import Plugins
from guerdon.recipe import Launch
from guerdon.registry import Registry, load
from guerdon.resolve import Bound
from guerdon.settings import validate
from guerdon.trainer_run import Training, train

PARTS = (
    BACKEND
    + """
import os, signal, sys, time
from pathlib import Path
from guerdon.traits import traits

HERE = Path(__file__).parent

def warm(job, settings):
    made = HERE / f"warm{job.output.name}"
    made.with_suffix(".new").write_text(str(os.getpid()))
    made.with_suffix(".new").rename(made)
    job.say("not said")
    job.work.mkdir(parents=True, exist_ok=True)
    (job.work / "compiled").touch()
    if settings["fails"] == "import":
        import no_such_module
    while settings["fails"] == "hangs early":
        time.sleep(0.1)
    if settings["fails"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

@traits(warm=warm, launcher=lambda launch, settings: ([sys.executable, "-m"], {}))
def trainer(job, *, fails: str = ""):
    if fails == "import":
        import no_such_module
    job.log(1, 1, {"loss": 1.0})
    while fails == "hangs":
        time.sleep(0.1)
    job.output.mkdir()
    (job.output / "by").write_text(str(os.getpid()))
"""
)


def write(folder: Path, base_url: str, loop: Mapping[str, Any] | None = None, fails: str = "") -> None:
    """A recipe; with a warm-up, unless `loop` says otherwise."""
    (folder / "parts.py").write_text(PARTS)
    backend = {"./parts.py:backend": {"base_url": base_url}}
    loop = {"group_size": 1, "warmup": {"backend": backend, "tasks": 2}, **(loop or {})}
    trainer = {"./parts.py:trainer": {"fails": fails}}
    write_recipe(folder, base_url, additions(4), backend=backend, trainer=trainer, loop=loop)


def warmed(folder: Path) -> dict[str, int]:
    """The processes that were started early, by training."""
    return {path.name[5:-8]: int(path.read_text()) for path in folder.glob("warm.*.partial")}


def trained(folder: Path) -> dict[str, int]:
    """The processes that have trained."""
    with last_run(folder) as run:
        return {path.parent.name: int(path.read_text()) for path in run.folder.glob("checkpoints/*/by")}


def logs(folder: Path) -> dict[str, str]:
    with last_run(folder) as run:
        return {path.stem: path.read_text() for path in run.folder.glob("logs/train-*.log")}


def waits_for_it(folder: Path, reply: Any = adds) -> Any:
    """Answers when the process of the training to come has been started: before it has any rows."""

    def answer(body: dict[str, Any]) -> Any:
        number = ["fake", "warmup", "iteration-1"].index(body["model"])
        wait_until(lambda: len(warmed(folder)) > number)
        return reply(body)

    return answer


def test_a_training_is_started_while_the_agent_rolls_out(tmp_path: Path) -> None:
    with chat_server.serve(waits_for_it(tmp_path)) as server:
        write(tmp_path, server.base_url, {"iterations": 2})
        said = guerdon(tmp_path, "run", "recipe.yaml").out
    assert trained(tmp_path) == warmed(tmp_path) and set(trained(tmp_path)) == {"warmup", "iteration-1", "iteration-2"}
    assert "not said" not in said and said.count("loss 1.000") == 3
    for log in logs(tmp_path).values():
        assert log.startswith("started early: imports ") and "waited" in log


@pytest.mark.parametrize("fails", ["killed", "import"])
def test_one_that_dies_while_it_waits_is_started_again(tmp_path: Path, fails: str) -> None:
    def answer(body: dict[str, Any]) -> str:
        wait_until(lambda: (pid := warmed(tmp_path).get("iteration-1")) and not Path(f"/proc/{pid}").exists())
        return adds(body)

    with chat_server.serve(answer) as server:
        write(tmp_path, server.base_url, {"warmup": None}, fails)
        ran = guerdon(tmp_path, "run", "recipe.yaml", code=fails == "import")
    if fails == "import":
        assert "trainer 'trainer' needs the module 'no_such_module', which is not installed" in ran.err
    else:
        assert "died" not in ran.out + ran.err and "killed" not in ran.out + ran.err
        assert trained(tmp_path).keys() == warmed(tmp_path).keys() and trained(tmp_path) != warmed(tmp_path)


@pytest.mark.parametrize("reply", ["### 0 ###", Reply(status=400)], ids=["nothing to learn", "the rollouts fail"])
def test_one_that_is_not_needed_goes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Any
) -> None:
    """Neither after the warm-up nor after the iteration is there anything to train on."""
    monkeypatch.setenv("GUERDON_TEST", str(tmp_path))
    with chat_server.serve(waits_for_it(tmp_path, lambda _: reply)) as server:
        write(tmp_path, server.base_url)
        guerdon(tmp_path, "run", "recipe.yaml", code=isinstance(reply, Reply))
    assert "warmup" in warmed(tmp_path)
    assert processes_with("GUERDON_TEST", str(tmp_path)) == []
    assert logs(tmp_path) == {}
    with last_run(tmp_path) as run:
        assert not list(run.folder.glob("checkpoints/*steps"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_it_goes_with_the_engine(tmp_path: Path, number: signal.Signals) -> None:
    with chat_server.serve(lambda _: Reply(hang=60)) as server:
        write(tmp_path, server.base_url, {"warmup": None})
        run = start(tmp_path, "run", "recipe.yaml", GUERDON_TEST=str(tmp_path))
        wait_until(lambda: warmed(tmp_path))
        (process,) = warmed(tmp_path).values()
        assert process in processes_with("GUERDON_TEST", str(tmp_path))
        run.send_signal(number)
        if number == signal.SIGINT:
            assert finish(run, 130).err.strip() == ""
            assert processes_with("GUERDON_TEST", str(tmp_path)) == []
        run.communicate(timeout=30)
        wait_until(lambda: not processes_with("GUERDON_TEST", str(tmp_path)))


def test_none_is_started_where_it_would_be_of_no_use(tmp_path: Path) -> None:
    """Only rolled out; trained in several processes, which the trainer's launcher starts."""
    with chat_server.serve() as server:
        write(tmp_path, server.base_url, {"warmup": None})
        guerdon(tmp_path, "rollout", "recipe.yaml")
        assert not list(tmp_path.rglob("train-*.log"))
        guerdon(tmp_path, "run", "recipe.yaml", "launch.gpus=2")
    assert not warmed(tmp_path) and trained(tmp_path)


def job_in(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job, and where it is done."""
    job = {"model": str(folder / "model"), "adapter": None, "rows": folder / "rows.jsonl", "seed": 0}
    job |= {"output": folder / ".x.partial", "work": folder / "work"}
    return job, {"launch": Launch(), "folder": folder, "output": folder / "logs" / "log"}


class Watcher:
    """The engine's part."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        self.steps.append(step)

    def say(self, text: str) -> None:
        raise AssertionError(text)

    async def generate(self, *_: Any) -> list[dict[str, Any]]:
        raise AssertionError

    score = generate


def bound(folder: Path, name: str, settings: Mapping[str, Any]) -> Bound:
    component = Registry(Plugins(), folder).find("trainers", name)
    return Bound(component, load(component), settings)


@pytest.mark.parametrize(("fails", "place_of_it"), [("hangs", "trainer"), ("hangs early", "warm")])
def test_its_time_begins_with_its_rows_and_it_says_where_it_hangs(tmp_path: Path, fails: str, place_of_it: str) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    hangs = bound(tmp_path, "./parts.py:trainer", {"fails": fails})
    job, place = job_in(tmp_path)
    seconds, watcher = 3.0, Watcher()

    async def late() -> None:
        early = Training(hangs, job, **place, early=True)
        await early.start()
        while not warmed(tmp_path):
            await asyncio.sleep(0.05)
        await asyncio.sleep(seconds + 0.5)
        await train(hangs, job, watcher, **place, timeout=seconds, early=early)

    at = rf"longer than 3 s(?s:.*)it was at(?s:.*)parts\.py\", line \d+ in {place_of_it}"
    with pytest.raises(TrainingError, match=at):
        asyncio.run(late())
    assert watcher.steps == [1] * (fails == "hangs") and place["output"].exists(), "the error names the log"
    assert not Path(f"/proc/{warmed(tmp_path)['x']}").exists()


def test_another_job_than_it_was_started_for_is_done_by_another_process(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    trainer = bound(tmp_path, "./parts.py:trainer", {"fails": ""})
    job, place = job_in(tmp_path)

    async def changed() -> None:
        early = Training(trainer, job, **place, early=True)
        await early.start()
        while not warmed(tmp_path):
            await asyncio.sleep(0.05)
        await train(trainer, {**job, "seed": 1}, Watcher(), **place, timeout=60, early=early)

    asyncio.run(changed())
    by = int((tmp_path / ".x.partial" / "by").read_text())
    assert by != warmed(tmp_path)["x"] and not Path(f"/proc/{warmed(tmp_path)['x']}").exists()


def test_sft_has_nothing_left_to_import_and_its_log_says_where_the_start_goes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    save_model(tmp_path / "model", byte_tokenizer())
    job, place = job_in(tmp_path)
    sft = bound(tmp_path, "sft", {"threads": 1, "max_steps": 2})
    sft = Bound(sft.component, sft.function, validate("sft", sft.function, sft.settings))
    watcher = Watcher()
    watcher.say = lambda text: None  # type: ignore[method-assign]

    async def run() -> None:
        early = Training(sft, job, **place, early=True)
        await early.start()
        while "started early" not in place["output"].read_text():
            await asyncio.sleep(0.05)
        job["rows"].write_text('{"input_ids": [2, 3, 4, 1], "labels": [-100, 3, 4, 1]}\n' * 2)
        await train(sft, job, watcher, **place, timeout=200, early=early)

    asyncio.run(run())
    log = place["output"].read_text()
    assert watcher.steps[-1] == 2 and (job["output"] / "adapter_config.json").is_file()
    pattern = r"start: imports 0\.\d s, rows [\d.]+ s, model [\d.]+ s, trainer [\d.]+ s, first step [\d.]+ s; [\d.]+ s"
    assert re.search(pattern, log), log
