"""Whatever is wrong with what a user hands in: one message that says what, where and what to do; no traceback."""

import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server
import pytest
from chat_server import ChatServer, Reply, adds
from command import (
    additions,
    command_of,
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

RECIPE = """\
model: fake
backend: {openai: {base_url: http://127.0.0.1:9/v1}}
tasks: {path: tasks.jsonl}
rewards: [numeric]
"""


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server.serve() as server:
        yield server


# -- recipes ----------------------------------------------------------------------------------------------------------


def complaint(folder: Path, recipe: str | bytes, *args: str) -> str:
    """What `guerdon check` says of a recipe that is wrong."""
    (folder / "r.yaml").write_bytes(recipe if isinstance(recipe, bytes) else recipe.encode())
    if not (folder / "tasks.jsonl").exists():
        (folder / "tasks.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    ran = guerdon(folder, "check", "r.yaml", *args, code=1)
    assert ran.out == ""
    return ran.err.removeprefix("error: ").rstrip()


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (
            "loop:\n  group_sise: 3\n",
            "line 6, column 3, loop.group_sise: unknown key 'group_sise'. Did you mean 'group_size'?",
        ),
        ("rewardz: 3\n", "line 5, column 1, rewardz: unknown key 'rewardz'. Did you mean 'rewards'?"),
        ("agent: mth\n", "line 5, column 1, agent: there is no agent 'mth'. Did you mean 'math'?"),
        ("trainer: stf\n", "line 5, column 1, trainer: there is no trainer 'stf'. Did you mean 'sft'?"),
        ("loop: 3\n", "line 5, column 1, loop: Input should be a valid dictionary"),
        ("loop: {group_size: many}\n", "line 5, column 8, loop.group_size: Input should be a valid integer"),
        ("loop: {keep_top: 0}\n", "line 5, column 8, loop.keep_top: Input should be greater than 0 (got 0)"),
        ("agent: {math: {max_turns: [1]}}\n", "line 5, column 16, agent.math.max_turns: agent 'math': max_turns: "),
        ("loop: {a: [1}\n", "line 5, column 13: not valid YAML: expected ',' or ']', but got '}'"),
        ("loop:\n\tgroup_size: 2\n", "line 6, column 1: not valid YAML: found character '\\t'"),
        ("loop: {}\nloop: {}\n", "line 6, column 1: the key 'loop' is given twice"),
        ("---\nmodel: x\n", "line 5, column 1: not valid YAML: but found another document"),
        ("seed: !!python/name:os.system\n", "line 5, column 7: not valid YAML: could not determine a constructor"),
        ("runs: ${NO_SUCH}/x\n", "line 5, column 1, runs: the environment has no variable 'NO_SUCH'; set it, or write"),
        ("seed: \x07\n", "r.yaml: not valid YAML: unacceptable character #x0007"),
        ("a: &a [*a]\n", "r.yaml: the recipe is nested too deeply, or holds itself"),
        ("? [a]\n: 1\n", "line 5: a key is a word, not a list or a mapping"),
        ("eval: {holdout: 1, tasks: {path: tasks.jsonl}}\n", "line 5, column 1, eval: give either holdout"),
        ("loop: {warmup: {backend: demonstrations, tasks: 1}}\n", "loop.warmup: there is a warm-up but no trainer"),
    ],
)
def test_a_recipe_that_is_wrong(tmp_path: Path, add: str, message: str) -> None:
    said = complaint(tmp_path, RECIPE + add)
    assert said.startswith("r.yaml") and message in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("numeric", "numerik", "line 4, column 11, rewards[0]: there is no reward 'numerik'. Did you mean 'numeric'?"),
        ("openai", "opnai", "line 2, column 1, backend: there is no backend 'opnai'. Did you mean 'openai'?"),
        (
            "fake",
            "smolm2-135m",
            "line 1, column 1, model: there is no model 'smolm2-135m'. Did you mean 'smollm2-135m'",
        ),
        ("fake", "./nowhere", "line 1, column 1, model: there is no folder './nowhere'"),
        ("[numeric]", "[]", "give rewards: what a good answer to a task is"),
        ("[numeric]", "[numeric, numeric]", "line 4, column 20, rewards[1]: two rewards are called 'numeric'"),
        ("[numeric]", "[{numeric: {}, length: {}}]", "rewards[0]: give a name, or one name with its settings"),
        (
            "[numeric]",
            "[{length: {max_word: 3}}]",
            "line 4, column 21, rewards[0].length.max_word: reward 'length' has no setting 'max_word'. "
            "Did you mean 'max_words'?",
        ),
        ("[numeric]", "[{length: {max_words: few}}]", "rewards[0].length.max_words: reward 'length': max_words: Input"),
        ("[numeric]", "[{length: {weight: much}}]", "rewards[0].length.weight: Input should be a valid number"),
        ("numeric", "./no.py:f", "rewards[0]: reward './no.py:f': there is no file "),
        ("numeric", "builtins:max", "line 4, column 11, rewards[0]: its parameters cannot be read: no signature found"),
        ("numeric", "no.such:f", "rewards[0]: reward 'f': cannot import 'no.such': No module named 'no'"),
        ("tasks: {path: tasks.jsonl}\n", "", "give tasks (problems to roll out and score), or data (rows to train on)"),
        (
            "{path: tasks.jsonl}",
            "{path: a, dataset: b}",
            "tasks: give exactly one of path, dataset and source (given: path, dataset)",
        ),
    ],
)
def test_a_value_that_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in complaint(tmp_path, RECIPE.replace(old, new))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.iterations", "override 'loop.iterations': write it as key=value, e.g. loop.iterations=3"),
        ("loop.iteration=3", "command line, loop.iteration: unknown key 'iteration'. Did you mean 'iterations'?"),
        ("loop.iterations=x", "command line, loop.iterations: Input should be a valid integer"),
        ("loop.iterations=[1", "override 'loop.iterations=[1': the value is not valid YAML"),
        ("rewards.numerik.weight=3", "the list has no 'numerik'. Did you mean 'numeric'?"),
        ("model.x.y=3", "override 'model.x.y=3': model is 'fake', it has no 'x'"),
    ],
)
def test_an_override_that_is_wrong(tmp_path: Path, override: str, message: str) -> None:
    assert message in complaint(tmp_path, RECIPE, override)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("", "r.yaml: the recipe is empty"),
        ("- a\n", "r.yaml, line 1: a recipe is a mapping of keys to values, not a list"),
        (RECIPE.encode() + b"# caf\xe9\n", "cannot read the recipe r.yaml: 'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, recipe: str | bytes, message: str) -> None:
    assert message in complaint(tmp_path, recipe)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "gsm.yaml").write_text(RECIPE)
    said = finish(start(tmp_path, "run", "gms.yaml"), 1).err
    assert said == (
        "error: there is no recipe 'gms.yaml': no such file, and none of that name is packaged. "
        "Did you mean 'gsm.yaml'?\n"
    )


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    assert "there are no runs in runs/ yet; start one" in guerdon(tmp_path, "show", "last", code=1).err
    assert "no run in runs/ is unfinished" in guerdon(tmp_path, "run", "--resume", code=1).err
    assert "there is no command 'rnu'. Did you mean 'run'?" in guerdon(tmp_path, "rnu", code=2).err
    assert "'resume'. It is `guerdon run --resume`." in guerdon(tmp_path, "resume", "last", code=2).err


# -- task files -------------------------------------------------------------------------------------------------------

GOOD = '{"question": "What is 1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", "", "t.jsonl: the file is empty"),
        ("t.jsonl", "\n\n", "t.jsonl: no tasks in it"),
        ("t.jsonl", GOOD + GOOD[:30], "t.jsonl, line 2, column 31: not valid JSON: Expecting property name"),
        (
            "t.jsonl",
            GOOD.encode() + b'{"question": "caf\xe9"}',
            "t.jsonl, line 2: not UTF-8 (byte 18 is 0xe9); convert",
        ),
        (
            "t.jsonl",
            GOOD + '{"question": "x"}',
            "t.jsonl, line 2: the column 'answer' (answer) is missing; give it to each row, null where there is none",
        ),
        (
            "t.jsonl",
            '{"question": "x"}\n' + GOOD,
            "t.jsonl, line 2: the column 'answer' (answer) is missing in the rows before it; give it to each row, ",
        ),
        (
            "t.jsonl",
            '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
            "line 1: the prompt ends with a message of the assistant, which may be the answer: end it with the user's",
        ),
        (
            "t.jsonl",
            '{"prompt": [{"role": "system", "content": "x"}, {"role": "user"}]}',
            "line 1: message 2 of the prompt (user) has no content",
        ),
        (
            "t.jsonl",
            '{"quest": "x"}',
            "line 1: none of its columns (quest) is known to hold the prompt; name it: tasks:",
        ),
        ("t.jsonl", '{"id": 1, "prompt": "x"}\n{"id": 1, "prompt": "y"}', "line 2: the id '1' was given before, at "),
        ("t.jsonl", '{"prompt": " "}', "line 1: the prompt is empty"),
        ("t.jsonl", '{"prompt": 7}', "line 1: the prompt is text or a list of messages, not a int"),
        ("t.jsonl", "3\n", "line 1: a task is a mapping of columns to values, not a int"),
        ("t.jsonl", "[" * 100_000, "line 1: not readable JSON: it is nested too deeply"),
        ("t.csv", "question,answer\na,1\nb\n", "t.csv, line 3: 1 columns where the header has 2"),
        ("t.csv", 'question,answer\na,"1\n', "t.csv, line 2: not valid CSV: unexpected end of data"),
        ("t.csv", "question,answer\n", "t.csv: no tasks in it"),
        ("t.json", '{"a": 1}', "t.json: a JSON file of tasks holds a list of objects, not a dict"),
        ("t.json", '[{"a": 1},\n', "t.json, line 2, column 1: not valid JSON: Expecting value"),
        ("t.txt", "x", "t.txt: tasks are read from .jsonl, .ndjson, .json, .csv, .parquet, not from .txt files"),
    ],
)
def test_a_task_file_that_is_wrong(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in complaint(tmp_path, RECIPE.replace("tasks.jsonl", name))


def test_parquet_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nonsense")
    assert "t.parquet: not a readable parquet file: " in complaint(tmp_path, RECIPE.replace("tasks.jsonl", "t.parquet"))


def test_a_task_file_that_is_missing(tmp_path: Path) -> None:
    said = complaint(tmp_path, RECIPE.replace("tasks.jsonl", "task.jsonl"))
    assert said.startswith("r.yaml, line 3, column 1, tasks: there is no file ")
    assert said.endswith(f"{tmp_path.resolve()}/task.jsonl. Did you mean 'tasks.jsonl'?")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("{prompt: questoin}", "line 1: there is no column 'questoin'. Did you mean 'question'?"),
        ("{promt: question}", "tasks.fields: 'promt' is not one of id, prompt, answer"),
    ],
)
def test_a_wrong_column_mapping(tmp_path: Path, fields: str, message: str) -> None:
    recipe = RECIPE.replace("tasks.jsonl}", f"tasks.jsonl, fields: {fields}}}")
    assert message in complaint(tmp_path, recipe)


def test_more_held_out_than_there_is(tmp_path: Path) -> None:
    said = complaint(tmp_path, RECIPE + "eval: {holdout: 5}\n")
    assert said == "r.yaml, line 5, column 8, eval.holdout: keeps back 5 of 1 task: none is left to train on"


def test_a_task_source_that_raises(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def rows():\n    yield {'prompt': 'x'}\n    raise OSError('the disk is gone')\n")
    said = complaint(tmp_path, RECIPE.replace("path: tasks.jsonl", "source: ./s.py:rows"))
    assert said == "r.yaml, line 3, column 1, tasks: task source './s.py:rows' failed: OSError: the disk is gone"


# -- rewards ----------------------------------------------------------------------------------------------------------

BAD_REWARDS = """\
import os, signal, time

def bad(answer): return answer == "3"

def fine(completion, answer): return 0.25
def raises(answer): return 1 / 0 if bad(answer) else 1.0
def nan(answer): return float("nan") if bad(answer) else 1.0
def reasonless(answer): return 1.0, None
def text(answer): return "good" if bad(answer) else 1.0
def wrong_length(answers): return [1.0] * (2 if bad(answers[0]) else 1)
def no_list(answers): return 1.0 if bad(answers[0]) else [1.0]
def sleeps(answer): time.sleep(1000 if bad(answer) else 0); return 1.0
def exits(answer): os._exit(7) if bad(answer) else None; return 1.0
def killed(answer): os.kill(os.getpid(), signal.SIGKILL) if bad(answer) else None; return 1.0
def recursive(answer): return recursive(answer) if bad(answer) else 1.0
def prints(answer): print("noise " * 10000); return 1.0
def reads(answer): return 1.0 if input() else 0.0
async def coroutine(answer): return 1.0
"""

WRONG = {
    "raises": ("raised", "ZeroDivisionError: division by zero"),
    "nan": ("not_finite", "it returned nan, which is no score"),
    "text": ("not_a_number", "it returned str 'good'; a number or None is needed, or (number, reason)"),
    "wrong_length": ("wrong_length", "it returned 2 scores for 1 completions"),
    "no_list": ("not_a_list", "it returned float 1.0 for 1 completions; a list is needed"),
    "sleeps": ("timeout", "no score within 1 s; its worker was killed"),
    "exits": ("died", "the reward ended its worker process (exit code 7)"),
    "killed": ("died", "the reward ended its worker process (signal 9)"),
    "recursive": ("raised", "RecursionError: maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("on_error", ["drop", "zero", "retry"])
def test_rewards_that_misbehave(tmp_path: Path, server: ChatServer, on_error: str) -> None:
    (tmp_path / "bad.py").write_text(BAD_REWARDS)
    names = ["fine", *WRONG, "prints", "coroutine", "reasonless"]
    scoring = {"on_error": on_error, "timeout": 1.0, "max_errors": 1.0}
    write_recipe(
        tmp_path, server.base_url, additions(3), rewards=["numeric", *(f"./bad.py:{n}" for n in names)], scoring=scoring
    )
    json_out = guerdon(tmp_path, "run", "recipe.yaml", "--json").json
    figures = json_out["rollouts"]["1"]["rewards"]
    assert figures["killed"]["errors"] == {"died": 1}
    assert figures["killed"]["mean"] == pytest.approx(2 / 3 if on_error == "zero" else 1.0)

    bad, *others = sorted(trajectories(tmp_path), key=lambda t: t.task_id != "1")
    for name, (kind, message) in WRONG.items():
        score = bad.scores[name]
        assert score.error is not None, name
        assert (score.error.kind, score.value) == (kind, 0.0 if on_error == "zero" else None)
        assert message in score.error.message
    for t in (bad, *others):  # and the rest is unharmed
        assert t.scores["fine"].value == 0.25
        assert {t.scores[name].value for name in ("numeric", "prints", "coroutine", "reasonless")} == {1.0}
    assert bad.reward == (4.25 if on_error == "zero" else None)
    assert len(others) == 2
    for t in others:
        assert t.reward == 0.25 + len(WRONG) + 4
        assert not any(score.error for score in t.scores.values())

    shown = guerdon(tmp_path, "show", "last", bad.id).out
    as_json = guerdon(tmp_path, "show", "last", bad.id, "--json").json
    for name, (kind, message) in WRONG.items():
        assert message in shown
        assert as_json["scores"][name]["error"]["kind"] == kind


@pytest.mark.parametrize("name", ["raises", "nan", "wrong_length", "sleeps", "killed"])
def test_a_reward_can_stop_the_run(tmp_path: Path, server: ChatServer, name: str) -> None:
    (tmp_path / "bad.py").write_text(BAD_REWARDS)
    scoring = {"on_error": "abort", "timeout": 1.0}
    write_recipe(tmp_path, server.base_url, rewards=[f"./bad.py:{name}"], scoring=scoring)
    said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert f"reward {name!r} failed, and scoring.on_error is abort: " in said
    assert WRONG[name][1] in said
    assert "go on with: guerdon run --resume" in said
    assert len(trajectories(tmp_path)) == 4 == len(server.requests)


def test_a_reward_that_fails_too_often_stops_the_run(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "r.py").write_text("def broken(completion): raise KeyError('unit')\n")
    write_recipe(tmp_path, server.base_url, additions(40), rewards=["numeric", "./r.py:broken"])
    said = finish(start(tmp_path, "run", "recipe.yaml"), 1).err
    assert "reward 'broken' failed on 8 of 8 trajectories, more than scoring.max_errors (0.5) allows; the last" in said
    assert said.count("failed on") == 1, "though more than one score was under way"
    assert "KeyError: 'unit'" in said and "r.py, line 1" in said


def test_a_reward_that_sometimes_fails_is_retried(tmp_path: Path, server: ChatServer) -> None:
    once = f"""
from pathlib import Path
def flaky(answer):
    mark = Path({str(tmp_path)!r}) / f"seen-{{answer}}"
    if not mark.exists():
        mark.touch()
        raise ConnectionError("try again")
    return 1.0
"""
    (tmp_path / "r.py").write_text(once)
    write_recipe(tmp_path, server.base_url, rewards=["./r.py:flaky"], scoring={"on_error": "retry"})
    guerdon(tmp_path, "run", "recipe.yaml")
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 4


def test_a_reward_may_neither_read_stdin_nor_leave_children(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "bad.py").write_text(
        BAD_REWARDS + "import subprocess\n"
        "def spawns(answer): subprocess.Popen(['sleep', '1000'], env={'GUERDON_TEST': __file__}); time.sleep(1000)\n"
    )
    rewards = ["./bad.py:reads", "./bad.py:spawns"]
    write_recipe(tmp_path, server.base_url, additions(1), rewards=rewards, scoring={"timeout": 1.0, "max_errors": 1.0})
    guerdon(tmp_path, "run", "recipe.yaml")
    (t,) = trajectories(tmp_path)
    assert t.scores["reads"].error and "EOFError" in t.scores["reads"].error.message
    assert t.scores["spawns"].error and t.scores["spawns"].error.kind == "timeout"
    assert processes_with("GUERDON_TEST", str(tmp_path)) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def f(completion, anser): return 1",
            "it asks for 'anser', which the tasks do not have. Did you mean 'answer'?",
        ),
        ("def f(completions, levels): return 1", "it asks for 'levels', which the tasks do not have. Known: answer, "),
        (
            "def f(completion, answers): return 1",
            "it asks for 'completion', of one trajectory, and for 'answers', of a group (the tasks have no column "
            "'answers'): write completion, answer to be called for each trajectory, or completions, answers to be",
        ),
        ("def f(): return 1", "rewards[0]: f(): it asks for nothing; name e.g. `completion` and `answer`"),
        ("def f(**k): return 1", "rewards[0]: f(**k): **kwargs is TRL's signature, which has `completions`"),
        ("f = 3", "rewards[0]: './r.py:f' is a int, not a function"),
        ("def g(completion): return 1", "/r.py has no attribute 'f'."),
        ("def f(:", "/r.py failed: SyntaxError: invalid syntax (r.py, line 1)"),
        ("1 / 0", "/r.py failed: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)", "/r.py failed: SystemExit: 0"),
        (
            "import no_such_module",
            "reward 'f' needs the module 'no_such_module', which is not installed",
        ),
        ("def f(completion, *, weight=3): return 1", "reward './r.py:f' has a setting 'weight', a word that"),
    ],
)
def test_a_reward_that_cannot_be_used(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "r.py").write_text(code + "\n")
    said = complaint(tmp_path, RECIPE.replace("numeric", "./r.py:f"))
    assert said.startswith("r.yaml, line 4, column 11, rewards[0]: ") and message in said


def test_a_setting_that_is_no_keyword_only_parameter(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("def f(completion, max_words=100): return 1\n")
    said = complaint(tmp_path, RECIPE.replace("numeric", "{./r.py:f: {max_words: 5}}"))
    assert said.endswith(
        "has no setting 'max_words'. Settings are keyword-only: put `*,` before `max_words` in its signature"
    )


# -- agents -----------------------------------------------------------------------------------------------------------

AGENT = """\
import asyncio, time
async def agent(task, policy):
    if "is 2 " in task.text:
        {}
    reply = await policy.complete(task.messages)
    return reply["choices"][0]["message"]["content"]
"""


@pytest.mark.parametrize(
    ("does", "kind", "message"),
    [
        ("raise ValueError('boom')", "agent", "ValueError: boom"),
        ("raise SystemExit(3)", "agent", "SystemExit: 3"),
        ("raise TimeoutError('its own')", "agent", "TimeoutError: its own"),
        ("return None", "no_completion", "the agent returned NoneType, not its answer as text"),
        (
            "raise asyncio.CancelledError",
            "cancelled",
            "the agent was cancelled, by itself or by a library that it uses",
        ),
        ("asyncio.current_task().cancel()", "cancelled", "the agent was cancelled, by itself"),
        ("await asyncio.sleep(1000)", "timeout", "the rollout took longer than 0.8 s"),
        ("time.sleep(1000)", "blocked", "the agent blocked all rollouts for 0.8 s: let it `await`, or call"),
        ("while True: pass", "blocked", "the agent blocked all rollouts for 0.8 s"),
    ],
)
def test_an_agent_that_misbehaves(tmp_path: Path, server: ChatServer, does: str, kind: str, message: str) -> None:
    (tmp_path / "a.py").write_text(AGENT.format(does))
    # one at a time: what blocks takes the others' time
    rollout = {"timeout": 0.8, "concurrency": 1}
    write_recipe(tmp_path, server.base_url, agent="./a.py:agent", rollout=rollout)
    said = guerdon(tmp_path, "run", "recipe.yaml").out
    assert f"1 rollout failed ({kind}), e.g. {message}" in said
    bad, *others = sorted(trajectories(tmp_path), key=lambda t: t.task_id != "1")
    assert bad.failure and bad.failure.kind == kind and bad.reward is None
    assert [t.reward for t in others] == [1.0] * 3
    assert message in guerdon(tmp_path, "show", "last", bad.id).out


DEAF = """open("started", "w").close()
        while True:
            try:
                await asyncio.sleep(0.05)
            except BaseException:
                pass"""


def test_an_agent_that_swallows_its_cancellation_is_left_behind(
    tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guerdon.rollout.GRACE_SECONDS", 0.2)
    (tmp_path / "a.py").write_text(AGENT.format(DEAF))
    write_recipe(tmp_path, server.base_url, agent="./a.py:agent", rollout={"timeout": 0.5})
    guerdon(tmp_path, "run", "recipe.yaml")
    bad, *others = sorted(trajectories(tmp_path), key=lambda t: t.task_id != "1")
    assert bad.failure and (bad.failure.kind, bad.failure.message) == ("timeout", "the rollout took longer than 0.5 s")
    assert [t.reward for t in others] == [1.0] * 3


def test_an_agent_that_swallows_its_cancellation_does_not_outlive_ctrl_c(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "a.py").write_text(AGENT.format(DEAF))
    write_recipe(tmp_path, server.base_url, agent="./a.py:agent", rollout={"timeout": 1000})
    process = start(tmp_path, "run", "recipe.yaml")
    wait_until((tmp_path / "started").exists)
    process.send_signal(signal.SIGINT)
    assert "Interrupted. What is finished is kept" in finish(process, 130).out


def test_an_agent_that_fails_too_often_stops_the_run(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "a.py").write_text("async def agent(task, policy): raise ValueError('boom')\n")
    write_recipe(tmp_path, server.base_url, additions(40), agent="./a.py:agent")
    said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert (
        "8 of 8 rollouts failed, more than rollout.max_failures (0.5) allows; the last (agent): ValueError: boom"
        in said
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def agent(task, policy): return ''", "agent 'agent' is not `async def`"),
        ("async def agent(task): return ''", "agent 'agent' takes (task); an agent is `async def agent(task, policy"),
        ("async def agent(): return ''", "'agent' gave a coroutine: write it with @contextlib.asynccontextmanager"),
        (
            "from contextlib import *\n@asynccontextmanager\nasync def agent():\n    raise OSError('no')\n    yield\n",
            "'agent' did not start: OSError: no",
        ),
    ],
)
def test_an_agent_that_is_none(tmp_path: Path, server: ChatServer, code: str, message: str) -> None:
    (tmp_path / "a.py").write_text(code + "\n")
    write_recipe(tmp_path, server.base_url, agent="./a.py:agent")
    assert message in guerdon(tmp_path, "run", "recipe.yaml", code=1).err


def test_a_calculator_that_is_killed_between_two_turns(tmp_path: Path) -> None:
    pytest.importorskip("agents")
    mark = "PYTHON_GUERDON_TEST"  # the server is handed on only what starts with PYTHON
    killed: list[int] = []

    def answer(body: dict[str, Any]) -> Any:
        results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
        if len(results) == 2:
            return f"### {results[-1]} ###"
        if results:  # the second call finds the server dead
            killed.extend(p for p in processes_with(mark, str(tmp_path)) if "calculator" in command_of(p))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        function = {"name": "calculate", "arguments": json.dumps({"expression": "1 + 1"})}
        call = {"id": f"call-{len(results)}", "type": "function", "function": function}
        return {"role": "assistant", "tool_calls": [call]}

    with chat_server.serve(answer) as server:
        write_recipe(tmp_path, server.base_url, additions(1), agent="math")
        ran = finish(start(tmp_path, "run", "recipe.yaml", **{mark: str(tmp_path)}))
    (t,) = trajectories(tmp_path)
    assert t.failure is None and t.reward == 1.0 and t.tool_calls == 2
    assert len(killed) == 1
    assert "MCP server 'calculator' is lost" in ran.out + ran.err
    assert processes_with(mark, str(tmp_path)) == []


# -- endpoints --------------------------------------------------------------------------------------------------------


def test_an_endpoint_that_refuses(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    write_recipe(tmp_path, f"http://127.0.0.1:{port}/v1")
    said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert f"Cannot connect to http://127.0.0.1:{port}/v1/models" in said
    assert "Is the server running there?" in said


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(hang=60), "timeout", "within 1 s. The server hangs or is overloaded"),
        (
            Reply(status=500, body="out of memory"),
            "http_500",
            'answered 500: "out of memory". Gave up after 2',
        ),
        (Reply(status=404, body="{}"), "http_404", "Does the server know the model 'fake'"),
        (Reply(status=429, headers={"retry-after": "0"}), "http_429", 'answered 429: "". Gave up after 2 attempts.'),
        (Reply(body='{"choices": [{"mess'), "broken_reply", "answered 200, but not with a chat completion"),
        (Reply(body='{"id": "x"}'), "broken_reply", "answered 200, but not with a chat completion"),
        (
            Reply(body='{"choices": [{}]}'),
            "broken_reply",
            "the server's reply is no chat completion (KeyError: ",
        ),
        (Reply(body='{"choices": ["x"]}'), "broken_reply", "answered 200, but not with a chat completion"),
    ],
)
def test_an_endpoint_that_answers_badly(tmp_path: Path, reply: Reply, kind: str, message: str) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return reply if "is 2 " in body["messages"][-1]["content"] else adds(body)

    with chat_server.serve(answer) as server:
        backend = {"openai": {"base_url": server.base_url, "timeout": 1, "retries": 1}}
        write_recipe(tmp_path, "", backend=backend)
        said = guerdon(tmp_path, "run", "recipe.yaml").out
    assert f"1 rollout failed ({kind}), e.g. " in said and message in said
    assert sorted(t.failure.kind if t.failure else "" for t in trajectories(tmp_path)) == ["", "", "", kind]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_endpoint_that_recovers(tmp_path: Path, status: int) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return Reply(status=status, headers={"retry-after": "0"}) if len(server.requests) <= 2 else adds(body)

    with chat_server.serve(answer) as server:
        backend = {"openai": {"base_url": server.base_url, "timeout": 5, "retries": 2}}
        write_recipe(tmp_path, "", backend=backend)
        guerdon(tmp_path, "run", "recipe.yaml")
        assert len(server.requests) == 6
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 4


def test_an_endpoint_that_is_always_down_stops_the_run(tmp_path: Path) -> None:
    with chat_server.serve(lambda _: Reply(status=400, body='{"error": {"message": "no such model"}}')) as server:
        write_recipe(tmp_path, server.base_url, additions(20))
        said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert "8 of 8 rollouts failed, more than rollout.max_failures (0.5) allows; the last (http_400): " in said
    assert 'answered 400: "no such model".' in said


# -- disks ------------------------------------------------------------------------------------------------------------


def test_a_run_folder_that_cannot_be_made(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "file").write_text("in the way")
    write_recipe(tmp_path, server.base_url)
    for runs, reason in (("file", "File exists"), ("file/below", "Not a directory"), ("/proc/guerdon", "No such file")):
        said = guerdon(tmp_path, "run", "recipe.yaml", "--runs", runs, code=1).err
        assert said.startswith(f"error: cannot write to {runs}: ") and reason in said
        assert said.rstrip().endswith("Make room, fix the permissions, or choose another folder with --runs")
    assert server.requests == []


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    room = 200_000
    with chat_server.serve(lambda body: adds(body) + " " + "x" * 20_000) as server:
        write_recipe(tmp_path, server.base_url, additions(40), rollout={"concurrency": 2})  # so many in a commit
        process = start(tmp_path, "run", "recipe.yaml")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        said = finish(process, 1).err
        assert said.startswith("error: cannot write to runs/") and "Make room" in said
        assert "go on with: guerdon run --resume" in said
        kept = len(trajectories(tmp_path))
        assert 0 < kept < 40

        before = len(server.requests)
        guerdon(tmp_path, "run", "--resume")
        assert len(server.requests) - before == 40 - kept
    assert [t.reward for t in trajectories(tmp_path)] == [1.0] * 40


# -- trainers ---------------------------------------------------------------------------------------------------------

BACKEND = """\
from contextlib import asynccontextmanager
from guerdon_backends.openai_backend import openai

@asynccontextmanager
async def local(model, *, base_url: str):
    async with openai(model, base_url=base_url) as endpoint:
        yield endpoint
"""
TRAINER = """\
import os, signal, sys, time
def raise_silently():
    raise ValueError
def fake(job, *, does: str = ""):
    print("the trainer says hello")
    sys.stdout.flush()
    exec(does)
    job.output.mkdir()
    (job.output / "adapter.txt").write_text("trained")
"""


@pytest.mark.parametrize(
    ("does", "messages"),
    [
        ("raise ValueError('bad rows')", ["trainer 'fake' failed: ValueError: bad rows (<string>, line 1)", "its log"]),
        ("assert not job", ["trainer 'fake' failed: AssertionError (<string>, line 1)"]),
        ("raise_silently()", ["trainer 'fake' failed: ValueError: raise ValueError (trainer.py, line 3)"]),
        ("os._exit(3)", ["the training process ended with exit code 3; the end of ", "| the trainer says hello"]),
        ("sys.exit(4)", ["the training process ended with exit code 4; the end of "]),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            ["the training process was killed by signal 9 (out of memory is the usual cause)"],
        ),
        ("time.sleep(1000)", ["training took longer than 2 s and was stopped; its log: runs/"]),
        ("import no_such_module", ["trainer 'fake' needs the module 'no_such_module', which is not installed"]),
        ("job.log(1, 1, {'loss': 'low'})", ["trainer 'fake' failed: ValueError: could not convert string to float"]),
    ],
)
def test_a_trainer_that_misbehaves(tmp_path: Path, server: ChatServer, does: str, messages: list[str]) -> None:
    (tmp_path / "trainer.py").write_text(TRAINER)
    trainer = {"./trainer.py:fake": {"does": does}}
    (tmp_path / "b.py").write_text(BACKEND)
    backend = {"./b.py:local": {"base_url": server.base_url}}
    write_recipe(tmp_path, "", backend=backend, trainer=trainer, loop={"group_size": 1, "train_timeout": 2})
    said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    for message in messages:
        assert message in said
    assert "go on with: guerdon run --resume" in said
    assert len(trajectories(tmp_path)) == 4


def test_a_trainer_without_a_checkpoint(tmp_path: Path, server: ChatServer) -> None:
    (tmp_path / "trainer.py").write_text("def fake(job): pass\n")
    (tmp_path / "b.py").write_text(BACKEND)
    write_recipe(tmp_path, "", backend={"./b.py:local": {"base_url": server.base_url}}, trainer="./trainer.py:fake")
    said = guerdon(tmp_path, "run", "recipe.yaml", code=1).err
    assert "trainer 'fake' wrote no checkpoint to its output folder" in said
    with last_run(tmp_path) as run:
        assert run.stage("train-iteration-1") is None
    assert len(list_runs(tmp_path / "runs")) == 1


def test_a_trainer_whose_adapter_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text("def trainer(job): ...\n")
    said = complaint(tmp_path, RECIPE + "trainer: ./t.py:trainer\n")
    assert "backend: backend 'openai' serves only what its server has, not the adapter" in said
