"""Rewards both ways: guerdon's in scripts, TRL, verl and verifiers, and theirs in guerdon."""

import asyncio
import inspect
import logging
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import guerdon
from guerdon.adapters import Reward, from_verifiers
from guerdon.errors import ComponentError, RewardError
from guerdon.invoke import call, check_wants, shape
from guerdon.plugins import Component
from guerdon.registry import load
from guerdon.settings import describe
from guerdon.signatures import native
from guerdon.task import Task
from guerdon.trajectory import Trajectory, Turn

MINE = '''
import asyncio, os, time

def slow(completion, *, seconds: float = 30.0):
    if completion == "slow":
        time.sleep(seconds)
    return 1.0

def picky(completion, answer):
    if completion == "die":
        os._exit(3)
    if completion == "raise":
        raise LookupError("no such thing")
    if completion == "skip":
        return None
    return float(completion == answer), f"{completion} against {answer}"

async def waits(completion):
    await asyncio.sleep(0)
    return float(len(completion))

def shortest(completions):
    least = min(map(len, completions))
    return [float(len(c) == least) for c in completions]

def talk(messages, prompt, completion):
    return float(len(messages)), f"{prompt}|{completion}"

def tokens(trajectory):
    return float(trajectory.reply_tokens)

def level(completion, level):
    return float(level)

def needs(completion):
    import no_such_module

def nested(completion, answer):
    import guerdon
    return guerdon.reward("numeric")(completion, answer)

def compute_score(data_source, solution_str, ground_truth, extra_info=None, method="strict", **kwargs):
    """As verl calls it."""
    return {"score": float(ground_truth in solution_str), "method": method, "level": extra_info["level"]}

def with_state(completion, answer, state):
    assert state["answer"] == answer and state["prompt"][0]["role"] == "user"
    return float(answer in completion[-1]["content"])
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reward]:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return lambda name, **settings: guerdon.reward(f"./mine.py:{name}", **settings)


# -- in a script ------------------------------------------------------------------------------------------------------


def test_a_score_in_a_script() -> None:
    numeric = guerdon.reward("numeric")
    assert numeric("The answer is 42.", "42") == 1.0
    assert numeric("The answer is 42.") is None
    assert numeric.score("41", "42").reason == "41 against 42"
    assert numeric("It is 41.", "Hence the #### 41") == 1.0
    with pytest.raises(RewardError, match="'banana' is not a number") as caught:
        numeric("42", "banana")
    assert caught.value.kind == "raised"


def test_names_and_settings_are_as_in_recipes(mine: Callable[..., Reward]) -> None:
    assert guerdon.reward("guerdon:numeric", relative=0.1)("2.1", "2.05") == 1.0
    for name, message in [
        ("numerik", "there is no reward 'numerik'. Did you mean 'numeric'"),
        ("./mine.py:pikcy", "has no attribute 'pikcy'. Did you mean 'picky'"),
        ("./mine.py:os", "is a module, not a function"),
        ("./other.py:f", "there is no file"),
    ]:
        with pytest.raises(ComponentError) as caught:
            guerdon.reward(name)
        assert message in str(caught.value)
    with pytest.raises(ComponentError, match=r"has no setting 'second'\. Did you mean 'seconds'"):
        mine("slow", second=1)
    with pytest.raises(ComponentError, match="seconds: Input should be a valid number"):
        mine("slow", seconds="long")


def test_lists_are_scored_in_order(mine: Callable[..., Reward]) -> None:
    picky = mine("picky")
    scores = picky.scores(["1", "die", "skip", "raise", "2"] * 20, ["1"] * 100)
    assert [s.value for s in scores] == [1.0, None, None, None, 0.0] * 20
    assert [s.error.kind if s.error else "" for s in scores] == ["", "died", "", "raised", ""] * 20
    assert scores[4].reason == "2 against 1"
    with pytest.raises(RewardError, match="answers: 1 value for 2 completions"):
        picky.scores(["1", "2"], ["1"])
    with pytest.raises(RewardError, match="level: a text for 2 completions"):
        picky.scores(["1", "2"], level="12")
    assert picky.scores([]) == []


def test_a_score_has_a_deadline(mine: Callable[..., Reward]) -> None:
    slow = mine("slow", timeout=0.3)
    slow("warm")
    started = time.monotonic()
    scores = slow.scores(["a", "slow", "b"])
    assert time.monotonic() - started < 5
    assert [s.value for s in scores] == [1.0, None, 1.0]
    with pytest.raises(RewardError) as caught:
        slow("slow")
    assert caught.value.kind == "timeout"


def test_columns_prompts_and_messages(mine: Callable[..., Reward]) -> None:
    level, talk = mine("level"), mine("talk")
    assert level("x", level=3) == 3.0
    assert [s.value for s in level.scores(["x", "y"], level=[1, 2])] == [1.0, 2.0]
    with pytest.raises(RewardError, match="no column 'level'"):
        level("x")
    assert talk.score("4", prompt="2 + 2?").value == 2.0
    said = [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "4."}]},
    ]
    score = talk.score(said, prompt=[{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 2?"}])
    assert (score.value, score.reason) == (5.0, "2 + 2?|It is 4.")


def test_equal_prompts_are_a_group(mine: Callable[..., Reward]) -> None:
    shortest = mine("shortest")
    assert [s.value for s in shortest.scores(["a", "bb", "ccc"])] == [1.0, 0.0, 0.0]
    given = shortest.scores(["aa", "bbb", "a", "bb"], prompts=["p", "q", "p", "q"])
    assert [s.value for s in given] == [0.0, 0.0, 1.0, 1.0]


def test_from_threads_asyncio_and_within_a_reward(mine: Callable[..., Reward]) -> None:
    picky, waits, nested = mine("picky"), mine("waits"), mine("nested")
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda i: picky(str(i), "3"), range(8))) == [float(i == 3) for i in range(8)]

    async def both() -> Any:
        return await asyncio.gather(waits.ascore("four"), picky.ascores(["1", "2"], ["1", "1"]))

    one, two = asyncio.run(both())
    assert one.value == 4.0 and [s.value for s in two] == [1.0, 0.0]
    assert nested("It is 42.", "42") == 1.0


def test_what_is_made_can_be_pickled_and_used_in_a_spawned_process(mine: Callable[..., Reward]) -> None:
    picky = mine("picky")
    for made in (picky, picky.trl(), picky.verl(), picky.verifiers()):
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is type(made)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        given = processes.submit(picky.trl(), ["p"] * 2, ["1", "2"], answer=["1", "1"])
        assert given.result(60) == [1.0, 0.0]


# -- TRL --------------------------------------------------------------------------------------------------------------


def test_as_trl_calls_it(mine: Callable[..., Reward]) -> None:
    numeric = guerdon.reward("numeric").trl(answer="solution")
    talk = [[{"role": "user", "content": "6 * 7?"}]] * 2
    said = [[{"role": "assistant", "content": "It is 42."}], [{"role": "assistant", "content": "It is 41."}]]
    logged: dict[str, Any] = {}
    given = numeric(
        prompts=talk,
        completions=said,
        completion_ids=[[1], [2]],
        solution=["42", "42"],
        trainer_state=None,
        log_extra=lambda column, values: logged.update({column: values}),
        log_metric=lambda name, value: logged.update({name: value}),
    )
    assert given == [1.0, 0.0] and numeric.__name__ == "numeric"
    assert logged == {"numeric/errors": 0.0, "numeric/reason": ["", "41 against 42"]}
    assert numeric(["p"], ["It is 42."], solution=["42"]) == [1.0]
    assert mine("tokens").trl()(["p"] * 2, ["a", "b"], [[1, 2, 3], [4]]) == [3.0, 1.0]
    with pytest.raises(RewardError, match=r"no column 'solution' with the reference; .*answer='...'"):
        numeric(["p"], ["42"], answer=["42"])
    with pytest.raises(RewardError, match="it asks for 'level'"):
        mine("level").trl()(["p"], ["42"], answer=["42"])


def test_failures_in_trl(mine: Callable[..., Reward], caplog: pytest.LogCaptureFixture) -> None:
    told = {"prompts": ["p"] * 3, "completions": ["1", "raise", "skip"], "answer": ["1"] * 3}
    metrics: dict[str, float] = {}
    with caplog.at_level(logging.WARNING, "guerdon"):
        assert mine("picky").trl()(**told, log_metric=metrics.__setitem__) == [1.0, None, None]
    assert "reward picky failed on 1 of 3 completions: raised: LookupError: no such thing" in caplog.text
    assert metrics == {"picky/errors": pytest.approx(1 / 3)}
    assert mine("picky").trl(on_error="zero")(**told) == [1.0, 0.0, None]
    with pytest.raises(RewardError, match="LookupError"):
        mine("picky").trl(on_error="abort")(**told)
    with pytest.raises(RewardError, match="no_such_module"):
        mine("needs").trl()(["p"], ["x"])


@pytest.mark.model
def test_trl_trains_with_it(tmp_path: Path, mine: Callable[..., Reward]) -> None:
    """Real steps of GRPOTrainer; an inline reward and one in workers."""
    pytest.importorskip("trl")
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from guerdon_backends.models import smollm2_135m

    torch.manual_seed(0)
    rows = [{"prompt": [{"role": "user", "content": f"What is {i} + {i}?"}], "answer": str(2 * i)} for i in range(4)]
    config = GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        max_steps=2,
        learning_rate=1e-6,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=smollm2_135m(),
        reward_funcs=[guerdon.reward("numeric").trl(), mine("shortest").trl()],
        args=config,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "rewards/numeric/mean" in entry]
    assert len(steps) == 2
    for step in steps:
        assert 0.0 <= step["rewards/numeric/mean"] <= 1.0 and step["numeric/errors"] == 0.0
        assert 0.25 <= step["rewards/shortest/mean"] <= 1.0


# -- verl -------------------------------------------------------------------------------------------------------------


def test_as_verl_calls_it(mine: Callable[..., Reward], caplog: pytest.LogCaptureFixture) -> None:
    numeric = guerdon.reward("numeric").verl()
    assert not inspect.iscoroutinefunction(numeric)
    good = numeric(data_source="gsm8k", solution_str="It is 42.", ground_truth="42", extra_info={"num_turns": None})
    assert good == {"score": 1.0, "reason": "", "applies": 1.0, "failed": 0.0}
    assert numeric("gsm8k", "It is 41.", "42")["reason"] == "41 against 42"
    assert numeric("gsm8k", "2.1", "2.05", {}, relative=0.1, reward_router_address=None)["score"] == 1.0
    with pytest.raises(ComponentError, match="has no setting 'relativ'"):
        numeric("gsm8k", "2.1", "2.05", {}, relativ=0.1)
    assert numeric("gsm8k", "42", None) == {"score": 0.0, "reason": "", "applies": 0.0, "failed": 0.0}
    assert mine("level").verl()("gsm8k", "42", "42", {"level": 3})["score"] == 3.0
    with caplog.at_level(logging.WARNING, "guerdon"):
        bad = mine("picky").verl()("gsm8k", "raise", "42")
    assert (bad["score"], bad["applies"], bad["failed"]) == (0.0, 1.0, 1.0)
    assert bad["reason"].startswith("raised: LookupError: no such thing") and "failed on 1 of 1" in caplog.text
    with pytest.raises(RewardError, match="LookupError"):
        mine("picky").verl(on_error="abort")("gsm8k", "raise", "42")
    with pytest.raises(RewardError, match="no_such_module"):
        mine("needs").verl()("gsm8k", "42", "42")


def test_verl_loads_and_calls_it(tmp_path: Path) -> None:
    """verl's own loader and its naive reward manager."""
    reward = pytest.importorskip("verl.trainer.ppo.reward")
    from omegaconf import OmegaConf

    file = tmp_path / "rewards.py"
    file.write_text("import guerdon\ncompute_score = guerdon.reward('numeric').verl()\n")
    own = {"path": str(file), "name": "compute_score", "reward_kwargs": {"relative": 0.1}}
    compute_score = reward.get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": own}}))
    given = compute_score(data_source="d", solution_str="It is 2.1.", ground_truth="2.05", extra_info={})
    assert given["score"] == 1.0


def test_a_function_of_verl_in_guerdon(mine: Callable[..., Reward], tmp_path: Path) -> None:
    score = mine("compute_score", method="flexible").score("so 42", "42", level=3)
    assert (score.value, score.reason) == (1.0, "method=flexible, level=3")
    function = load(Component("rewards", "compute_score", f"{tmp_path}/mine.py:compute_score"))
    assert shape(function).wants == ("task", "completion", "answer")
    about, settings = describe(function)
    assert about == "As verl calls it." and [s.name for s in settings] == ["method"]


def test_other_functions_of_verl() -> None:
    async def waits(solution_str: str, ground_truth: str) -> float:
        return float(solution_str == ground_truth)

    def many(data_sources: Any, solution_strs: Any, ground_truths: Any, extra_infos: Any) -> list[Any]:
        assert list(data_sources) == ["d", "d"] and extra_infos[0] == {"split": "test"}
        return [{"score": float(s == g), "n": 2} for s, g in zip(solution_strs, ground_truths, strict=True)]

    def row(solution_str: str, ground_truth: str) -> float:
        return float(solution_str == ground_truth)

    task = Task("t", "6 * 7?", "42", {"data_source": "d", "extra_info": {"split": "test"}})
    items = [(task, done("42")), (task, done("41"))]
    assert [s.value for s in call(native(waits), {}, items)] == [1.0, 0.0]
    assert [(s.value, s.reason) for s in call(native(many), {}, items)] == [(1.0, "n=2"), (0.0, "n=2")]
    asked = Task("t", "6 * 7?", {"style": "rule", "ground_truth": "42"})  # verl's column `reward_model`
    assert [s.value for s in call(native(row), {}, [(asked, done("42"))])] == [1.0]


def done(completion: str) -> Trajectory:
    turn = Turn(0, ({"role": "user", "content": "6 * 7?"},), {"role": "assistant", "content": completion})
    return Trajectory("i", "t", "train", 1, 0, "chat", "m", turns=(turn,), completion=completion)


# -- verifiers --------------------------------------------------------------------------------------------------------


def score_of(function: Any, completion: str = "42", **fields: Any) -> Any:
    (score,) = call(native(function), {}, [(Task("t", "6 * 7?", "42", fields), done(completion))])
    return (score.error.kind, score.error.message) if score.error else score.value


def test_as_a_rubric_calls_it(mine: Callable[..., Reward]) -> None:
    numeric, state = guerdon.reward("numeric").verifiers(), dict[str, Any]()
    assert numeric.__name__ == "numeric" and not {"completions", "answers"} & {*inspect.signature(numeric).parameters}
    said = [{"role": "assistant", "content": "It is 41."}]
    known = {"prompt": [{"role": "user", "content": "6 * 7?"}], "info": {"level": 2}, "state": state, "parser": None}
    assert asyncio.run(numeric(completion=said, answer="42", task="default", **known)) == 0.0
    assert state["guerdon"] == {"numeric": {"value": 0.0, "reason": "41 against 42"}}
    assert asyncio.run(mine("level").verifiers()(completion=said, answer="42", **known)) == 2.0
    assert asyncio.run(mine("picky").verifiers()(completion="skip", answer="42")) == 0.0
    with pytest.raises(RewardError, match="is not a number"):
        asyncio.run(numeric(completion=said, answer="banana", **known))


def test_a_rubric_of_verifiers_calls_it() -> None:
    vf: Any = pytest.importorskip("verifiers.legacy")
    rubric = vf.Rubric(funcs=[guerdon.reward("numeric").verifiers()], weights=[0.5])
    state = vf.State(input={"prompt": [], "answer": "42", "example_id": 0})
    state.update(prompt=[], completion=[{"role": "assistant", "content": "It is 42."}], answer="42", trajectory=[])
    asyncio.run(rubric.score_rollout(state))
    assert state["reward"] == 0.5 and state["metrics"] == {"numeric": 1.0}


def test_verifiers_v1_calls_it() -> None:
    vf: Any = pytest.importorskip("verifiers.v1")

    class Data(vf.TaskData):  # type: ignore[misc]
        gold: str | None = None

    class Sum(vf.Task[Data]):  # type: ignore[misc]
        numeric = vf.reward(weight=2.0)(guerdon.reward("numeric").verifiers(answer="gold"))

    class Trace(vf.Trace):  # type: ignore[misc]
        @property
        def last_reply(self) -> str:
            return str(self.info["reply"])

    def scored(reply: str, gold: str | None) -> Any:
        task = Sum(Data(prompt="6 * 7?", gold=gold))
        trace = Trace.model_construct(rewards={}, metrics={}, info={"reply": reply}, nodes=[], errors=[])
        asyncio.run(task.score(trace))
        return {name: (given.score, given.weight) for name, given in trace.rewards.items()}

    assert scored("It is 42.", "42") == {"numeric": (1.0, 2.0)}
    assert scored("It is 41.", "42") == {"numeric": (0.0, 2.0)}
    assert scored("It is 42.", None) == {}


def test_functions_of_verifiers_are_known_by_their_marks(mine: Callable[..., Reward]) -> None:
    async def parsed(parser: Any, completion: Any, answer: str, **kwargs: Any) -> float:
        assert kwargs["prompt"][0]["role"] == "user" and kwargs["level"] == 3
        return float(parser.parse_answer(completion) == answer)

    def v1(task: Any, trace: Any) -> dict[str, float]:
        return {"right": float(trace.last_reply == task.answer), "turns": float(trace.num_turns)}

    def ranked(completions: Any, states: Any) -> list[float]:
        return [float(s["completion"] == c) for s, c in zip(states, completions, strict=True)]

    def column(completion: Any, state: Any, level: int, hint: str = "none") -> float:
        return float(level)

    assert score_of(parsed, level=3) == 1.0
    assert score_of(v1) == 2.0
    assert score_of(ranked) == 1.0
    assert score_of(column, level=3) == 3.0 and shape(native(column)).wants == ("task", "trajectory", "level", "hint")
    assert mine("with_state")("42", "42", prompt="6 * 7?") == 1.0
    with pytest.raises(ComponentError, match="verifiers' `runtime`"):
        native(lambda task, trace, runtime: 1.0)


def test_a_column_that_is_named_as_a_mark_is_no_guesswork() -> None:
    def voters(completion: str, state: str) -> float:
        return 1.0

    assert score_of(voters, state="NY")[0] == "ambiguous"
    with pytest.raises(RewardError, match="'state': that of a rollout in verifiers, or the tasks' column"):
        check_wants(native(voters), ["question", "state"])
    assert score_of(from_verifiers(voters), state="NY") == 1.0


def test_what_looks_like_guerdons_is_wrapped_by_hand() -> None:
    def terse(completion: Any, answer: str, **kwargs: Any) -> float:
        return float(completion[-1]["content"] == answer)

    @from_verifiers
    def wrapped(completion: Any, *, most: int = 9) -> float:
        """Short."""
        return float(len(completion[-1]["content"]) <= most)

    assert shape(lambda completion, answer: 1.0).kind == "one" and native(len) is len
    with pytest.raises(RewardError, match=r"wrap it in guerdon\.adapters\.from_verifiers"):
        shape(native(terse))
    assert score_of(from_verifiers(terse)) == 1.0
    assert [s.value for s in call(wrapped, {"most": 1}, [(Task("t", "?"), done("42"))])] == [0.0]
    assert wrapped.__doc__ == "Short." and native(wrapped) is wrapped


def test_a_whole_rubric_is_a_reward() -> None:
    class Rubric:
        """Right, and in few words."""

        def __init__(self, *funcs: Any, weights: list[float]) -> None:
            self.funcs, self.weights, self.parser = list(funcs), weights, None
            self.class_objects = {"judge": "j"}

    def right(completion: Any, answer: str, judge: str) -> float:
        return float(judge == "j" and completion[-1]["content"] == answer)

    async def level(level: int) -> float:
        return float(level)

    def measured(completion: Any) -> float:
        raise AssertionError("a weight of 0 is only measured")

    def first(completions: Any, states: Any) -> list[float]:
        return [1.0] + [0.0] * (len(states) - 1)

    one = native(Rubric(right, level, measured, weights=[1.0, 0.5, 0.0]))
    task = Task("t", "6 * 7?", "42", {"level": 3})
    scores = call(one, {}, [(task, done("42")), (task, done("41"))])
    assert [(s.value, s.reason) for s in scores] == [(2.5, "right 1, level 3"), (1.5, "right 0, level 3")]
    assert shape(one).kind == "one" and one.__doc__ == "Right, and in few words."
    many = native(Rubric(right, first, weights=[1.0, 1.0]))
    assert shape(many).kind == "batch"
    assert [s.value for s in call(many, {}, [(task, done("42")), (task, done("42"))])] == [2.0, 1.0]
    with pytest.raises(ComponentError, match="no functions with a weight"):
        native(Rubric(measured, weights=[0.0]))


def test_a_rubric_of_verifiers_is_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("verifiers.legacy")
    (tmp_path / "rubrics.py").write_text(
        "import verifiers.legacy as vf\n"
        "parser = vf.XMLParser(['answer'])\n"
        "async def right(parser, completion, answer): return float(parser.parse_answer(completion) == answer)\n"
        "rubric = vf.Rubric(funcs=[right], weights=[2.0], parser=parser)\n"
    )
    monkeypatch.chdir(tmp_path)
    reward = guerdon.reward("./rubrics.py:rubric")
    assert reward("<answer>42</answer>", "42") == 2.0 and reward("42", "42") == 0.0


def test_a_thread_may_make_and_use_a_reward() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(guerdon.reward("numeric")("It is 42.", 42)))
    thread.start()
    thread.join(30)
    assert found == [1.0]
