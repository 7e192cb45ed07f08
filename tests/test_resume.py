"""A run that is stopped at any point goes on from there: nothing finished is lost, and nothing is done twice."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import Reply, adds
from command import (
    BACKEND,
    additions,
    finish,
    guerdon,
    last_run,
    processes_with,
    start,
    trajectories,
    wait_until,
    write_recipe,
)

from guerdon.store import list_runs

PARTS = (
    BACKEND
    + """\
import time
from pathlib import Path

HERE = Path(__file__).parent

def gated(name):
    (HERE / f"{name}-begun").touch()
    while not (HERE / f"{name}-may-go").exists():
        time.sleep(0.01)

def scored(answer):
    gated("scoring")
    return 1.0

def trainer(job):
    gated("training")
    job.log(1, 1, {"loss": 0.5})
    job.output.mkdir()
    (job.output / "rows.jsonl").write_text(job.rows.read_text())
"""
)


class Stoppable:
    """A chat server that hangs after so many replies, and a run on it that can be killed and resumed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = 10**6
        self._lock = threading.Lock()
        (folder / "parts.py").write_text(PARTS)

    def answer(self, body: dict[str, Any]) -> Any:
        with self._lock:
            self.left -= 1
            return adds(body) if self.left >= 0 else Reply(hang=60)

    def begin(self, base_url: str, *, hang_after: int = 10**6, **changes: Any) -> None:
        self.left = hang_after
        recipe: dict[str, Any] = {
            "backend": {"./parts.py:backend": {"base_url": base_url}},
            "rewards": ["numeric", "./parts.py:scored"],
            "trainer": "./parts.py:trainer",
            "eval": {"holdout": 4},
            "rollout": {"concurrency": 3},
            "loop": {"group_size": 2},
            **changes,
        }
        write_recipe(self.folder, base_url, additions(8), **recipe)
        self.process = start(self.folder, "run", "recipe.yaml", GUERDON_TEST=str(self.folder))

    def let(self, *gates: str) -> None:
        for gate in gates:
            (self.folder / f"{gate}-may-go").touch()

    def stored(self, phase: str) -> dict[str, float | None]:
        """Id and reward of the trajectories that are in the store."""
        runs = self.folder / "runs"
        there = list_runs(runs) and (list_runs(runs)[-1] / "store.db").exists()
        return {t.id: t.reward for t in trajectories(self.folder, phase)} if there else {}

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)
        # workers, and a training process, go when the engine has gone
        wait_until(lambda: not processes_with("GUERDON_TEST", str(self.folder)))

    def resume(self) -> str:
        self.left = 10**6
        self.let("scoring", "training")
        ran = finish(start(self.folder, "run", "--resume", GUERDON_TEST=str(self.folder)))
        assert processes_with("GUERDON_TEST", str(self.folder)) == []
        return ran.out

    def assert_whole(self) -> None:
        """All that an uninterrupted run has."""
        with last_run(self.folder) as run:
            assert list(run.stages()) == ["eval-before", "rollout-1", "train-iteration-1", "eval-after", "finished"]
            found = {(t.phase, t.iteration, t.attempt): 0 for t in run.trajectories()}
            for t in run.trajectories():
                assert t.reward == 2.0 and t.failure is None
                found[t.phase, t.iteration, t.attempt] += 1
            assert found == {("eval", 0, 0): 4, ("eval", 2, 0): 4, ("train", 1, 0): 4, ("train", 1, 1): 4}
            rows = (run.folder / "checkpoints" / "iteration-1" / "rows.jsonl").read_text().splitlines()
            assert len(rows) == 4, "the two attempts of a task are the same: one is learnt"
            assert not list((run.folder / "checkpoints").glob(".*"))
        assert len(list_runs(self.folder / "runs")) == 1


@pytest.fixture
def stoppable(tmp_path: Path) -> Iterator[Stoppable]:
    stoppable = Stoppable(tmp_path)
    yield stoppable
    if stoppable.process.poll() is None:
        stoppable.kill()


def asked(server: chat_server.ChatServer) -> Counter[tuple[str, str]]:
    """How often each question was asked of each model."""
    return Counter((body["model"], body["messages"][-1]["content"]) for body in server.requests)


def question(trajectory_id: str) -> str:
    return f"What is {int(trajectory_id.split('-')[2]) + 1} + 1?"


def test_killed_in_the_first_evaluation(stoppable: Stoppable) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("scoring", "training")
        stoppable.begin(server.base_url, hang_after=2)
        wait_until(lambda: len(stoppable.stored("eval")) == 2 and len(server.requests) >= 4)
        stoppable.kill()
        kept = stoppable.stored("eval")
        assert len(kept) == 2
        stoppable.resume()
        stoppable.assert_whole()
        again = asked(server)
        # before: 4 of the 8 tasks, one each; two were under way when it was killed
        assert [again["fake", question(name)] for name in kept] == [1, 1]
        assert sum(n for (model, _), n in again.items() if model == "iteration-1") == 4
        assert len(server.requests) == 4 + 8 + 4 + 2


def test_killed_between_rollouts(stoppable: Stoppable) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("scoring", "training")
        stoppable.begin(server.base_url, hang_after=4 + 5)
        wait_until(lambda: len(stoppable.stored("train")) == 5 and len(server.requests) == 4 + 5 + 3)
        stoppable.kill()
        before, kept = stoppable.stored("eval"), stoppable.stored("train")
        assert (len(before), len(kept)) == (4, 5)
        stoppable.resume()
        stoppable.assert_whole()
        assert before.items() <= stoppable.stored("eval").items()
        assert len(server.requests) == 4 + 8 + 4 + 3


def test_killed_while_scoring(stoppable: Stoppable) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("training")
        stoppable.begin(server.base_url)
        wait_until(lambda: len(stoppable.stored("eval")) == 4 and (stoppable.folder / "scoring-begun").exists())
        stoppable.kill()
        assert list(stoppable.stored("eval").values()) == [None] * 4
        stoppable.resume()
        stoppable.assert_whole()
        assert len(server.requests) == 4 + 8 + 4


def test_killed_while_training(stoppable: Stoppable) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("scoring")
        stoppable.begin(server.base_url)
        wait_until(lambda: (stoppable.folder / "training-begun").exists())
        rows = list_runs(stoppable.folder / "runs")[-1] / "checkpoints" / "iteration-1.jsonl"
        first = rows.read_text()
        stoppable.kill()
        assert len(server.requests) == 4 + 8
        stoppable.resume()
        stoppable.assert_whole()
        assert len(server.requests) == 4 + 8 + 4
        assert rows.read_text() == first, "the same rows in the same order"


def test_killed_between_two_iterations(stoppable: Stoppable) -> None:
    """In the evaluation of the first, with its adapter; the second goes on from it."""
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("scoring", "training")
        stoppable.begin(server.base_url, hang_after=4 + 8 + 1, loop={"group_size": 2, "iterations": 2})
        wait_until(lambda: len(stoppable.stored("eval")) == 5 and len(server.requests) == 4 + 8 + 4)
        stoppable.kill()
        kept = stoppable.stored("eval")
        said = stoppable.resume()
        asked_of = Counter(body["model"] for body in server.requests)
        assert asked_of == {"fake": 4 + 8, "iteration-1": (4 + 3) + 8, "iteration-2": 4}
        assert kept.items() <= stoppable.stored("eval").items()
        assert "best: iteration-1, reward 2.000 (iteration-2 2.000)" in said
        with last_run(stoppable.folder) as run:
            kinds = [f"{kind}-{i}" for i in (1, 2) for kind in ("rollout", "train-iteration", "eval-iteration")]
            assert list(run.stages()) == ["eval-before", *kinds, "best", "eval-after", "finished"]


def test_killed_twice_and_resumed_by_name(stoppable: Stoppable) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("scoring", "training")
        stoppable.begin(server.base_url, hang_after=1)
        wait_until(lambda: len(stoppable.stored("eval")) == 1 and len(server.requests) == 4)
        stoppable.kill()
        stoppable.left = 3 + 2
        name = list_runs(stoppable.folder / "runs")[-1].name
        stoppable.process = start(stoppable.folder, "run", "--resume", name, GUERDON_TEST=str(stoppable.folder))
        wait_until(lambda: len(stoppable.stored("train")) == 2 and len(server.requests) == 4 + 3 + 2 + 3)
        stoppable.kill()
        stoppable.resume()
        stoppable.assert_whole()
        assert len(server.requests) == (4 + 8 + 4) + 3 + 3


@pytest.mark.parametrize("whole_group", [False, True], ids=["to the engine", "as a terminal sends it"])
def test_ctrl_c_leaves_a_run_that_can_be_resumed(stoppable: Stoppable, whole_group: bool) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("training", *(() if whole_group else ["scoring"]))
        stoppable.begin(server.base_url, hang_after=2)
        wait_until(lambda: len(stoppable.stored("eval")) == 2 and len(server.requests) >= 4)
        send = os.killpg if whole_group else os.kill
        send(stoppable.process.pid, signal.SIGINT)
        ran = finish(stoppable.process, 130)
        name = list_runs(stoppable.folder / "runs")[-1].name
        assert ran.out.rstrip().endswith(
            f"Interrupted. What is finished is kept; go on with: guerdon run --resume runs/{name}"
        )
        assert ran.err.strip() == ""
        assert processes_with("GUERDON_TEST", str(stoppable.folder)) == []
        stoppable.resume()
        stoppable.assert_whole()


def test_ctrl_c_ends_the_training_process(stoppable: Stoppable) -> None:
    with chat_server.serve(stoppable.answer) as server:
        stoppable.let("scoring")
        stoppable.begin(server.base_url)
        wait_until(lambda: (stoppable.folder / "training-begun").exists())
        stoppable.process.send_signal(signal.SIGINT)
        assert finish(stoppable.process, 130).err.strip() == ""
        assert processes_with("GUERDON_TEST", str(stoppable.folder)) == []
        stoppable.resume()
        stoppable.assert_whole()
        assert len(server.requests) == 4 + 8 + 4


def test_what_a_mended_reward_failed_on_is_scored_again(tmp_path: Path) -> None:
    """And not rolled out again."""
    with chat_server.serve() as server:
        write_recipe(tmp_path, server.base_url, rewards=["numeric", "./parts.py:odd"])
        for command, bug in (("recipe.yaml", "a bug"), ("--resume", "another bug")):
            (tmp_path / "parts.py").write_text(f"def odd(completion):\n    raise ValueError({bug!r})\n")
            said = guerdon(tmp_path, "run", command, code=1).err
            assert f"reward 'odd' failed on all trajectories: ValueError: {bug}" in said
        (tmp_path / "parts.py").write_text("def odd(completion):\n    return 0.5\n")
        guerdon(tmp_path, "run", "--resume")
        assert len(server.requests) == 4
    assert [(t.reward, t.scores["odd"].error) for t in trajectories(tmp_path)] == [(1.5, None)] * 4


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    with chat_server.serve() as server:
        write_recipe(tmp_path, server.base_url)
        guerdon(tmp_path, "run", "recipe.yaml")
        assert "no run in runs/ is unfinished" in guerdon(tmp_path, "run", "--resume", code=1).err
        name = list_runs(tmp_path / "runs")[-1].name
        assert guerdon(tmp_path, "run", "--resume", name, "--json").json["finished"] is True
        assert len(server.requests) == 4


def test_a_resumed_run_keeps_its_recipe_and_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frozen recipe is read, `${VAR}` anew, and its relative paths still start from where it lay."""
    with chat_server.serve(lambda _: Reply(status=400)) as server:
        monkeypatch.setenv("URL", server.base_url)
        write_recipe(tmp_path, "${URL}", additions(9))
        guerdon(tmp_path, "run", "recipe.yaml", "loop.group_size=2", code=1)
    with chat_server.serve() as server:
        monkeypatch.setenv("URL", server.base_url)
        (tmp_path / "recipe.yaml").unlink()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        guerdon(elsewhere, "run", "--resume", "--runs", "../runs")
        assert len(server.requests) == 18, "what failed for want of a server is tried again"
    with last_run(tmp_path) as run:
        frozen = (run.folder / "recipe.yaml").read_text()
        assert "group_size: 2" in frozen and "${URL}" in frozen and "127.0.0.1" not in frozen
