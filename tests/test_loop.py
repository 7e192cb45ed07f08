"""The loop: what is chosen to train on, the best checkpoint kept, an early end, and where the time goes."""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import ChatServer
from command import BACKEND, Ran, additions, guerdon, last_run, trajectories, write_recipe

from guerdon.checkpoints import kept_checkpoint
from guerdon.choice import choose
from guerdon.conversation import find_subject
from guerdon.export_source import find_source
from guerdon.rows import training_rows
from guerdon.store import list_runs
from guerdon.trajectory import Failure, Trajectory, Turn

PARTS = (
    BACKEND
    + """\
def trainer(job):
    job.log(1, 1, {"loss": 1.0})
    job.output.mkdir()
    (job.output / "adapter_config.json").write_text('{"base_model_name_or_path": "fake"}')
    (job.output / "from.txt").write_text(f"{job.model} + {job.adapter.name if job.adapter else None}")
"""
)

HELD = [{"question": f"What is {i} + 100?", "answer": str(i + 100)} for i in range(4)]


def skilled(**skill: int) -> Any:
    """Answers: how many of the four held-out tasks each model solves; of the others all, or none by `train=0`."""

    def answer(body: dict[str, Any]) -> str:
        a, b = map(int, re.findall(r"\d+", body["messages"][-1]["content"]))
        right = a < skill.get(body["model"].replace("-", "_"), 0) if b == 100 else skill.get("train", 1)
        return f"### {a + b if right else 0} ###"

    return answer


def start(folder: Path, server: ChatServer, loop: dict[str, Any], *args: str, code: int = 0, **changes: Any) -> Ran:
    (folder / "parts.py").write_text(PARTS)
    (folder / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HELD))
    recipe: dict[str, Any] = {
        "backend": {"./parts.py:backend": {"base_url": server.base_url}},
        "trainer": "./parts.py:trainer",
        "eval": {"tasks": {"path": "held.jsonl"}},
        **changes,
    }
    write_recipe(folder, server.base_url, additions(2), loop={"group_size": 1, **loop}, **recipe)
    return guerdon(folder, "run", "recipe.yaml", *args, code=code)


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    with last_run(folder) as run:
        return run.stages()


# -- the choice -------------------------------------------------------------------------------------------------------


def attempt(task: int, number: int, reward: float | None, text: str = "", **more: Any) -> Trajectory:
    reply = {"role": "assistant", "content": text or f"answer {number}"}
    turn = Turn(keep=0, prompt=({"role": "user", "content": str(task)},), reply=reply)
    name = f"train-1-{task}-{number}"
    return Trajectory(name, str(task), "train", 1, number, "chat", "m", turns=(turn,), reward=reward, **more)


def rewards(chosen: Sequence[Trajectory]) -> list[float | None]:
    return sorted((t.reward for t in chosen), reverse=True)


def test_what_earned_nothing_is_never_chosen() -> None:
    group = [attempt(0, i, reward) for i, reward in enumerate([0.0, -1.0, None, 0.25, 1.0])]
    group.append(attempt(0, 9, 1.0, failure=Failure("timeout", "too long")))
    for least, expected in ((None, [1.0, 0.25]), (-2.0, [1.0, 0.25]), (0.0, [1.0, 0.25]), (0.5, [1.0]), (2.0, [])):
        assert rewards(choose(group, min_reward=least, keep_top=1.0).kept) == expected
    # half of ten is five, and but two are right: the others are not taken in their place
    few = [attempt(i, 0, float(i < 2)) for i in range(10)]
    assert rewards(choose(few, keep_top=0.5).kept) == [1.0]


@pytest.mark.parametrize(
    ("count", "fraction", "kept"), [(9, 0.5, 4), (1, 0.5, 1), (3, 0.1, 1), (10, 0.3, 3), (4, 1, 4)]
)
def test_the_best_fraction_is_kept(count: int, fraction: float, kept: int) -> None:
    group = [attempt(i, 0, i + 1.0) for i in range(count)]
    assert rewards(choose(group, keep_top=fraction).kept) == [float(count - i) for i in range(kept)]


def test_at_most_so_many_of_a_task_the_best_then_by_chance() -> None:
    group = [attempt(task, i, 1.0 if i else 2.0) for task in range(3) for i in range(6)]
    picked = set()
    for seed in range(8):
        chosen = choose(group, per_task=2, seed=seed)
        assert Counter(t.task_id for t in chosen.kept) == {"0": 2, "1": 2, "2": 2}
        assert rewards(chosen.kept) == [2.0] * 3 + [1.0] * 3
        assert chosen.kept == choose(group, per_task=2, seed=seed).kept
        picked |= {t.attempt for t in chosen.kept}
    assert picked == set(range(6)), "where rewards are equal, the seed decides"


def test_the_choice_says_what_was_left_out() -> None:
    group = [attempt(0, 0, 1.0), attempt(0, 1, 1.0, "answer 0"), attempt(0, 2, 0.75), attempt(0, 3, 0.5)]
    group += [attempt(1, 0, 0.5), attempt(1, 1, 0.0), attempt(1, 2, None, failure=Failure("agent", "no"))]
    chosen = choose(group, min_reward=0.5, per_task=2, keep_top=0.5)
    assert str(chosen) == ("7 rollouts: 1 failed, 5 earn >= 0.5, 1 duplicate, 1 over per_task, best half: 1 trajectory")
    assert rewards(chosen.kept) == [1.0]
    assert str(choose(group[:1])) == "1 rollout: 1 earn > 0: 1 trajectory"
    assert str(choose(group, keep_top=0.3)).endswith("best 30 %: 1 trajectory")


def test_attempts_that_differ_in_an_earlier_turn_are_no_duplicates() -> None:
    """An agent of several conversations: the last is the same each time, those before it are not."""

    def plan(number: int, text: str, call: str = "a", answer: str = "") -> Trajectory:
        calls = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        first = {"role": "assistant", "content": text, "tool_calls": calls}
        turns = Turn(0, ({"role": "user", "content": "?"},), first), attempt(0, 0, 1.0, "yes").turns[0]
        return Trajectory(f"t{number}", "0", "train", 1, number, "a", "m", turns=turns, completion=answer, reward=1.0)

    chosen = choose([plan(0, "one"), plan(1, "two"), plan(2, "two", call="b"), plan(3, "two", answer="7")])
    assert (chosen.duplicates, {t.attempt for t in chosen.kept}) == (1, {0, 1, 3})


def test_what_is_earned_at_the_end_is_the_earlier_turns_too() -> None:
    """A history that was compacted makes rows of its own; all have the trajectory's reward."""

    def turn(prompt: list[int], reply: list[int]) -> Turn:
        message = {"role": "user", "content": "?"}
        assistant = {"role": "assistant", "content": "!"}
        return Turn(0, (message,), assistant, prompt_ids=tuple(prompt), reply_ids=tuple(reply))

    whole = turn([1, 2], [3]), turn([1, 2, 3, 4], [5])
    compacted = turn([1, 9], [6, 7])
    t = Trajectory("t", "0", "train", 1, 0, "a", "m", turns=(*whole, compacted), reward=0.5)
    assert list(training_rows([t])) == [
        {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, 3, -100, 5], "reward": 0.5, "trajectory": "t"},
        {"input_ids": [1, 9, 6, 7], "labels": [-100, -100, 6, 7], "reward": 0.5, "trajectory": "t"},
    ]


# -- the best ---------------------------------------------------------------------------------------------------------


def test_the_best_checkpoint_is_kept_and_each_training_goes_on_from_the_last(tmp_path: Path) -> None:
    with chat_server.serve(skilled(fake=1, iteration_1=2, iteration_2=4, iteration_3=3)) as server:
        said = start(tmp_path, server, {"iterations": 3, "per_task": 1}).out
        models = Counter(body["model"] for body in server.requests)
    # each evaluation once; after the training nothing is asked again
    assert models == {"fake": 4 + 2, "iteration-1": 4 + 2, "iteration-2": 4 + 2, "iteration-3": 4}
    assert "best: iteration-2, reward 1.000 (iteration-1 0.500, iteration-3 0.750)" in said
    assert "2 rollouts: 2 earn > 0: 2 trajectories, 2 rows" in said
    done = stages(tmp_path)
    kinds = [f"{kind}-{i}" for i in (1, 2, 3) for kind in ("rollout", "train-iteration", "eval-iteration")]
    assert list(done) == ["eval-before", *kinds, "best", "eval-after", "finished"]
    assert done["best"] == {
        "checkpoint": "iteration-2",
        "reward": 1.0,
        "rewards": {"iteration-1": 0.5, "iteration-2": 1.0, "iteration-3": 0.75},
    }
    assert (done["eval-after"]["reward"], done["eval-after"]["same_as"]) == (1.0, "iteration-2")
    with last_run(tmp_path) as run:
        folder = kept_checkpoint(run)
        assert folder == run.folder / "checkpoints" / "iteration-2"
        trained_from = [(run.folder / f"checkpoints/iteration-{i}/from.txt").read_text() for i in (1, 2, 3)]
        name = run.id
    assert trained_from == ["fake + None", "fake + iteration-1", "fake + iteration-2"]

    figures = guerdon(tmp_path, "show", "last", "--json").json
    assert [n for n, e in figures["eval"].items() if e.get("best")] == ["iteration-2"]
    assert figures["eval"]["after"]["difference"]["mean"] == 0.75
    assert figures["best"]["checkpoint"] == "iteration-2"
    assert guerdon(tmp_path, "runs", "--json").json[0]["newest"] == 1.0
    assert find_source(str(tmp_path / "runs" / name), tmp_path / "runs").adapter == folder.resolve()
    assert find_subject(str(tmp_path / "runs" / name), tmp_path / "runs").adapter == folder.resolve()

    with chat_server.serve(skilled()) as server:
        start(tmp_path, server, {}, f"adapter={name}", eval=None)
    with last_run(tmp_path) as run:
        assert (run.folder / "checkpoints/iteration-1/from.txt").read_text() == "fake + iteration-2"


def test_of_equals_the_earlier_is_kept_and_a_model_that_was_better_is_said(tmp_path: Path) -> None:
    with chat_server.serve(skilled(fake=3, iteration_1=1, iteration_2=2, iteration_3=2)) as server:
        said = start(tmp_path, server, {"iterations": 3}).out
    assert stages(tmp_path)["best"]["checkpoint"] == "iteration-2"
    assert "no checkpoint is better than the model before training was (reward 0.750)" in said


def test_evaluations_every_so_many_iterations_and_none_between(tmp_path: Path) -> None:
    with chat_server.serve(skilled()) as server:
        start(tmp_path, server, {"iterations": 3}, "eval.every=2")
        assert [n for n in stages(tmp_path) if n.startswith("eval-")] == [
            "eval-before", "eval-iteration-2", "eval-iteration-3", "eval-after",
        ]  # fmt: skip
        start(tmp_path, server, {"iterations": 3}, "eval.every=0")
        found = stages(tmp_path)
    assert [n for n in found if n.startswith("eval-")] == ["eval-before", "eval-after"]
    assert "best" not in found and found["eval-after"]["policy"] == 4
    with last_run(tmp_path) as run:
        assert kept_checkpoint(run) == run.folder / "checkpoints" / "iteration-3"


def test_a_warm_up_is_evaluated_and_may_be_the_best(tmp_path: Path) -> None:
    with chat_server.serve(skilled(warmup=3, iteration_1=2, iteration_2=3)) as server:
        teacher = {"openai": {"base_url": server.base_url}}
        loop = {"iterations": 2, "tasks": 1, "warmup": {"backend": teacher, "model": "teacher", "tasks": 1}}
        start(tmp_path, server, loop)
    done = stages(tmp_path)
    assert done["best"]["rewards"] == {"warmup": 0.75, "iteration-1": 0.5, "iteration-2": 0.75}
    assert (done["best"]["checkpoint"], done["eval-after"]["same_as"]) == ("warmup", "warmup")


@pytest.mark.parametrize("how", ["failed", "without a reward"])
def test_failing_where_it_is_weak_makes_no_checkpoint_the_best(tmp_path: Path, how: str) -> None:
    (tmp_path / "fails.py").write_text(
        "async def agent(task, policy):\n"
        "    text = (await policy.complete(task.messages))['choices'][0]['message']['content']\n"
        "    if 'LOOP' in text and 'failed' in text: raise RuntimeError('too many turns')\n"
        "    return text\n"
        "def right(completion, answer):\n"
        "    if 'LOOP' in completion: raise ValueError('no answer')\n"
        "    return float(answer in completion)\n"
    )
    solves = skilled(iteration_1=3, iteration_2=2)

    def answer(body: dict[str, Any]) -> str:
        said: str = solves(body)
        return f"LOOP {how}" if body["model"] == "iteration-2" and said == "### 0 ###" else said

    parts = {"agent": "./fails.py:agent", "rewards": ["./fails.py:right"], "scoring": {"max_errors": 1}}
    with chat_server.serve(answer) as server:
        said = start(tmp_path, server, {"iterations": 2}, **parts).out
    assert "best: iteration-1, reward 0.750 (iteration-2 0.500)" in said
    assert "failed or have no reward count here as nothing earned: 2 of iteration-2" in said
    assert stages(tmp_path)["eval-iteration-2"]["reward"] == 1.0
    found = guerdon(tmp_path, "show", "last", "--json").json["eval"]
    assert found["iteration-2"]["difference"]["left_out"] == f"2 of 4 tasks left out: {how} in iteration-2"
    assert "left_out" not in found["iteration-1"]["difference"]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_patience(tmp_path: Path) -> None:
    with chat_server.serve(skilled(iteration_1=2, iteration_2=1, iteration_3=2, iteration_4=4)) as server:
        said = start(tmp_path, server, {"iterations": 9, "patience": 2}).out
        assert "the loop ends: no better evaluation for 2 iterations (loop.patience)" in said
        done = stages(tmp_path)
        assert "train-iteration-3" in done and "rollout-4" not in done and "finished" in done
        assert done["best"]["checkpoint"] == "iteration-1"
        # the first evaluation counts: what is no better than before the training is no progress
        start(tmp_path, server, {"iterations": 9, "patience": 1}, model="iteration-4")
        assert "rollout-2" not in stages(tmp_path)
        error = start(tmp_path, server, {"patience": 1}, eval=None, code=1).err
    assert "loop.patience: there is nothing to tell progress by: give eval, and eval.every of 1 or more" in error


def test_patience_ends_no_loop_before_an_evaluation(tmp_path: Path) -> None:
    with chat_server.serve(skilled(iteration_3=2, iteration_6=1)) as server:
        start(tmp_path, server, {"iterations": 9, "patience": 2}, "eval.every=3")
    done = stages(tmp_path)
    assert "eval-iteration-3" in done and "eval-iteration-6" in done and "rollout-7" not in done


@pytest.mark.parametrize(
    ("temperature", "helps"), [(1.0, "more attempts (loop.group_size)"), (0.0, "a sampling.temperature above 0")]
)
def test_nothing_to_learn_from_ends_the_loop(tmp_path: Path, temperature: float, helps: str) -> None:
    with chat_server.serve(skilled(train=0, fake=1)) as server:
        ran = start(tmp_path, server, {"iterations": 3}, sampling={"temperature": temperature})
        assert (
            "no trajectory earned a positive reward: nothing to train on, the policy stays as it is; the loop"
            in ran.out
        )
        assert f"helps: {helps}, easier tasks, demonstrations first (loop.warmup)" in ran.out
        assert list(stages(tmp_path)) == ["eval-before", "rollout-1", "train-iteration-1", "finished"]
        asked, name = len(server.requests), list_runs(tmp_path / "runs")[-1].name
        again = guerdon(tmp_path, "run", "--resume", name, "--json").json
        assert again["finished"] and len(server.requests) == asked
        assert "has no checkpoint" in guerdon(tmp_path, "export", "last", code=1).err


def test_a_threshold_that_is_too_high_is_said(tmp_path: Path) -> None:
    """The first iteration's adapter is kept and evaluated all the same."""
    (tmp_path / "r.py").write_text("def less(trajectory): return 1.0 if trajectory.iteration == 1 else 0.25\n")
    with chat_server.serve(skilled()) as server:
        ran = start(tmp_path, server, {"iterations": 3, "min_reward": 0.5}, "eval.every=2", rewards=["./r.py:less"])
    assert "no trajectory earned a reward >= 0.5" in ran.out
    assert "The best earned 0.25: lower loop.min_reward" in ran.out
    assert list(stages(tmp_path))[-4:] == ["eval-iteration-1", "best", "eval-after", "finished"]


# -- time, and going on -----------------------------------------------------------------------------------------------


def test_where_the_time_goes_is_printed_and_stored(tmp_path: Path) -> None:
    with chat_server.serve(skilled()) as server:
        said = start(tmp_path, server, {"iterations": 2}).out
    time = r"\d+(\.\d)? s"
    small = [f"({word} {time}, )?" for word in ("serve", "swap", "roll out", "score")]  # next to nothing is left out
    for iteration in (1, 2):
        assert re.search(rf"^iteration {iteration}: {''.join(small)}train {time}(, evaluate {time})?$", said, re.M), (
            said
        )
    done = stages(tmp_path)
    assert set(done["eval-before"]["seconds"]) == {"serve", "swap", "eval", "score"}
    assert set(done["rollout-1"]["seconds"]) == {"swap", "rollout", "score"}
    assert set(done["train-iteration-1"]["seconds"]) == {"swap", "train"}
    assert 0 < done["train-iteration-1"]["seconds"]["train"] < 250 and done["eval-after"]["seconds"] == {}


def test_a_run_goes_on_from_the_end_of_any_stage(tmp_path: Path) -> None:
    """As if it had been killed there: the stages after it are forgotten, and done again to the same end."""
    with chat_server.serve(skilled(iteration_1=3, iteration_2=2)) as server:
        start(tmp_path, server, {"iterations": 2, "patience": 5})
        whole, asked = stages(tmp_path), len(server.requests)
        name = list_runs(tmp_path / "runs")[-1]
        for last in ("eval-after", "best", "eval-iteration-2", "train-iteration-2", "eval-iteration-1"):
            database = sqlite3.connect(name / "store.db")
            with database:
                database.execute(
                    "delete from stages where at >= (select at from stages where name = ?) or name = 'finished'",
                    (last,),
                )
            database.close()
            guerdon(tmp_path, "run", "--resume", name.name)
            found = stages(tmp_path)
            assert list(found) == list(whole)
            assert all(found[n].get("reward") == whole[n].get("reward") for n in whole)
            assert found["best"] == whole["best"]
        assert len(server.requests) == asked, "rollouts that are stored are not run again"
        assert len(trajectories(tmp_path)) == 4 * 3 + 2 * 2


def test_a_dry_run_of_four_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packaged recipe against any endpoint, without a GPU and a training."""
    pytest.importorskip("agents")
    rows = [{"input": row["question"], "target": float(row["answer"])} for row in additions(8)]
    (tmp_path / "hard.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with chat_server.serve() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
        local = ["tasks={path: hard.jsonl, limit: 4}", "trainer=null"]
        guerdon(tmp_path, "rollout", "gsm-hard-loop", "backend=openai", "model=gpt-4.1-mini", "eval=null", *local)
        assert {body["model"] for body in server.requests} == {"gpt-4.1-mini"} and set(server.keys) == {"sk-mine"}
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 16
