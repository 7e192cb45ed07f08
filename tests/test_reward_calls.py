"""How rewards are called: shapes, what they ask for, what they may give back."""

import asyncio
import functools
import math
import time
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from command import guerdon, write_recipe

from guerdon.errors import RewardError
from guerdon.invoke import as_score, call, check_wants, shape
from guerdon.plugins import Component
from guerdon.recipe import Scoring
from guerdon.resolve import BoundReward
from guerdon.scoring import Scorer
from guerdon.task import Task
from guerdon.trajectory import Score, Trajectory, Turn, weighted_sum


def item(completion: str, answer: Any = "4", **fields: Any) -> tuple[Task, Trajectory]:
    turn = Turn(
        0, ({"role": "user", "content": "2 + 2?"},), {"role": "assistant", "content": completion}, reply_ids=(7,)
    )
    trajectory = Trajectory("train-1-t-0", "t", "train", 1, 0, "chat", "m", turns=(turn,), completion=completion)
    return Task("t", "2 + 2?", answer, {"question": "2 + 2?", **fields}), trajectory


def values(function: Any, *items: tuple[Task, Trajectory], **settings: Any) -> list[float | None]:
    scores = call(function, settings, items)
    assert [s.error for s in scores] == [None] * len(items)
    return [s.value for s in scores]


def error(function: Any, *items: tuple[Task, Trajectory]) -> tuple[str, str]:
    """Kind and message of the error of the only score."""
    (score,) = call(function, {}, items or (item("4"),))
    assert score.value is None and score.error
    return score.error.kind, score.error.message


# -- one trajectory a call --------------------------------------------------------------------------------------------


def test_a_reward_gets_what_its_parameters_name() -> None:
    def all_of_it(
        task: Any, trajectory: Any, prompt: Any, completion: Any, answer: Any, messages: Any, level: Any
    ) -> float:
        assert (task.id, trajectory.id, prompt, completion, answer) == ("t", "train-1-t-0", "2 + 2?", "4", "4")
        assert [m["role"] for m in messages] == ["user", "assistant"]
        return float(level)

    assert values(all_of_it, item("4", level=3), item("4", level=5)) == [3.0, 5.0]


def test_settings_are_keyword_only_parameters() -> None:
    def close(completion: str, answer: str, *, within: float = 0.0) -> bool:
        return abs(float(completion) - float(answer)) <= within

    assert values(close, item("5")) == [0.0]
    assert values(close, item("5"), within=1.0) == [1.0]


def test_a_parameter_with_a_default_is_optional() -> None:
    def hint(completion: str, hint: str = "none") -> float:
        return float(len(hint))

    assert values(hint, item("4"), item("4", hint="xy")) == [4.0, 2.0]


def test_a_column_that_one_task_lacks_is_that_ones_error() -> None:
    def level(level: int) -> int:
        return level

    there, lacks = call(level, {}, [item("4", level=1), item("4")])
    assert there.value == 1.0
    assert lacks.error and (lacks.error.kind, lacks.error.message) == ("missing_column", "task t has no column 'level'")


def test_callable_objects_and_partials_are_rewards() -> None:
    class Length:
        def __call__(self, completion: str, *, scale: float = 1.0) -> float:
            return len(completion) * scale

    assert values(Length(), item("four"), scale=0.5) == [2.0]
    assert values(functools.partial(lambda completion, answer: completion == answer, answer="4"), item("4")) == [1.0]


def test_coroutines_are_run_to_their_end() -> None:
    async def one(completion: str) -> float:
        return 0.5

    async def many(completions: list[str]) -> list[float]:
        return [0.25 for _ in completions]

    assert values(one, item("4")) == [0.5]
    assert values(many, item("4"), item("5")) == [0.25, 0.25]


@pytest.mark.parametrize(
    ("given", "score"),
    [
        (1, Score(1.0)),
        (True, Score(1.0)),
        (Fraction(1, 4), Score(0.25)),
        (Decimal("0.5"), Score(0.5)),
        (None, Score(None)),
        ((0.5, "half right"), Score(0.5, reason="half right")),
        ((None, "no number asked for"), Score(None, reason="no number asked for")),
        (Score(0.5, weight=9.0, reason="r"), Score(0.5, reason="r")),
    ],
)
def test_what_a_score_may_be(given: Any, score: Score) -> None:
    assert as_score(given) == score


def test_numbers_of_numpy_and_torch_are_scores() -> None:
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    for one in (numpy.float32(0.5), numpy.array([0.5]), torch.tensor(0.5), torch.tensor([0.5])):
        assert as_score(one) == Score(0.5)
    for many in (numpy.array([0.5, 0.5]), torch.tensor([0.5, 0.5])):
        with pytest.raises(RewardError, match="a number or None is needed"):
            as_score(many)
    assert values(lambda completions: torch.tensor([0.5, 1.0]), item("4"), item("5")) == [0.5, 1.0]
    assert values(lambda completions: numpy.array([0.5, 1.0]), item("4"), item("5")) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("1.0", "not_a_number", "it returned str '1.0'; a number or None is needed"),
        ([1.0], "not_a_number", "it returned list [1.0]; a number or None is needed"),
        ({"score": 1.0}, "not_a_number", "it returned dict {'score': 1.0}; a number or None is needed"),
        (1j, "not_a_number", "it returned complex 1j; a number or None is needed"),
        (math.nan, "not_finite", "it returned nan, which is no score"),
        (-math.inf, "not_finite", "it returned -inf, which is no score"),
        ((1.0, 2.0), "not_a_number", "it returned tuple (1.0, 2.0); a number or None is needed"),
        (10**400, "raised", "OverflowError: int too large to convert to float"),
        ("x" * 500, "not_a_number", "..."),
    ],
)
def test_what_a_score_may_not_be(given: Any, kind: str, message: str) -> None:
    def reward(completion: str) -> Any:
        return given

    found = error(reward)
    assert found[0] == kind and message in found[1] and len(found[1]) < 200


def test_what_it_raises_is_named_with_its_line() -> None:
    def broken(completion: str) -> float:
        raise LookupError("no unit")

    kind, message = error(broken)
    assert (
        kind == "raised" and message.startswith("LookupError: no unit (") and "test_reward_calls.py, line " in message
    )


# -- a group a call ---------------------------------------------------------------------------------------------------


def test_a_plural_name_makes_a_batch_reward() -> None:
    def best(completions: list[str], answers: list[str], questions: list[str], *, top: float = 1.0) -> list[float]:
        assert answers == ["4", "4"] and questions == ["2 + 2?"] * 2
        longest = max(map(len, completions))
        return [top * (len(c) == longest) for c in completions]

    assert shape(best).kind == "batch"
    assert values(best, item("4"), item("four")) == [0.0, 1.0]
    assert values(best, item("4"), item("four"), top=0.5) == [0.0, 0.5]


def test_each_score_of_a_batch_stands_for_itself() -> None:
    scores = call(lambda completions: [1.0, None, math.nan, (0.5, "half")], {}, [item(str(i)) for i in range(4)])
    assert [s.value for s in scores] == [1.0, None, None, 0.5]
    assert [s.error.kind if s.error else "" for s in scores] == ["", "", "not_finite", ""]
    assert scores[3].reason == "half"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ([1.0], "wrong_length", "it returned 1 scores for 2 completions"),
        ([1.0] * 3, "wrong_length", "it returned 3 scores for 2 completions"),
        (1.0, "not_a_list", "it returned float 1.0 for 2 completions; a list is needed"),
        ("ab", "not_a_list", "it returned str 'ab' for 2 completions"),
        ({1.0, 2.0}, "not_a_list", "it returned set {1.0, 2.0} for 2 completions"),
        ({"a": 1.0, "b": 2.0}, "not_a_list", "it returned dict"),
        (None, "not_a_list", "it returned NoneType None for 2 completions"),
        ((x for x in (1.0, 2.0)), "not_a_list", "it returned generator"),
    ],
)
def test_what_a_batch_may_not_be(given: Any, kind: str, message: str) -> None:
    scores = call(lambda completions: given, {}, [item("4"), item("5")])
    for score in scores:
        assert score.value is None and score.error and score.error.kind == kind and message in score.error.message
    assert len(scores) == 2


def test_trls_signature_is_called_as_trl_does() -> None:
    seen: dict[str, Any] = {}

    def trl(prompts: Any, completions: Any, level: Any, **kwargs: Any) -> list[float]:
        seen.update(kwargs, prompts=prompts, completions=completions, level=level)
        return [float(len(c[0]["content"])) for c in completions]

    assert shape(trl).kind == "trl"
    assert values(trl, item("4", level=1), item("four", level=2)) == [1.0, 4.0]
    assert seen["prompts"] == [[{"role": "user", "content": "2 + 2?"}]] * 2
    assert seen["completions"][1] == [{"role": "assistant", "content": "four"}]
    assert (seen["level"], seen["answer"], seen["completion_ids"]) == ([1, 2], ["4", "4"], [[7], [7]])
    assert seen["question"] == ["2 + 2?"] * 2 and seen["trainer_state"] is None


def test_trls_signature_may_use_plural_names_too() -> None:
    def trl(completions: Any, answers: Any, **kwargs: Any) -> list[bool]:
        return [c[0]["content"] == a for c, a in zip(completions, answers, strict=True)]

    check_wants(trl, ["question", "answer"])
    assert values(trl, item("4"), item("5")) == [1.0, 0.0]


def test_a_batch_may_ask_for_the_conversations() -> None:
    def turns(completions: list[str], messages: list[list[Any]]) -> list[int]:
        return [len(talk) for talk in messages]

    assert values(turns, item("4"), item("5")) == [2.0, 2.0]
    assert values(lambda completions, messages, **kwargs: turns(completions, messages), item("4")) == [2.0]


def test_a_column_that_one_task_of_a_group_lacks_is_the_groups_error() -> None:
    for reward in (lambda completions, hints: [1.0] * 2, lambda completions, hints, **kwargs: [1.0] * 2):
        scores = call(reward, {}, [item("4", hint="h"), item("4")])
        assert [s.error and (s.error.kind, s.error.message) for s in scores] == [
            ("missing_column", "the tasks have no column 'hints'")
        ] * 2


# -- signatures -------------------------------------------------------------------------------------------------------


def test_shapes() -> None:
    assert shape(lambda completion: 1).kind == "one"
    assert shape(lambda tasks, trajectories: 1).kind == "batch"
    assert shape(lambda prompts, completions, **kwargs: 1).kind == "trl"
    with pytest.raises(RewardError, match="it asks for nothing"):
        shape(lambda: 1)
    with pytest.raises(RewardError, match=r"\*\*kwargs is TRL's signature, which has `completions`"):
        shape(lambda **kwargs: 1)


def test_beside_a_singular_name_a_plural_one_is_a_column() -> None:
    def one_of(completion: str, answers: list[str]) -> bool:
        return completion in answers

    assert shape(one_of).kind == "one"
    check_wants(one_of, ["question", "answers"])
    assert values(one_of, item("4", answers=["4", "four"]), item("5", answers=["4"])) == [1.0, 0.0]
    with pytest.raises(RewardError, match=r"of one trajectory, and for 'answers', of a group .* completions, answers"):
        check_wants(one_of, ["question"])
    check_wants(lambda completion, answers=(): 1, ["question"])
    with pytest.raises(RewardError, match=r"it asks for 'levels', which .* Did you mean 'level'"):
        check_wants(lambda completion, levels: 1, ["level"])


def test_wants_are_checked_against_the_columns() -> None:
    check_wants(lambda completion, level: 1, ["level"])
    check_wants(lambda completions, levels: 1, ["level"])
    check_wants(lambda completion, level=None: 1, [])
    check_wants(lambda completions, completion_ids, **kwargs: 1, [])
    with pytest.raises(RewardError, match=r"it asks for 'levle', which the tasks do not have\. Did you mean 'level'"):
        check_wants(lambda completion, levle: 1, ["level"])


def test_the_weighted_sum_leaves_out_what_did_not_apply() -> None:
    assert weighted_sum({"a": Score(1.0, 2.0), "b": Score(None, 5.0), "c": Score(0.5, -1.0)}) == 1.5
    assert weighted_sum({"b": Score(None)}) is None
    assert weighted_sum({"b": Score(0.0)}) == 0.0


# -- workers ----------------------------------------------------------------------------------------------------------


async def _slow(completion: str) -> float:
    return 0.5


class _Slow:
    async def __call__(self, completion: str) -> float:
        return 0.5


_slow_object = _Slow()


@pytest.mark.parametrize("name", ["_slow", "_slow_object"])
def test_an_inline_coroutine_goes_to_a_worker(name: str) -> None:
    """In the engine's own event loop it could not be run to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        component = Component("rewards", "slow", f"{__file__}:{name}", inline=True)
        reward = BoundReward(component, globals()[name], {}, "slow", 2.0, 10.0)
        with Scorer([reward], Scoring(workers=1)) as scorer:
            (scored,) = asyncio.run(scorer.score([item("4")]))
    assert scored.scores["slow"].value == 0.5 and scored.reward == 1.0


REPEATS = """
import json
from contextlib import asynccontextmanager
from guerdon.traits import traits

class Endpoint:
    model = "fake"
    async def complete(self, body, task):
        message = {"role": "assistant", "content": "7"}
        return {"prompt_token_ids": [1], "choices": [{"message": message, "token_ids": [55]}]}
    async def load_adapter(self, path):
        pass

@asynccontextmanager
async def backend(model):
    yield Endpoint()

@traits(rolls_out=True)
def trainer(job, *, scores: bool = False):
    (task,) = [json.loads(line)["task"] for line in job.rows.open()]
    if scores:
        item = {"task": task, "prompt_ids": [1], "completion_ids": [55]}
        made = job.rollouts.score([{**item, "completion": str(i)} for i in range(8)], 1)
        assert [m["scores"]["first"] for m in made] == [float(i in (0, 4)) for i in range(8)], made
    else:
        made = job.rollouts.generate([task] * 8, None, 1)
    assert [m["trajectory"] for m in made] == [f"train-1-{task}-{i}" for i in range(8)]
    assert [m["scores"]["size"] for m in made] == [4.0] * 8, made
    job.output.mkdir()

def size(completions):
    return [float(len(completions))] * len(completions)

def first(completions):
    return [float(c == completions[0]) for c in completions]
"""


def _quarter_each(completions: list[str]) -> list[float]:
    time.sleep(0.25 * len(completions))
    return [1.0] * len(completions)


def test_a_groups_deadline_is_that_of_its_scores_together() -> None:
    component = Component("rewards", "quarter", f"{__file__}:_quarter_each")
    reward = BoundReward(component, _quarter_each, {}, "quarter", 1.0, 0.6)
    with Scorer([reward], Scoring(workers=1)) as scorer:
        scored = asyncio.run(scorer.score([item(str(i)) for i in range(4)]))
    assert [t.reward for t in scored] == [1.0] * 4, scored[0].scores


@pytest.mark.parametrize("scores", [True, False])
def test_a_task_that_comes_twice_is_two_groups(tmp_path: Path, scores: bool) -> None:
    (tmp_path / "mine.py").write_text(REPEATS)
    parts = {"trainer": {"./mine.py:trainer": {"scores": scores}}, "backend": "./mine.py:backend"}
    rewards = ["./mine.py:size", "./mine.py:first"]
    tasks = [{"question": "What is 3 + 4?", "answer": "7"}]
    write_recipe(tmp_path, "", tasks, **parts, rewards=rewards, loop={"group_size": 4})
    guerdon(tmp_path, "run", "recipe.yaml")


def test_a_reason_is_text_whatever_a_reward_gives() -> None:
    """It is stored as JSON."""
    assert as_score(Score(0.5, reason=ValueError("half"))).reason == "half"  # type: ignore[arg-type]
