"""Alarms on trajectories made for them: each is given where it should, and is not where all is well."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import chat_server
import pytest
from command import guerdon, last_run, write_recipe

from guerdon.alarms import Alarm, Watch, alarms, find
from guerdon.trajectory import Failure, Score, Trajectory, Turn
from guerdon.trends import seen

Value = Callable[[random.Random, int], float | None]
"""Of a reward, by the iteration: 1 to 6."""


def right(share: float, rise: float = 0.0) -> Value:
    """1 in a share of the rollouts that rises with the iterations, else 0."""
    return lambda rng, i: float(rng.random() < share + rise * i)


def made(
    scores: dict[str, Value],
    *,
    tokens: Value = lambda rng, i: rng.randint(40, 60),
    said: Callable[[random.Random, int, int], str] = lambda rng, task, i: f"I think it is {rng.random():.9f} or so.",
    cut: Value = lambda rng, i: 0,
    failure: Callable[[random.Random, int], str] = lambda rng, i: "",
    error: float = 0.0,
    group: int = 4,
    iterations: int = 6,
    phase: str = "train",
    weights: dict[str, float] | None = None,
) -> list[Trajectory]:
    """Iterations of 24 tasks, all other than before, with a group of attempts each."""
    rng, found = random.Random(7), []
    for i in range(1, iterations + 1):
        for task in range(24):
            for attempt in range(group):
                text = said(rng, task, i)
                turn = Turn(
                    0,
                    ({"role": "user", "content": f"Task {task}?"},),
                    {"role": "assistant", "content": text},
                    "length" if cut(rng, i) else "stop",
                    reply_tokens=int(tokens(rng, i) or 0),
                )
                kind = failure(rng, i)
                t = Trajectory(
                    f"{phase}-{i}-{task}-{attempt}",
                    f"{i if phase == 'train' else 0}-{task}",
                    phase,
                    i,
                    attempt,
                    "chat",
                    "fake",
                    (turn,),
                    completion=None if kind else text,
                    failure=Failure(kind, f"it went {kind}") if kind else None,
                )
                broken = rng.random() < error
                given = {
                    name: Score(
                        None if broken else value(rng, i),
                        (weights or {}).get(name, 1.0),
                        error=Failure("exception", "ValueError: no number") if broken else None,
                    )
                    for name, value in scores.items()
                }
                found.append(t if kind else t.scored(given))
    return found


def given(trajectories: Iterable[Trajectory], compares: Iterable[str] = ("numeric",)) -> list[Alarm]:
    return find([seen(t) for t in trajectories], {*compares})


def kinds(trajectories: Iterable[Trajectory], compares: Iterable[str] = ("numeric",)) -> list[str]:
    return [alarm.kind for alarm in given(trajectories, compares)]


def test_all_is_well() -> None:
    assert kinds(made({"numeric": right(0.3, 0.08), "xml_format": right(0.3, 0.08)})) == []
    assert kinds([]) == []
    assert kinds(made({"numeric": right(0.5)}, iterations=1)) == []


def test_a_reward_that_rises_without_correctness() -> None:
    (alarm,) = given(made({"numeric": right(0.3), "xml_format": right(0.1, 0.13)}))
    assert alarm.kind == "gamed" and alarm.severity == "warning"
    before, after = alarm.evidence["reward"]
    assert after - before > 0.3 and abs(alarm.evidence["correctness"][1] - alarm.evidence["correctness"][0]) < 0.1
    assert "what has risen is xml_format" in str(alarm)
    assert "guerdon show RUN --best" in alarm.advice


def test_a_reward_that_rises_while_correctness_falls_is_worse() -> None:
    assert "gamed" in kinds(made({"numeric": right(0.6, -0.05), "polite": right(0.1, 0.14)}, weights={"polite": 2.0}))


def test_correctness_that_rises_too_is_no_game() -> None:
    assert "gamed" not in kinds(made({"numeric": right(0.2, 0.06), "xml_format": right(0.1, 0.13)}))


def test_correctness_that_is_at_its_best_cannot_rise() -> None:
    assert "gamed" not in kinds(made({"numeric": right(0.97), "xml_format": right(0.1, 0.13)}))


def test_nothing_is_said_where_no_reward_compares() -> None:
    assert "gamed" not in kinds(made({"polite": right(0.3), "xml_format": right(0.1, 0.13)}), compares=())


def test_few_rollouts_are_no_trend() -> None:
    few = made({"numeric": right(0.3), "xml_format": right(0.0, 0.5)}, iterations=2)
    assert "gamed" in kinds(few)
    assert kinds([t for t in few if t.task_id.endswith(("-1", "-2", "-3"))]) == []


def test_a_gamed_reward_shows_on_held_out_tasks() -> None:
    held_out = made({"numeric": right(0.3), "xml_format": right(0.0, 0.45)}, phase="eval", iterations=2)
    (alarm,) = given(held_out)
    assert alarm.kind == "gamed" and "on held-out tasks" in alarm.message
    both = [*held_out, *made({"numeric": right(0.3), "xml_format": right(0.1, 0.13)})]
    assert kinds(both) == ["gamed"]


def test_a_saturated_reward() -> None:
    (alarm,) = given(made({"numeric": right(0.3, 0.05), "xml_format": right(0.99)}))
    assert alarm.kind == "saturated" and alarm.severity == "note" and alarm.evidence["reward"] == "xml_format"
    assert kinds(made({"numeric": right(0.3, 0.05), "xml_format": right(0.85)})) == []
    assert kinds(made({"numeric": right(0.3, 0.05), "never": right(0.0)})) == []


def test_a_single_reward_that_is_always_earned_has_no_variance() -> None:
    (alarm,) = given(made({"numeric": right(1.0)}))
    assert alarm.kind == "no_variance" and alarm.severity == "note" and "too easy" in alarm.advice


def test_no_variance_in_most_groups() -> None:
    (alarm,) = given(made({"numeric": right(0.04)}))
    assert alarm.kind == "no_variance" and alarm.severity == "warning" and "too hard" in alarm.advice
    assert alarm.evidence["alike"] > 0.5 * alarm.evidence["groups"] and alarm.evidence["groups"] == 48
    assert kinds(made({"numeric": right(0.5)})) == []
    assert kinds(made({"numeric": right(0.04)}, group=1)) == []  # there is nothing to vary


def test_lengths_that_drift() -> None:
    longer = given(made({"numeric": right(0.5)}, tokens=lambda rng, i: 40 * i + rng.randint(0, 20)))
    assert [a.kind for a in longer] == ["lengths"] and "longer" in str(longer[0])
    shorter = given(made({"numeric": right(0.5)}, tokens=lambda rng, i: 240 / i + rng.randint(0, 20)))
    assert [a.kind for a in shorter] == ["lengths"] and "shorter" in str(shorter[0])
    assert kinds(made({"numeric": right(0.5)}, tokens=lambda rng, i: 100 + 5 * i + rng.randint(0, 20))) == []
    assert kinds(made({"numeric": right(0.5)}, tokens=lambda rng, i: 2 * i)) == []  # of a few tokens


def test_replies_that_are_cut_off() -> None:
    rising = given(made({"numeric": right(0.5)}, cut=right(0.0, 0.06)))
    assert [a.kind for a in rising] == ["cut_off"] and "before it was" in str(rising[0])
    assert kinds(made({"numeric": right(0.5)}, cut=right(0.7))) == ["cut_off"]
    assert kinds(made({"numeric": right(0.5)}, cut=right(0.1))) == []


def test_duplicates_within_groups() -> None:
    (alarm,) = given(made({"numeric": right(0.5)}, said=lambda rng, task, i: f"Task {task} of {i} is surely 7, I say."))
    assert alarm.kind == "duplicates" and alarm.evidence["share"] == 1.0 and "temperature" in alarm.advice
    assert kinds(made({"numeric": right(0.5)}, said=lambda rng, task, i: f"### {task} ###")) == []  # a short answer


def test_one_answer_to_every_task() -> None:
    phrase = "As an AI language model I cannot help with this."
    said = lambda rng, task, i: phrase if rng.random() < 0.15 else f"It is {rng.random():.9f}, I believe."  # noqa: E731
    (alarm,) = given(made({"numeric": right(0.5)}, said=said))
    assert alarm.kind == "duplicates" and "different tasks" in alarm.message


def test_many_failures_of_one_kind() -> None:
    (alarm,) = given(made({"numeric": right(0.5)}, failure=lambda rng, i: "timeout" if rng.random() < 0.2 else ""))
    assert alarm.kind == "failures" and alarm.evidence["failure"] == "timeout" and "it went timeout" in alarm.message
    few = made({"numeric": right(0.5)}, failure=lambda rng, i: rng.choice(["timeout", "http_5xx"] + [""] * 38))
    assert kinds(few) == []
    stopped = made({"numeric": right(0.5)}, failure=lambda rng, i: "cancelled" if i == 6 else "")
    assert kinds(stopped) == []


def test_failures_of_late_are_not_lost_among_the_earlier() -> None:
    late = made({"numeric": right(0.5)}, failure=lambda rng, i: "http_5xx" if i == 6 and rng.random() < 0.25 else "")
    assert kinds(late) == ["failures"]


def test_reward_errors() -> None:
    (alarm,) = given(made({"numeric": right(0.5)}, error=0.1))
    assert alarm.kind == "reward_errors" and "no number" in alarm.message
    assert kinds(made({"numeric": right(0.5)}, error=0.01)) == []


def test_a_watch_says_each_kind_once_and_leaves_out_what_others_say() -> None:
    watch = Watch({"numeric"})
    trajectories = made(
        {"numeric": right(0.3), "xml_format": right(0.1, 0.13)},
        failure=lambda rng, i: "timeout" if rng.random() < 0.2 else "",
    )
    said = [[a.kind for a in watch.add(t for t in trajectories if t.iteration == i)] for i in range(1, 7)]
    assert [kind for kinds in said for kind in kinds] == ["gamed"]
    assert said[0] == []


def test_a_watch_does_not_look_at_every_step() -> None:
    watch, looks = Watch({"numeric"}), 0
    for t in made({"numeric": right(0.5)}):
        before = watch._looked
        watch.add([t])
        looks += watch._looked != before
    assert 10 < looks < 70  # of 576


MINE = """\
def correct(completion, answer):
    return float(answer in completion)

def tidy(completion):
    return 1.0
"""


def test_which_rewards_compare_is_noted_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    rewards: list[Any] = ["numeric", {"./mine.py:correct": {"label": "mine"}}, "./mine.py:tidy"]
    with chat_server.serve() as server:
        write_recipe(tmp_path, server.base_url, rewards=rewards)
        guerdon(tmp_path, "run", "recipe.yaml")
    with last_run(tmp_path) as run:
        assert run.info["compares"] == ["mine", "numeric"]
        assert alarms(run) == []
        del run.info["compares"]  # a run of before: only what is installed is asked
        from guerdon.alarms import compared_in

        assert compared_in(run) == {"numeric"}


def test_alarms_are_on_the_console_once_and_in_show(tmp_path: Path) -> None:
    with chat_server.serve(lambda body: "I do not know, and never will.") as server:
        rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(20)]
        write_recipe(tmp_path, server.base_url, rows, loop={"group_size": 2})
        ran = guerdon(tmp_path, "run", "recipe.yaml")
        assert "As a page: guerdon report runs/" in ran.out
        assert ran.out.count("20 of 20 different tasks got one and the same answer") == 1
        assert ran.out.count("all attempts earn the same") == 1
    shown = guerdon(tmp_path, "show", "last").out
    assert "20 of 20 different tasks got one and the same answer" in shown
    assert "all attempts earn the same" in shown and "too hard" in shown


ROLLS_OUT = """\
import json
from contextlib import asynccontextmanager
from guerdon.traits import traits

class Model:
    "Is always wrong, and after a while polite."
    model, asked = "fake", 0

    async def complete(self, body, task):
        self.asked += 1
        message = {"role": "assistant", "content": "### 0 ###" + ", please" * (self.asked > 120)}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    async def load_adapter(self, path):
        pass

@asynccontextmanager
async def backend(model):
    yield Model()

@traits(rolls_out=True)
def trainer(job):
    tasks = [json.loads(line)["task"] for line in job.rows.open()]
    for step in range(1, 7):
        job.rollouts.generate([t for t in tasks for _ in range(2)], None, step)
        job.log(step, 6, {"loss": 0.0})
    job.output.mkdir()

def polite(completion):
    return float("please" in completion)
"""


def test_a_training_that_rolls_out_is_watched(tmp_path: Path) -> None:
    """Its console says once, while it goes, that the reward is gamed; of variance its trainer speaks."""
    (tmp_path / "mine.py").write_text(ROLLS_OUT)
    parts = {"trainer": "./mine.py:trainer", "backend": "./mine.py:backend", "rewards": ["numeric", "./mine.py:polite"]}
    write_recipe(
        tmp_path, "", [{"question": str(i), "answer": "7"} for i in range(20)], **parts, loop={"group_size": 2}
    )
    out = guerdon(tmp_path, "run", "recipe.yaml").out
    assert out.count("while correctness, numeric, has not (0.00 to 0.00): what has risen is polite") == 1
    assert "all attempts earn the same" not in out
    assert "all attempts earn the same" in guerdon(tmp_path, "show", "last").out


TWO_CONVERSATIONS = """
import json
from contextlib import asynccontextmanager
from guerdon.traits import traits

class Endpoint:
    model = "fake"
    async def complete(self, body, task):
        ids = [ord(c) for m in body["messages"] for c in m["role"] + m["content"]]
        message = {"role": "assistant", "content": "7"}
        return {"prompt_token_ids": ids, "choices": [{"message": message, "token_ids": [55]}]}
    async def load_adapter(self, path):
        pass

@asynccontextmanager
async def backend(model):
    yield Endpoint()

async def two(task, policy):
    for role in ("user", "system"):
        await policy.complete([{"role": role, "content": task.prompt}])
    return "7"

async def one(task, policy):
    await policy.complete(task.messages)
    return "7"

@traits(rolls_out=True)
def trainer(job):
    tasks = [json.loads(line)["task"] for line in job.rows.open()]
    for step in (1, 2):
        for made in job.rollouts.generate([t for t in tasks for _ in range(2)], None, step):
            assert made["completion_ids"] == [55]
    job.output.mkdir()
"""


@pytest.mark.parametrize(("agent", "said"), [("two", 1), ("one", 0)])
def test_a_policy_gradient_over_several_conversations_is_said(tmp_path: Path, agent: str, said: int) -> None:
    (tmp_path / "mine.py").write_text(TWO_CONVERSATIONS)
    parts = {"trainer": "./mine.py:trainer", "backend": "./mine.py:backend", "agent": f"./mine.py:{agent}"}
    write_recipe(tmp_path, "", **parts, loop={"group_size": 2})
    out = guerdon(tmp_path, "run", "recipe.yaml").out
    assert out.count("in 8 of 8 rollouts requests do not continue those before") == said


HALF_SCORED = (
    TWO_CONVERSATIONS.replace(
        'assert made["completion_ids"] == [55]', 'print(json.dumps([made["scores"], made["reward"]]))'
    )
    + """
def fails(completion, answer):
    if answer == "3":
        raise RuntimeError("no")
    return 0.0
"""
)


@pytest.mark.parametrize(("on_error", "scores", "reward"), [("drop", [None, None], None), ("zero", [1.0, 0.0], 1.0)])
def test_nothing_is_learnt_from_what_a_reward_failed_on(
    tmp_path: Path, on_error: str, scores: list[Any], reward: float | None
) -> None:
    """The other rewards alone would say that it is worse than the rest of its group."""
    rewards = ["./mine.py:fine", "./mine.py:fails"]
    (tmp_path / "mine.py").write_text(HALF_SCORED + "def fine(completion):\n    return 1.0\n")
    parts = {"trainer": "./mine.py:trainer", "backend": "./mine.py:backend", "agent": "./mine.py:one"}
    write_recipe(tmp_path, "", **parts, rewards=rewards, scoring={"on_error": on_error}, loop={"group_size": 2})
    guerdon(tmp_path, "run", "recipe.yaml")
    with last_run(tmp_path) as run:
        (log,) = run.folder.glob("logs/train*.log")
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("[{")]
        rewards = {t.task_id: t.reward for t in run.trajectories("train", 1)}
    assert lines[2] == lines[3] == [dict(zip(("fine", "fails"), scores, strict=True)), reward]
    assert lines[0] == [{"fine": 1.0, "fails": 0.0}, 1.0] and rewards == {"0": 1.0, "1": reward, "2": 1.0, "3": 1.0}
