"""Whole runs through the command line, on a small chat server: stages, scores, commands to look back."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import ChatServer, adds
from command import BACKEND, additions, guerdon, last_run, trajectories, write_recipe

from guerdon.store import list_runs

REWARDS = """\
def polite(completion):
    "With a reason."
    return (1.0, "it says please") if "please" in completion else (0.0, "it does not")

def hard_only(level):
    "Applies to hard tasks only."
    return None if level == "easy" else 1.0

def rank(completions, answers):
    "A group's shortest completion gets 1."
    assert len(completions) == len(answers) == 3
    return [float(len(c) == min(map(len, completions))) for c in completions]

def trl(prompts, completions, answer, **kwargs):
    "TRL's signature."
    return [0.5 * (c[0]["content"] == f"### {a} ###") for c, a in zip(completions, answer)]
"""

PARTS = (
    BACKEND
    + """\
def trainer(job, *, note: str = ""):
    job.log(1, 2, {"loss": 2.0})
    job.log(2, 2, {"loss": 1.0})
    job.output.mkdir()
    (job.output / "rows.jsonl").write_text(job.rows.read_text())
    (job.output / "from.txt").write_text(f"{job.adapter.name if job.adapter else job.model} {note}")
"""
)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server.serve() as server:
        yield server


def learner(body: dict[str, Any]) -> str:
    """Wrong until it is trained, except where both numbers are odd."""
    a = int(re.findall(r"\d+", body["messages"][-1]["content"])[0])
    return adds(body) if body["model"] != "fake" or a % 2 else "### 0 ###"


def train_recipe(folder: Path, base_url: str, count: int = 8, **changes: Any) -> None:
    (folder / "parts.py").write_text(PARTS)
    recipe: dict[str, Any] = {
        "backend": {"./parts.py:backend": {"base_url": base_url}},
        "trainer": "./parts.py:trainer",
        "eval": {"holdout": 4},
        **changes,
    }
    write_recipe(folder, base_url, additions(count), **recipe)


# -- scores -----------------------------------------------------------------------------------------------------------


def test_rewards_of_every_kind_add_up(tmp_path: Path) -> None:
    rows = [{**row, "level": level} for row, level in zip(additions(4), ["easy", "hard"] * 2, strict=True)]
    (tmp_path / "r.py").write_text(REWARDS)

    def answer(body: dict[str, Any]) -> str:
        nth = sum(b["messages"] == body["messages"] for b in server.requests)
        return adds(body) + (" please" if nth == 1 else "!" * nth)

    with chat_server.serve(answer) as server:
        rewards = [
            {"numeric": {"weight": 2}},
            {"./r.py:polite": {"weight": 0.5}},
            "./r.py:hard_only",
            {"./r.py:rank": {"label": "shortest", "weight": -0.25}},
            {"./r.py:trl": {"weight": 0}},
        ]
        # one at a time: the first attempt is then the polite one
        write_recipe(
            tmp_path,
            server.base_url,
            rows,
            rewards=rewards,
            loop={"group_size": 3},
            rollout={"concurrency": 1},
        )
        guerdon(tmp_path, "run", "recipe.yaml")
    found = trajectories(tmp_path)
    assert [(t.task_id, t.attempt) for t in found] == [(str(i), k) for i in range(4) for k in range(3)]
    for t in found:
        scores = {name: s.value for name, s in t.scores.items()}
        hard = 1.0 if int(t.task_id) % 2 else None
        first = float(t.attempt == 0)
        shortest = float(t.attempt == 1)
        assert scores == {"numeric": 1.0, "polite": first, "hard_only": hard, "shortest": shortest, "trl": 0.0}
        assert t.reward == 2 + 0.5 * first + (hard or 0) - 0.25 * shortest
        assert t.scores["polite"].reason == ("it says please" if first else "it does not")
        assert t.scores["shortest"].weight == -0.25 and not any(s.error for s in t.scores.values())
    with last_run(tmp_path) as run:
        figures = run.stages()["rollout-1"]
    assert figures["rewards"]["hard_only"]["count"] == 12 and figures["rewards"]["hard_only"]["not_applicable"] == 6
    assert figures["rewards"]["hard_only"]["mean"] == 1.0 and figures["rewards"]["polite"]["positive"] == 4
    assert figures["reward"] == pytest.approx(2 + 0.5 / 3 + 0.5 - 0.25 / 3)


def test_a_trajectory_to_which_no_reward_applies_has_none(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "r.py").write_text("def never(completion): return None\n")
    train_recipe(tmp_path, server.base_url, rewards=["./r.py:never"])
    said = guerdon(tmp_path, "run", "recipe.yaml").out
    assert {t.reward for t in trajectories(tmp_path)} == {None}
    assert "no trajectory earned a positive reward: nothing to train on, the policy stays as it is" in said


# -- the loop ---------------------------------------------------------------------------------------------------------


def test_a_whole_run_trains_and_compares(tmp_path: Path) -> None:
    with chat_server.serve(learner) as server:
        train_recipe(tmp_path, server.base_url, 12, loop={"group_size": 2, "iterations": 2})
        ran = guerdon(tmp_path, "run", "recipe.yaml")
        models = [body["model"] for body in server.requests]
    assert models == ["fake"] * (4 + 16) + ["iteration-1"] * (4 + 16) + ["iteration-2"] * 4

    found = trajectories(tmp_path)
    held = {t.task_id for t in found if t.phase == "eval"}
    trained = {t.task_id for t in found if t.phase == "train"}
    assert (len(held), len(trained)) == (4, 8) and not held & trained
    assert {t.iteration for t in found if t.phase == "train"} == {1, 2}
    before = sum(int(name) % 2 == 0 for name in held)  # task 0 is 1 + 1

    with last_run(tmp_path) as run:
        stages = run.stages()
        checkpoints = run.folder / "checkpoints"
        first = [json.loads(line) for line in (checkpoints / "iteration-1" / "rows.jsonl").read_text().splitlines()]
        assert (checkpoints / "iteration-1" / "from.txt").read_text().strip() == "fake"
        assert (checkpoints / "iteration-2" / "from.txt").read_text().strip() == "iteration-1"
        assert [(m["stage"], m["step"], m["loss"]) for m in run.metrics()] == [
            (f"train-iteration-{i}", step, loss) for i in (1, 2) for step, loss in ((1, 2.0), (2, 1.0))
        ]
    good = {t.task_id for t in found if t.phase == "train" and t.iteration == 1 and t.reward == 1.0}
    assert {row["trajectory"].split("-")[2] for row in first} == good < trained
    assert all(row["reward"] == 1.0 for row in first)
    assert stages["eval-before"]["reward"] == before / 4 < stages["eval-after"]["reward"] == 1.0
    assert "4 held-out tasks (95 % intervals in brackets)" in ran.out
    assert re.search(rf"before +{before / 4:.3f} \[", ran.out) and re.search(r"iteration-1 +1\.000 .* best", ran.out)


def test_evaluation_has_its_own_tasks_temperature_and_attempts(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "held.csv").write_text("input,target\nWhat is 40 + 2?,42\n")
    spec = {"tasks": {"path": "held.csv"}, "attempts": 3, "temperature": 0.25}
    write_recipe(tmp_path, server.base_url, eval=spec, sampling={"temperature": 0.75, "max_tokens": 64, "stop": ["##"]})
    guerdon(tmp_path, "run", "recipe.yaml")
    asked = [(b["messages"][-1]["content"], b["temperature"]) for b in server.requests]
    assert asked[:3] == [("What is 40 + 2?", 0.25)] * 3
    assert {t for _, t in asked[3:]} == {0.75} and len(asked) == 7
    assert {(b["max_tokens"], tuple(b["stop"])) for b in server.requests} == {(64, ("##",))}
    assert [t.id for t in trajectories(tmp_path, "eval")] == ["eval-0-0-0", "eval-0-0-1", "eval-0-0-2"]


def test_a_warm_up_demonstrates_then_trains(tmp_path: Path) -> None:
    with chat_server.serve(learner) as student, chat_server.serve() as teacher:
        warmup = {
            "backend": {"openai": {"base_url": teacher.base_url}},
            "model": "teacher",
            "tasks": 3,
            "trainer": {"note": "on demonstrations"},
        }
        train_recipe(tmp_path, student.base_url, 10, loop={"warmup": warmup, "tasks": 2, "group_size": 1})
        guerdon(tmp_path, "run", "recipe.yaml")
        assert [b["model"] for b in teacher.requests] == ["teacher"] * 3
        assert [b["model"] for b in student.requests] == ["fake"] * 4 + ["warmup"] * 2 + ["iteration-1"] * 4
    with last_run(tmp_path) as run:
        assert (run.folder / "checkpoints/warmup/from.txt").read_text() == "fake on demonstrations"
        assert (run.folder / "checkpoints/iteration-1/from.txt").read_text() == "warmup "
        assert [name for name in run.stages() if name.startswith("rollout")] == ["rollout-warmup", "rollout-1"]
    found = {phase: {t.task_id for t in trajectories(tmp_path, phase)} for phase in ("eval", "warmup", "train")}
    assert [len(tasks) for tasks in found.values()] == [4, 3, 2]
    assert not found["warmup"] & found["train"] and not found["eval"] & (found["warmup"] | found["train"])


def test_iterations_take_the_tasks_in_turn(tmp_path: Path, server: ChatServer) -> None:
    loop = {"tasks": 3, "iterations": 3, "group_size": 1}
    write_recipe(tmp_path, server.base_url, additions(4), loop=loop)
    guerdon(tmp_path, "run", "recipe.yaml")
    by_iteration = {i: {t.task_id for t in trajectories(tmp_path, "train") if t.iteration == i} for i in (1, 2, 3)}
    assert by_iteration == {1: {"0", "1", "2"}, 2: {"3", "0", "1"}, 3: {"2", "3", "0"}}


def test_only_the_best_is_trained_on(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "r.py").write_text("def by_answer(answer): return float(answer) / 10\n")
    train_recipe(
        tmp_path,
        server.base_url,
        9,
        eval=None,
        rewards=["./r.py:by_answer"],
        loop={"group_size": 2, "min_reward": 0.5, "keep_top": 0.5},
    )
    guerdon(tmp_path, "run", "recipe.yaml")
    with last_run(tmp_path) as run:
        rows = (run.folder / "checkpoints" / "iteration-1.jsonl").read_text().splitlines()
    # answers 2 to 10, of which 5 to 10 earn enough, and of these the best half is taken, each but once
    assert sorted(json.loads(row)["reward"] for row in rows) == [0.8, 0.9, 1.0]


# -- single stages ----------------------------------------------------------------------------------------------------


def test_roll_out_then_train_then_evaluate(tmp_path: Path) -> None:
    with chat_server.serve(learner) as server:
        train_recipe(tmp_path, server.base_url)
        guerdon(tmp_path, "rollout", "recipe.yaml", "loop.group_size=2")
        assert {t.phase for t in trajectories(tmp_path)} == {"train"} and len(server.requests) == 8
        trained = guerdon(tmp_path, "train", "last", "--json").json["training"]["iteration-1"]
        good = {t.task_id for t in trajectories(tmp_path) if t.reward == 1.0}
        assert trained["rows"] == len(good) > 0, "two attempts that are the same are one row"
        with last_run(tmp_path) as run:
            assert (run.folder / "checkpoints" / "iteration-1" / "rows.jsonl").is_file()
        assert len(server.requests) == 8
        summary = guerdon(tmp_path, "eval", "last", "--json").json
        assert summary["eval"]["iteration-1"]["reward"] == 1.0
        assert [b["model"] for b in server.requests[8:]] == ["fake"] * 4 + ["iteration-1"] * 4
    assert len(list_runs(tmp_path / "runs")) == 1


def test_evaluate_a_recipes_model(tmp_path: Path) -> None:
    with chat_server.serve(learner) as server:
        train_recipe(tmp_path, server.base_url)
        summary = guerdon(tmp_path, "eval", "recipe.yaml", "eval.attempts=2", "--json").json
        assert list(summary["eval"]) == ["before"] and summary["eval"]["before"]["rollouts"] == 8
        assert len(server.requests) == 8


def test_training_needs_something_to_train_on(tmp_path: Path, server: ChatServer) -> None:
    write_recipe(tmp_path, server.base_url)
    guerdon(tmp_path, "rollout", "recipe.yaml")
    assert "has no trainer in its recipe" in guerdon(tmp_path, "train", "last", code=1).err


# -- scoring again ----------------------------------------------------------------------------------------------------


def test_score_again_with_other_rewards(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "r.py").write_text(REWARDS)
    write_recipe(tmp_path, server.base_url)
    guerdon(tmp_path, "run", "recipe.yaml")
    asked = len(server.requests)

    same = guerdon(tmp_path, "score", "last", "--json").json
    assert same == [
        {"reward": "(weighted sum)", "then": 1.0, "now": 1.0},
        {"reward": "numeric", "then": 1.0, "now": 1.0},
    ]
    other = guerdon(
        tmp_path,
        "score",
        "last",
        "rewards=[{numeric: {weight: 3}}, ./r.py:polite]",
        "--output",
        "scores.jsonl",
        "--json",
    ).json
    assert {row["reward"]: (row["then"], row["now"]) for row in other} == {
        "(weighted sum)": (1.0, 3.0),
        "numeric": (1.0, 1.0),
        "polite": (None, 0.0),
    }
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "trajectory": "train-1-0-0",
        "reward": 3.0,
        "scores": {"numeric": 1.0, "polite": 0.0},
        "reasons": {"polite": "it does not"},
    }
    assert len(lines) == 4 and len(server.requests) == asked
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 4, "the run itself is as it was"

    write_recipe(tmp_path, server.base_url, rewards=["./r.py:polite"])
    text = guerdon(tmp_path, "score", "last", "recipe.yaml").out
    assert re.search(r"polite +- +0\.000", text)


# -- looking back -----------------------------------------------------------------------------------------------------


def test_runs_that_a_recipe_keeps_elsewhere(tmp_path: Path) -> None:
    with chat_server.serve() as server:
        write_recipe(tmp_path, server.base_url, runs="out")
        guerdon(tmp_path, "rollout", "recipe.yaml")
    (tmp_path / "other.yaml").write_text("runs: [")
    hint = "recipe.yaml keeps its runs in out: --runs out"
    assert hint in guerdon(tmp_path, "runs").out
    for command in (
        ["show", "last"],
        ["report", "last"],
        ["run", "--resume"],
        ["chat", "last", "Hi"],
        ["export", "last"],
    ):
        assert hint in guerdon(tmp_path, *command, code=1).err
    assert "recipe" in guerdon(tmp_path, "show", "last", "--runs", "out").out


def test_runs_and_show(tmp_path: Path) -> None:
    with chat_server.serve(learner) as server:
        assert "No runs in runs/ yet." in guerdon(tmp_path, "runs").out
        assert guerdon(tmp_path, "runs", "--json").json == []
        train_recipe(tmp_path, server.base_url)
        guerdon(tmp_path, "run", "recipe.yaml")
        guerdon(tmp_path, "rollout", "recipe.yaml")
    first, second = guerdon(tmp_path, "runs", "--json").json
    assert first["run"] != second["run"] and (first["state"], second["state"]) == ("finished", "finished")
    assert first["newest"] == 1.0 > first["before"] and second["newest"] is None
    assert first["run"] in guerdon(tmp_path, "runs").out

    shown = guerdon(tmp_path, "show", first["run"]).out
    assert f"{first['run']}: finished" in shown and "4 held-out tasks, before and after" in shown
    assert "training iteration-1" in shown and "One as a conversation: guerdon show" in shown
    assert "there is no run 'nine' in runs/ (another folder: --runs)." in guerdon(tmp_path, "show", "nine", code=1).err
    figures = guerdon(tmp_path, "show", first["run"], "--json").json
    assert figures["finished"] is True and figures["eval"]["after"]["reward"] == 1.0

    best, worst = (guerdon(tmp_path, "show", first["run"], flag, "--json").json for flag in ("--best", "--worst"))
    assert (best["reward"], worst["reward"]) == (1.0, 0.0)
    talk = guerdon(tmp_path, "show", first["run"], worst["id"]).out
    assert "What is" in talk and "### 0 ###" in talk and "the weighted sum" in talk and "numeric" in talk
    said = guerdon(tmp_path, "show", first["run"], "train-1-0", code=1).err
    assert "has no trajectory 'train-1-0'. Did you mean 'train-1-" in said
    assert "fits several runs" in guerdon(tmp_path, "show", "recipe", code=1).err


SEVERAL = """\
def user(text):
    return {"role": "user", "content": text}

async def agent(task, policy):
    "Asks aside, then asks, doubts, and doubts again having forgotten the first doubt."
    async def ask(*messages):
        return (await policy.complete(messages))["choices"][0]["message"]
    await ask(user("Aside?"))
    asked = [user(task.text), await ask(user(task.text))]
    await ask(*asked, user("Sure of 1 + 1?"))
    return (await ask(*asked, user("Really 2 + 2?")))["content"]

def last(messages):
    return (1.0, " / ".join(m["content"] for m in messages if m["role"] == "user"))
"""


def test_show_has_every_conversation_of_an_agent(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> str:
        return "an aside" if body["messages"][-1]["content"] == "Aside?" else adds(body)

    (tmp_path / "parts.py").write_text(SEVERAL)
    with chat_server.serve(answer) as server:
        agent, rewards = "./parts.py:agent", ["./parts.py:last"]
        write_recipe(tmp_path, server.base_url, additions(1), agent=agent, rewards=rewards)
        guerdon(tmp_path, "rollout", "recipe.yaml")
    (t,) = trajectories(tmp_path)
    assert [turn.keep for turn in t.turns] == [0, 0, 2, 2]
    shown = guerdon(tmp_path, "show", "last", t.id).out
    said = "4 turns", "Aside?", "an aside", "another conversation", "What is 1 + 1?", "Sure of 1 + 1?"
    said += "from here on the agent went on from message 2", "Really 2 + 2?", "### 4 ###", "What is 1 + 1? / Really 2"
    places = [shown.find(text) for text in said]
    assert -1 not in places and places == sorted(places), shown
    assert [shown.count(text) for text in ("another conversation", "went on from message", "Aside?")] == [1, 1, 1]


def test_json_is_all_that_is_printed(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "r.py").write_text("def loud(completion):\n    print('hello')\n    return 1.0\n")
    write_recipe(tmp_path, server.base_url, rewards=["./r.py:loud"])
    ran = guerdon(tmp_path, "run", "recipe.yaml", "--json")
    assert ran.json["rollouts"]["1"]["reward"] == 1.0 and ran.err == ""


def test_what_a_run_leaves(tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("PLACE", server.base_url)
    write_recipe(tmp_path, "${PLACE}")
    guerdon(tmp_path, "run", "recipe.yaml", "seed=3", "tasks.limit=2")
    assert server.keys == ["sk-very-secret"] * 2
    with last_run(tmp_path) as run:
        assert {p.name for p in run.folder.iterdir()} >= {"recipe.yaml", "run.json", "store.db", "checkpoints", "logs"}
        assert run.info["seed"] == 3
        assert {"python", "guerdon", "pydantic"} <= set(run.info["versions"])
        frozen = (run.folder / "recipe.yaml").read_text()
        assert "limit: 2" in frozen and "seed: 3" in frozen and "${PLACE}" in frozen
        for path in run.folder.rglob("*"):
            assert path.is_dir() or b"sk-very-secret" not in path.read_bytes()
        database = sqlite3.connect(run.folder / "store.db")
        try:
            assert database.execute("select id, reward from trajectories order by id").fetchall() == [
                ("train-1-0-0", 1.0),
                ("train-1-1-0", 1.0),
            ]
        finally:
            database.close()


def test_odd_text_from_a_model_is_kept(tmp_path: Path) -> None:
    """Half a surrogate pair is JSON but no UTF-8."""
    odd = 'half \ud83d, \x00, \u2028 and "[bold]"'
    with chat_server.serve(lambda _: odd) as server:
        (tmp_path / "r.py").write_text("def anything(completion): return 1.0\n")
        train_recipe(tmp_path, server.base_url, 2, eval=None, rewards=["./r.py:anything"], loop={"group_size": 1})
        guerdon(tmp_path, "run", "recipe.yaml")
    found = trajectories(tmp_path)
    assert [t.completion for t in found] == [odd] * 2
    assert "[bold]" in guerdon(tmp_path, "show", "last").out
    assert "[bold]" in guerdon(tmp_path, "show", "last", found[0].id).out
