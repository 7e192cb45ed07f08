"""`guerdon plugins test` and the fixture `conformance`: what is right passes, and each fault is found and named."""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import guerdon

from guerdon.conformance import Conformance, conformance, given
from guerdon.errors import ComponentError
from guerdon.plugins import Component, Plugins
from guerdon.registry import require_extra

if TYPE_CHECKING:
    from conftest import Site


def is_here(component: Component) -> bool:
    """Whether what it needs is installed: vllm and bitsandbytes are for GPUs."""
    try:
        require_extra(component)
    except ComponentError:
        return False
    return True


OURS = [c for c in Plugins().components if c.package == "guerdon" and c.kind != "recipes"]
OWN = sorted({f"{c.kind.removesuffix('s')}:{c.name}" for c in OURS if is_here(c)})


def shown(found: Conformance) -> str:
    return f"{found.title}\n{found.text()}"


def outcomes(found: Conformance) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


def seen(found: Conformance, name: str) -> str:
    return next(check.seen for check in found.checks if check.name == name)


@pytest.mark.parametrize("name", OWN)
def test_guerdons_own_components_conform(name: str) -> None:
    (found,) = conformance(name)
    assert found.ok, shown(found)
    # whether one is quick enough depends on the machine
    assert {c.name for c in found.checks if c.outcome == "warning"} <= {"huge", "hostile", "time"}, shown(found)
    if not name.startswith("reward:"):
        assert found.checks[-1][:2] == ("at work", "skipped")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("xml_format", {"style": "strict"}),
        ("xml_format", {"style": "count", "compat": True}),
        ("correctness", {"compat": True}),
        ("integer", {"compat": True, "value": 1}),
    ],
)
def test_guerdons_own_rewards_conform_with_settings(name: str, settings: Mapping[str, Any]) -> None:
    (found,) = conformance(name, settings)
    assert found.ok, shown(found)
    assert outcomes(found)["traces"] == "passed"


FAULTY = '''
"""Rewards with one fault each."""

import random
import threading
import time

SEEN = set()


def drawn(completion: str) -> float:
    """Random."""
    return random.random()


def hashed(completion: str) -> float:
    """By hash."""
    return hash(completion) % 1000


def first(completion: str) -> float:
    """What is new."""
    new = completion not in SEEN
    SEEN.add(completion)
    return float(new)


def shared(completion: str) -> float:
    """Works in a global."""
    global current
    current = completion
    time.sleep(1e-5)
    return float(len(current))


def indexed(completion: str) -> float:
    """The first word's length."""
    return float(len(completion.split()[0]))


def encoded(completion: str) -> float:
    """Bytes."""
    return float(len(completion.encode()))


def evaluated(completion: str, answer: str) -> float:
    """What Python says."""
    try:
        return float(eval(completion) == answer)
    except Exception:
        return 0.0


def changed(completion: str, task, messages) -> float:
    """Marks what it saw."""
    task.fields["seen"] = True
    return 1.0


def logged(completion: str) -> float:
    """Writes and prints."""
    with open("left.log", "a") as file:
        file.write("x")
    print("hello")
    return 1.0


def threaded(completion: str) -> float:
    """Leaves threads."""
    if len(threading.enumerate()) < 20:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return 1.0


def placed(completions: list[str]) -> list[float]:
    """By place in the group."""
    return [float(i) for i, _ in enumerate(completions)]


def infinite(completion: str) -> float:
    """Not a number."""
    return float("nan")


def endless(completion: str) -> float:
    """Hangs on what is long."""
    while len(completion) > 999_000:
        pass
    return 1.0


def bare(completion, *, word="please", least: int = "one"):
    return 1.0


def nested():
    def inner(completion: str) -> float:
        """Cannot be sent."""
        return 1.0

    return inner


local = nested()


def weighed(completion: str, *, weight: float = 1.0) -> float:
    """Takes a word that is a recipe's.

    Args:
        weight: Not its own.
    """
    return weight


def demanding(completion: str, tests: list[str]) -> float:
    """Asks for tests."""
    return float(len(tests))


def picky(completion: str, answer: str) -> float:
    """Takes JSON only.

    Raises:
        JSONDecodeError: the answer is none.
    """
    import json

    return float(json.loads(answer + "}{") == completion)
'''


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faulty") / "faulty.py"
    path.write_text(FAULTY)
    return path


@pytest.mark.parametrize(
    ("name", "check", "told"),
    [
        ("drawn", "deterministic", "scored twice: '42': 0."),
        ("hashed", "deterministic", "with another PYTHONHASHSEED: '42': "),
        ("first", "batch", "in another order, subset or repetition: "),
        ("shared", "threads", "in 8 threads: "),
        ("indexed", "empty", "nothing, a blank, newlines: raised: IndexError: list index out of range ("),
        ("encoded", "malformed", "a lone surrogate: raised: UnicodeEncodeError"),
        ("evaluated", "hostile", "it ran code that a completion holds"),
        ("changed", "inputs", "it changes the task: other rewards are given the same"),
        ("logged", "traces", "left.log; printed 'hello"),
        ("threaded", "traces", "left thread Thread-"),
        ("placed", "batch", "in another order, subset or repetition: "),
        ("infinite", "gold", "bare, boxed, ####, and 3 more: not_finite: it returned nan"),
        ("bare", "documented", "it has no docstring"),
        ("bare", "settings", "word: anything is accepted; annotate it"),
        ("local", "picklable", "the function: "),
        ("weighed", "signature", "'weight' is a word that every reward's entry in a recipe has"),
    ],
)
def test_a_fault_is_found(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, check: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = conformance(f"{faulty}:{name}")
    assert not found.ok
    assert outcomes(found)[check] == "failed", shown(found)
    assert told in seen(found, check), shown(found)


def test_a_reward_that_hangs_costs_workers_and_no_more(faulty: Path) -> None:
    (found,) = conformance(f"{faulty}:endless", {"timeout": 0.5})
    assert found.ok, shown(found)
    assert outcomes(found)["huge"] == "warning"
    assert "11 x timeout; each cost a worker: words, digits, blanks, and 8 more: timeout" in seen(found, "huge")
    assert outcomes(found)["hostile"] == "passed"


def test_what_needs_more_is_skipped_until_it_is_given(faulty: Path) -> None:
    (found,) = conformance(f"{faulty}:demanding")
    assert (found.checks[-1].name, found.checks[-1].outcome) == ("at work", "skipped")
    assert "it asks for 'tests', which the tasks do not have" in found.checks[-1].seen
    assert "--tasks FILE" in found.checks[-1].seen
    (found,) = conformance(f"{faulty}:demanding", tasks=[{"prompt": "?", "completion": "a", "tests": ["a", "b"]}])
    assert found.ok, shown(found)
    assert outcomes(found)["gold"] == "skipped"
    assert seen(found, "examples") == "1 completion: 2"


def test_the_word_problems_need_not_suit(faulty: Path) -> None:
    (found,) = conformance(f"{faulty}:picky")
    assert found.ok, shown(found)
    assert outcomes(found)["gold"] == outcomes(found)["examples"] == "warning"
    assert "the built-in word problems are not for it, give --tasks FILE" in seen(found, "gold")


def test_scores_are_as_the_author_expects() -> None:
    rows = [
        {"prompt": "6*7?", "answer": "42", "completion": "#### 42", "expected": 1},
        {"prompt": "6*7?", "answer": "42", "completion": "#### 41", "expected": 0.0},
        {"prompt": "6*7?", "answer": None, "completion": "#### 42", "expected": None},
        {"prompt": "6*7?", "answer": "42", "completion": "I do not know."},
    ]
    (found,) = conformance("numeric", tasks=rows)
    assert found.ok, shown(found)
    assert seen(found, "examples") == "4 completions: 0 to 1, 1 not applicable; 3 as expected"
    rows[1]["expected"] = 0.5
    rows[2]["expected"] = 0.0
    (found,) = conformance("numeric", tasks=rows)
    assert seen(found, "examples") == "'#### 41' gets 0.0, 0.5 expected; '#### 42' gets None, 0.0 expected"


def test_a_batch_rewards_rows_are_scored_by_task(tmp_path: Path) -> None:
    (tmp_path / "shortest.py").write_text(
        'def shortest(completions: list[str]) -> list[float]:\n    """The shortest."""\n'
        "    least = min(map(len, completions))\n    return [float(len(c) == least) for c in completions]\n"
    )
    rows = [
        {"prompt": prompt, "completion": text, "expected": float(text == best)}
        for text in ("a", "bb", "ccc", "dddd")
        for prompt, best in (("short", "a"), ("long", "ccc"))
        if (prompt == "short") == (len(text) < 3)
    ]
    (found,) = conformance(f"{tmp_path}/shortest.py:shortest", tasks=rows)
    assert found.ok, shown(found)
    assert seen(found, "examples") == "4 completions: 0 to 1; 4 as expected"
    assert "its scores depend on the group" in seen(found, "batch")


def test_a_wrong_setting_is_told_and_nothing_is_run() -> None:
    (found,) = conformance("length", {"max_word": 3})
    assert outcomes(found)["settings"] == "failed"
    assert "has no setting 'max_word'. Did you mean 'max_words'?" in seen(found, "settings")
    assert found.checks[-1] == ("at work", "skipped", "what failed above comes first")
    (found,) = conformance("length", {"max_words": 0})
    assert outcomes(found)["settings"] == "passed"
    assert not found.ok or outcomes(found)["gold"] == "warning"


def test_settings_from_a_command_line() -> None:
    assert given(["a=1", "b=[x, y]", "c=2e-4", "d=a=b", "e=on"]) == {
        "a": 1,
        "b": ["x", "y"],
        "c": 2e-4,
        "d": "a=b",
        "e": "on",
    }
    with pytest.raises(ComponentError, match="write a setting as key=value"):
        given(["word"])


PLUGIN = """
import guerdon

@guerdon.hookimpl
def register_rewards(register):
    register("slow", "parts:slow", inline=True)
    register("reader", "parts:reader", inline=True)
    register("exact", "guerdon_parts.exact:exact")
    register("gone", "parts:gone")

@guerdon.hookimpl
def register_agents(register):
    register("plain", "parts:plain")
    register("manager", "parts:manager")

@guerdon.hookimpl
def register_backends(register):
    register("generator", "parts:generator")

@guerdon.hookimpl
def register_trainers(register):
    register("coroutine", "parts:coroutine")

@guerdon.hookimpl
def register_tasks(register):
    register("asking", "parts:asking")
"""
PARTS = '''
"""Parts."""

import time


def slow(completion: str) -> float:
    """Sleeps."""
    time.sleep(0.002)
    return 1.0


def reader(completion: str) -> float:
    """Reads a file each time."""
    with open("/etc/hostname") as file:
        return float(len(file.read()) > len(completion))


def plain(task, policy) -> str:
    """Not a coroutine function."""
    return ""


def manager() -> str:
    """Who knows what it returns."""
    return ""


async def generator(model):
    """Lacks its decorator."""
    yield None


async def coroutine(job):
    """Should not be one."""


def asking(path):
    """Wants an argument."""
    return []
'''
EXACT = '''
"""A reward with examples of its own."""


def exact(completion: str, wanted: list[str]) -> float:
    """1.0 for a wanted word."""
    return float(completion in wanted)
'''


@pytest.fixture
def package(site: "Site") -> "Site":
    site.add("guerdon-parts", PLUGIN, parts=PARTS, entry="parts")
    folder = site.folder / "guerdon_parts"
    (site.folder / "guerdon_parts.py").unlink()
    (folder / "examples").mkdir(parents=True)
    (folder / "__init__.py").write_text(PLUGIN)
    (folder / "exact.py").write_text(EXACT)
    rows = [{"prompt": "?", "wanted": ["a"], "completion": text, "expected": text == "a"} for text in "ab"]
    (folder / "examples" / "exact.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return site


def test_components_of_a_package(package: "Site") -> None:
    told = {
        "slow": (True, "time", "warning", "too slow for inline=True; leave it out, and workers do it"),
        "reader": (
            True,
            "traces",
            "warning",
            "inline=True says that it is pure, and at every call it opens /etc/hostname",
        ),
        "exact": (True, "examples", "passed", "2 completions: 0 to 1; 2 as expected"),
        "gone": (False, "loads", "failed", "parts has no attribute 'gone'"),
        "plain": (False, "signature", "failed", "agent 'plain' is not `async def`"),
        "manager": (True, "signature", "warning", "only a run can tell whether it returns an async context manager"),
        "generator": (False, "signature", "failed", "put @asynccontextmanager before it"),
        "coroutine": (False, "signature", "failed", "a plain function is needed"),
        "asking": (False, "signature", "failed", "it takes (path) where () is given; settings come after `*`"),
    }
    code = (
        "import json, sys\nfrom guerdon.conformance import conformance\n"
        "print(json.dumps([c.to_json() for name in sys.argv[1:] for c in conformance(name)]))"
    )
    done = package.python("-c", code, *(f"guerdon-parts:{name}" for name in told))
    assert done.returncode == 0, done.stderr
    for found, (name, (ok, check, outcome, what)) in zip(json.loads(done.stdout), told.items(), strict=True):
        assert (found["name"], found["package"], found["ok"]) == (name, "guerdon-parts", ok), found
        assert (check, outcome) in {(c["name"], c["outcome"]) for c in found["checks"]}, found
        assert any(what in c["seen"] for c in found["checks"] if c["name"] == check), found


def test_the_command_for_scripts(package: "Site") -> None:
    done = package.guerdon("plugins", "test", "gone", "--json")
    (found,) = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["ok"]) == (1, "", False)
    assert [(c["name"], c["outcome"]) for c in found["checks"]] == [("loads", "failed")]
    done = package.guerdon("plugins", "test", "plain", "--json")
    assert (done.returncode, json.loads(done.stdout)[0]["kind"]) == (1, "agent")


def test_the_command(tmp_path: Path, faulty: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "?", "completion": "a b c", "expected": 0.5}\n')
    ran = guerdon(tmp_path, "plugins", "test", "length", "max_words=2", "--tasks", "rows.jsonl")
    lines = [line.split() for line in ran.out.splitlines()]
    assert ran.out.startswith("reward length (from guerdon 0.1.0) with max_words=2")
    assert ["examples", "passed", "1", "completion:", "0.5;", "1", "as", "expected"] in lines
    assert lines[-2][1:] == ["passed,", "1", "skipped"]
    ran = guerdon(tmp_path, "plugins", "test", f"{faulty}:indexed", code=1)
    assert "2 failed" in ran.out
    ran = guerdon(tmp_path, "plugins", "test", "lenght", code=1)
    assert "there is no component 'lenght'. Did you mean 'length'?" in ran.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows in it"),
        ("{}\nnope\n", "line 2: not valid JSON"),
        ("[1]\n", "line 1: a row is a mapping"),
    ],
)
def test_rows_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    ran = guerdon(tmp_path, "plugins", "test", "length", "--tasks", "rows.jsonl", code=1)
    assert message in ran.err


# -- for pytest

TESTS = """
def test_right(conformance):
    (found,) = conformance("length", max_words=5)
    assert found.ok

def test_wrong(conformance):
    conformance("./faulty.py:indexed")

def test_unknown(conformance):
    conformance("lenght")
"""


def run_pytest(folder: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    installed = any(e.value == "guerdon.pytest_plugin" for e in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "guerdon.pytest_plugin"]
    return subprocess.run(
        [sys.executable, *args[:1], "-m", "pytest", *plugin, "-p", "no:cacheprovider", "-W", "error", *args[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_fixture_fails_a_test_with_what_failed(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run_pytest(tmp_path, "-B", "-q")
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "reward indexed (from " in done.stdout
    assert "  failed   empty         nothing, a blank, newlines: raised: IndexError" in done.stdout
    assert "there is no component 'lenght'. Did you mean 'length'?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_plugin_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    heavy = ["pydantic", "yaml", "rich", "click", "asyncio", "guerdon.plugins", "guerdon.conformance"]
    (tmp_path / "test_it.py").write_text(
        f"import sys\n\ndef test_it():\n    assert 'guerdon.pytest_plugin' in sys.modules\n"
        f"    assert [m for m in {heavy} if m in sys.modules] == []\n"
    )
    done = run_pytest(tmp_path, "-B", "-q", "-p", "no:timeout", "-p", "no:anyio")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
