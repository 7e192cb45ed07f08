"""How a reward behaves: on everyday and on hostile completions, again, elsewhere, in another order, in threads.

Each check is a function of a `Subject` that tells the outcome and what was seen. The reward's own code runs in worker
processes, so that nothing it does can harm whoever tests it.
"""

import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from guerdon.conformance_inputs import EMPTY, MALFORMED, MARKS, UNKNOWN, hostile, huge, is_plain, trajectory
from guerdon.conformance_subject import (
    INLINE_HUGE_SECONDS,
    INLINE_SECONDS,
    PROBE_SECONDS,
    Seen,
    Subject,
    judge,
    must_do,
    several,
    short,
    stands,
)
from guerdon.errors import RewardError, counted
from guerdon.invoke import Item, call
from guerdon.probe import Value, differences, value_of
from guerdon.trajectory import Score


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
    if wrong := must_do(subject, judge(subject, names, scores)):
        return wrong
    return "passed", ", ".join(f"{name} {_mean(names, scores, name)}" for name in forms)


def _mean(names: Sequence[str], scores: Sequence[Score], name: str) -> str:
    values = [s.value for n, s in zip(names, scores, strict=True) if n == name and s.value is not None]
    return f"{sum(values) / len(values):.3g}" if values else "not applicable"


def examples(subject: Subject) -> Seen:
    """Everyday completions are scored, and as expected where the author says what to expect."""
    verdict = judge(subject, [short(repr(e.completion), 40) for e in subject.examples], subject.everyday)
    if wrong := must_do(subject, verdict):
        return wrong
    expected = [(e, s) for e, s in zip(subject.examples, subject.everyday, strict=True) if e.expected is not UNKNOWN]
    unlike = [
        f"{short(repr(e.completion), 40)} gets {value_of(s)}, {e.expected} expected"
        for e, s in expected
        if not _equal(value_of(s), e.expected)
    ]
    if unlike:
        return "failed", several(unlike)
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
    return stands(subject, *_texts(subject, EMPTY))


def malformed(subject: Subject) -> Seen:
    """Unbalanced, in odd unicode, with lone surrogates and null bytes, not a number."""
    return stands(subject, *_texts(subject, MALFORMED))


def megabyte(subject: Subject) -> Seen:
    """Completions of 1 MB."""
    names, scores = _texts(subject, huge())
    outcome, seen = stands(subject, names, scores)
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
    return stands(subject, names, scores[::2])


def deterministic(subject: Subject) -> Seen:
    """The same again, and in processes with other hash seeds."""
    seen = subject.observed
    if seen.again:
        return "failed", f"scored twice: {_differing(subject, seen.again)}"
    items = subject.sound[: seen.items]
    with ThreadPoolExecutor(2) as both:
        runs = list(both.map(partial(_elsewhere, subject, items), ("1", "2")))
    if other := differences(*runs):
        return "failed", f"with another PYTHONHASHSEED: {_differing(subject, other)}"
    return "passed", f"{counted(items, 'completion')}, twice, and in 2 processes with other hash seeds"


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
        raise RewardError(f"a process of its own failed: {short(err.decode(errors='replace')[-300:], 300)}")
    values: list[Value] = pickle.loads(out)
    return values


def _differing(subject: Subject, found: Mapping[int, str]) -> str:
    texts = [f"{short(repr(subject.sound[i][1].completion), 40)}: {what}" for i, what in sorted(found.items())]
    return several(texts)


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
        found.append(f"printed {short(repr(seen.printed), 60)}")
    changed = [f"changed {what}" for what in seen.state]
    if found or (inline and changed):
        return "failed", several(found + changed)
    if changed:
        return "warning", f"{several(changed)}; it has a worker process to itself, but as inline=True it would not do"
    if inline and seen.touched:
        return "warning", f"inline=True says that it is pure, and at every call it opens {several(seen.touched)}"
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
