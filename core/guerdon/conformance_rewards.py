"""How a reward behaves: on everyday and on hostile completions, again, elsewhere, in another order, in threads.

Each check is a function of a `Subject` that tells the outcome and what was seen. The reward's own code runs in worker
processes, so that nothing it does can harm whoever tests it.
"""

import contextlib
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from guerdon.conformance_inputs import EMPTY, MALFORMED, MARKS, UNKNOWN, Example, hostile, huge, is_plain, trajectory
from guerdon.errors import RewardError, counted
from guerdon.plugins import Component
from guerdon.probe import Observations, Value, differences, value_of
from guerdon.reward import Item, Shape, call
from guerdon.trajectory import Failure, Score
from guerdon.workers import Job, Workers

Outcome = Literal["passed", "failed", "warning", "skipped"]
Seen = tuple[Outcome, str]

LOST = frozenset({"timeout", "died", "memory"})
"""What the runtime makes of a reward that hangs, dies or grows: one worker lost, the other items unharmed."""

FAULTS = frozenset(
    {"raised", "not_finite", "not_a_number", "not_a_list", "wrong_length", "missing", "missing_column", "import"}
)
"""Errors that a reward should not make over any text; others it raised on purpose, as `RewardError`."""

PROBE_SECONDS = 120.0
INLINE_SECONDS = 0.001
"""What an item of a reward that is registered `inline=True` may take: nothing else happens meanwhile."""
INLINE_HUGE_SECONDS = 0.25
SHOWN = 3


@dataclass(frozen=True)
class Subject:
    """A reward with its settings, and what to test it with."""

    component: Component
    function: Callable[..., Any]
    settings: Mapping[str, Any]
    shape: Shape
    examples: Sequence[Example]
    timeout: float
    workers: Workers
    documented: frozenset[str] = frozenset()
    """The exceptions that its docstring announces."""
    built_in: bool = False
    """The examples are the word problems that any reward is tested with."""

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Their scores from the workers, one by one: the deadline is each item's own."""
        whole = self.shape.kind != "one"
        job = Job("guerdon.reward:scorer", (self.component, dict(self.settings)), whole)
        half = (len(items) + 1) // 2
        batches = [[item] for item in items] if whole else [b for b in (items[:half], items[half:]) if b]
        with ThreadPoolExecutor(2) as threads:
            results = [
                r for part in threads.map(lambda b: self.workers.run(job, b, self.timeout), batches) for r in part
            ]
        return [Score(None, error=r) if isinstance(r, Failure) else r for r in results]

    @cached_property
    def everyday(self) -> list[Score]:
        """The scores of the examples; a batch reward's, each in a group of its own."""
        return self.score([e.item for e in self.examples])

    @cached_property
    def sound(self) -> list[Item]:
        """The examples that cost no worker: those that may be scored many times, and in this process."""
        pairs = zip(self.examples, self.everyday, strict=True)
        return [e.item for e, s in pairs if not (s.error and s.error.kind in LOST)]

    @cached_property
    def observed(self) -> Observations:
        """What was seen of it at work.

        Raises:
            RewardError: it was not through in time, or took the worker with it.
        """
        if not self.sound:
            raise RewardError("no example could be scored")
        job = Job("guerdon.probe:watch", (self.component, dict(self.settings)))
        (result,) = self.workers.run(job, [self.sound], PROBE_SECONDS)
        if isinstance(result, Failure):
            raise RewardError(f"watching it went wrong ({result.kind}): {result.message}")
        observations: Observations = result
        return observations


Complaints = list[tuple[str, str]]
"""Which completion, and what was wrong."""


class Verdict(NamedTuple):
    """What is to say about some scores: faults of the reward, workers that it cost, errors that it meant."""

    faults: Complaints
    lost: Complaints
    meant: Complaints
    summary: str


def judge(subject: Subject, names: Iterable[str], scores: Sequence[Score]) -> Verdict:
    faults, lost, meant = Complaints(), Complaints(), Complaints()
    for name, score in zip(names, scores, strict=True):
        if not score.error:
            continue
        told = name, f"{score.error.kind}: {_short(score.error.message)}"
        if score.error.kind in LOST:
            lost.append(told)
        elif score.error.kind in FAULTS and not _announced(subject, score.error):
            faults.append(told)
        else:
            meant.append(told)
    return Verdict(faults, lost, meant, _figures(scores))


def _announced(subject: Subject, error: Failure) -> bool:
    return error.kind == "raised" and bool({error.message.partition(":")[0], "Exception"} & subject.documented)


def announced(docstring: str) -> frozenset[str]:
    """The exceptions that a docstring's "Raises:" section names.

    >>> sorted(announced("Does.\\n\\nRaises:\\n    ValueError: it is wrong\\n        in a way.\\n    OSError: so."))
    ['OSError', 'ValueError']
    """
    section = re.search(r"^Raises:\n((?:[ \t]+.*\n?|\n(?=[ \t]))+)", docstring, re.M)
    return frozenset(re.findall(r"^ {4}([\w.]+):", section[1], re.M)) if section else frozenset()


def _figures(scores: Sequence[Score]) -> str:
    values = [s.value for s in scores if s.value is not None]
    parts = []
    if values:
        low, high = min(values), max(values)
        parts.append(f"{low:g} to {high:g}" if high != low else f"{low:g}")
    if empty := sum(s.value is None and s.error is None for s in scores):
        parts.append(f"{empty} not applicable")
    parts += [f"{n} x {kind}" for kind, n in Counter(s.error.kind for s in scores if s.error).items()]
    return f"{counted(len(scores), 'completion')}: {', '.join(parts)}"


def _several(things: Sequence[str], mark: str = "; ") -> str:
    more = f"{mark}and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return mark.join(things[:SHOWN]) + more


def _told(complaints: Complaints) -> str:
    """
    >>> _told([("a box", "raised: OSError"), ("a tag", "raised: OSError"), ("blanks", "timeout")])
    'a box, a tag: raised: OSError; blanks: timeout'
    """
    found: dict[str, list[str]] = {}
    for name, what in complaints:
        names = found.setdefault(what, [])
        if name not in names:
            names.append(name)
    return _several([f"{_several(names, ', ')}: {what}" for what, names in found.items()])


def _short(text: str, length: int = 140) -> str:
    line = " ".join(text.split())
    line = line.encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= length else line[: length - 3] + "..."


def _stands(subject: Subject, names: Sequence[str], scores: Sequence[Score]) -> Seen:
    """The outcome for completions that no one can foresee: a number, not applicable, or an error on purpose."""
    verdict = judge(subject, names, scores)
    if verdict.faults:
        return "failed", _told(verdict.faults)
    if verdict.lost and subject.component.inline:
        return "failed", f"inline=True, where no deadline saves the run: {_told(verdict.lost)}"
    if verdict.lost:
        return "warning", f"{verdict.summary}; each cost a worker: {_told(verdict.lost)}"
    return "passed", verdict.summary


def _must_do(subject: Subject, verdict: Verdict) -> Seen | None:
    """The outcome where there is an error over a completion that anyone could foresee."""
    if verdict.faults or verdict.lost:
        return "failed", _told(verdict.faults + verdict.lost)
    if verdict.meant and subject.built_in:
        return "warning", f"the built-in word problems are not for it, give --tasks FILE: {_told(verdict.meant)}"
    return ("failed", _told(verdict.meant)) if verdict.meant else None


# -- the checks ------------------------------------------------------------------------------------------------------


def gold(subject: Subject) -> Seen:
    """The reference as the answer, in the usual marks, and a wrong one for comparison. Figures only: a reward of
    length need not love the truth."""
    tasks = list({e.task.id: e.task for e in subject.examples if is_plain(e.task.answer)}.values())[:5]
    if not tasks:
        return "skipped", "no example has a reference answer that can be written into a completion"
    forms = {**MARKS, "wrong": "<answer>a wrong answer</answer>"}
    items = [(t, trajectory(t, form.format(t.answer))) for form in forms.values() for t in tasks]
    names = [name for name in forms for _ in tasks]
    scores = subject.score(items)
    if wrong := _must_do(subject, judge(subject, names, scores)):
        return wrong
    return "passed", ", ".join(f"{name} {_mean(names, scores, name)}" for name in forms)


def _mean(names: Sequence[str], scores: Sequence[Score], name: str) -> str:
    values = [s.value for n, s in zip(names, scores, strict=True) if n == name and s.value is not None]
    return f"{sum(values) / len(values):.3g}" if values else "not applicable"


def examples(subject: Subject) -> Seen:
    """Everyday completions are scored, and as expected where the author says what to expect."""
    verdict = judge(subject, [_short(repr(e.completion), 40) for e in subject.examples], subject.everyday)
    if wrong := _must_do(subject, verdict):
        return wrong
    expected = [(e, s) for e, s in zip(subject.examples, subject.everyday, strict=True) if e.expected is not UNKNOWN]
    unlike = [
        f"{_short(repr(e.completion), 40)} gets {value_of(s)}, {e.expected} expected"
        for e, s in expected
        if not _equal(value_of(s), e.expected)
    ]
    if unlike:
        return "failed", _several(unlike)
    return "passed", verdict.summary + (f"; {len(expected)} as expected" if expected else "")


def _equal(value: Value, expected: Any) -> bool:
    if isinstance(value, float) and isinstance(expected, (int, float)):
        return abs(value - expected) <= 1e-9 * max(1.0, abs(expected))
    return value is None and expected is None


def _texts(subject: Subject, texts: Mapping[str, str]) -> tuple[list[str], list[Score]]:
    task = subject.examples[0].task
    return list(texts), subject.score([(task, trajectory(task, text)) for text in texts.values()])


def empty(subject: Subject) -> Seen:
    """A completion with nothing in it."""
    return _stands(subject, *_texts(subject, EMPTY))


def malformed(subject: Subject) -> Seen:
    """Unbalanced, in odd unicode, with lone surrogates and null bytes, not a number."""
    return _stands(subject, *_texts(subject, MALFORMED))


def megabyte(subject: Subject) -> Seen:
    """Completions of 1 MB."""
    names, scores = _texts(subject, huge())
    outcome, seen = _stands(subject, names, scores)
    slowest = max(zip(scores, names, strict=True), key=lambda pair: pair[0].seconds)
    seconds, name = slowest[0].seconds, slowest[1]
    if outcome == "passed":
        seen += f"; at most {_duration(seconds)} ({name})"
        if subject.component.inline and seconds > INLINE_HUGE_SECONDS:
            return "warning", f"inline=True, and {_duration(seconds)} for a megabyte of {name} stops everything else"
    return outcome, seen


def hostiles(subject: Subject) -> Seen:
    """Completions that ask for endless work, or hold code; everyday ones between them keep their scores."""
    calm = subject.sound[:4]
    wanted, again = ([value_of(s) for s in subject.score(calm)] for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="guerdon-") as folder:
        mark = Path(folder, "executed")
        names, texts = zip(*hostile(mark), strict=True)
        task = subject.examples[0].task
        mixed: list[Item] = []
        for i, text in enumerate(texts):
            mixed += [(task, trajectory(task, text)), calm[i % len(calm)] if calm else (task, trajectory(task, ""))]
        scores = subject.score(mixed)
        executed = mark.exists()
    if executed:
        return (
            "failed",
            "it ran code that a completion holds: never give a completion to eval, exec, sympify or a shell",
        )
    for i, score in enumerate(scores[1::2]):
        if calm and wanted == again and value_of(score) != wanted[i % len(calm)]:
            return "failed", f"after {names[i]}, another completion: {wanted[i % len(calm)]} then {value_of(score)}"
    return _stands(subject, names, scores[::2])


def deterministic(subject: Subject) -> Seen:
    """The same again, and in processes with other hash seeds."""
    seen = subject.observed
    if seen.again:
        return "failed", f"scored twice: {_differing(subject, seen.again)}"
    items = subject.sound[: seen.items]
    runs = [_elsewhere(subject, items, seed) for seed in ("1", "2")]
    here = [value_of(s) for s in subject.score(items)] if subject.shape.kind == "one" else runs[0]
    for values in runs:
        if other := differences(here, values):
            return "failed", f"with another PYTHONHASHSEED: {_differing(subject, other)}"
    return "passed", f"{counted(len(items), 'completion')}, twice, and in 2 processes with other hash seeds"


def _elsewhere(subject: Subject, items: Sequence[Item], seed: str) -> list[Value]:
    """The values from a process with this hash seed."""
    paths = [p or os.getcwd() for p in sys.path]  # noqa: PTH109
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "guerdon.probe"]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            order = pickle.dumps((subject.component, dict(subject.settings), list(items)))
            out, err = process.communicate(order, PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            raise RewardError(f"a process of its own did not score it within {PROBE_SECONDS:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RewardError(f"a process of its own failed: {_short(err.decode(errors='replace')[-300:], 300)}")
    values: list[Value] = pickle.loads(out)
    return values


def _differing(subject: Subject, found: Mapping[int, str]) -> str:
    texts = [f"{_short(repr(subject.sound[i][1].completion), 40)}: {what}" for i, what in sorted(found.items())]
    return _several(texts)


def inputs(subject: Subject) -> Seen:
    """Tasks, trajectories and settings are as they were."""
    changed = sorted(set(subject.observed.changed.values()))
    if changed:
        return "failed", f"it changes {', '.join(changed)}: other rewards are given the same"
    return "passed", "tasks, trajectories and settings are as they were"


def batch(subject: Subject) -> Seen:
    """Its scores do not depend on the order, on what else is in the batch, or on what was scored before."""
    seen = subject.observed
    if seen.batch:
        return "failed", f"in another order, subset or repetition: {_differing(subject, seen.batch)}"
    if subject.shape.kind == "one":
        return "passed", "one by one, backwards, shuffled, a part, doubled: the same"
    about = "its scores depend on the group, as a batch reward's may" if seen.relative else "alone: the same"
    return "passed", f"groups backwards and shuffled: the same; {about}"


def threads(subject: Subject) -> Seen:
    """Eight threads at once give the same."""
    found = subject.observed.threads
    if found:
        return "failed", f"in 8 threads: {_differing(subject, found)}"
    return "passed", "8 threads at once: the same"


def processes(subject: Subject) -> Seen:
    """A worker process gives the same as this one."""
    if subject.observed.left:
        return "skipped", "it leaves threads or processes behind, so it is not called in this process"
    items = subject.sound[: subject.observed.items]
    with contextlib.redirect_stdout(io.StringIO()):
        here = [value_of(s) for item in items for s in call(subject.function, subject.settings, [item])]
    if found := differences(here, [value_of(s) for s in subject.score(items)]):
        return "failed", f"here, then in a worker process: {_differing(subject, found)}"
    return "passed", "in this process and in a worker: the same"


def speed(subject: Subject) -> Seen:
    """The time of an everyday item."""
    seen = subject.observed
    median, tail = seen.seconds
    text = f"median {_duration(median)}, p99 {_duration(tail)} an item"
    if subject.component.inline and median > INLINE_SECONDS:
        return "warning", f"{text}: too slow for inline=True; leave it out, and workers do it"
    if tail > subject.timeout / 2:
        return "warning", f"{text}: close to the deadline of {subject.timeout:g} s"
    return "passed", text


def _duration(seconds: float) -> str:
    """
    >>> _duration(0.0000042), _duration(0.25), _duration(3)
    ('4.2 us', '250 ms', '3 s')
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-6:.3g} us"


def traces(subject: Subject) -> Seen:
    """Nothing is left behind: no files, no output, no threads or processes, and the process as it was."""
    seen, inline = subject.observed, subject.component.inline
    found = [f"wrote {path}" for path in seen.written] + [f"left {what}" for what in seen.left]
    if seen.printed:
        found.append(f"printed {_short(repr(seen.printed), 60)}")
    changed = [f"changed {what}" for what in seen.state]
    if found or (inline and changed):
        return "failed", _several(found + changed)
    if changed:
        return "warning", f"{_several(changed)}; it has a worker process to itself, but as inline=True it would not do"
    if inline and seen.touched:
        return "warning", f"inline=True says that it is pure, and at every call it opens {_several(seen.touched)}"
    return "passed", "no files, output, threads or processes; the process is as it was"


CHECKS: dict[str, Callable[[Subject], Seen]] = {
    "gold": gold,
    "examples": examples,
    "empty": empty,
    "malformed": malformed,
    "huge": megabyte,
    "hostile": hostiles,
}
WATCHED: dict[str, Callable[[Subject], Seen]] = {
    "deterministic": deterministic,
    "inputs": inputs,
    "batch": batch,
    "threads": threads,
    "processes": processes,
    "time": speed,
    "traces": traces,
}
"""Those that need what was `observed`."""
