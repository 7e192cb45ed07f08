"""A reward that is being tested: its scores from workers, what was seen of it, and what to say of its errors."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from guerdon.conformance_inputs import Example
from guerdon.errors import RewardError, counted
from guerdon.invoke import Item, Shape, asked, outcomes
from guerdon.plugins import Component
from guerdon.probe import Observations, groups
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
        return self._run([(item,) for item in items])

    def _run(self, groups: Sequence[Sequence[Item]]) -> list[Score]:
        job = Job("guerdon.invoke:caller", (self.component, dict(self.settings)))
        calls = [one for group in groups for one in asked(self.shape, group)]
        half = (len(calls) + 1) // 2
        with ThreadPoolExecutor(2) as threads:
            parts = threads.map(lambda part: self.workers.run(job, part, self.timeout), (calls[:half], calls[half:]))
            return outcomes(calls, [result for part in parts for result in part], self.timeout)

    @cached_property
    def everyday(self) -> list[Score]:
        """The scores of the examples; a batch reward's, those of a task as one group."""
        items = [e.item for e in self.examples]
        places = groups(items)
        scores = self._run([[items[i] for i in group] for group in places])
        order = [i for group in places for i in group]
        return [score for _, score in sorted(zip(order, scores, strict=True), key=itemgetter(0))]

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
        complaint = name, f"{score.error.kind}: {short(score.error.message)}"
        if score.error.kind in LOST:
            lost.append(complaint)
        elif score.error.kind in FAULTS and not _announced(subject, score.error):
            faults.append(complaint)
        else:
            meant.append(complaint)
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


def several(things: Sequence[str], mark: str = "; ") -> str:
    more = f"{mark}and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return mark.join(things[:SHOWN]) + more


def told(complaints: Complaints) -> str:
    """
    >>> told([("a box", "raised: OSError"), ("a tag", "raised: OSError"), ("blanks", "timeout")])
    'a box, a tag: raised: OSError; blanks: timeout'
    """
    found: dict[str, list[str]] = {}
    for name, what in complaints:
        names = found.setdefault(what, [])
        if name not in names:
            names.append(name)
    return several([f"{several(names, ', ')}: {what}" for what, names in found.items()])


def short(text: str, length: int = 140) -> str:
    line = " ".join(text.split())
    line = line.encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= length else line[: length - 3] + "..."


def stands(subject: Subject, names: Sequence[str], scores: Sequence[Score]) -> Seen:
    """The outcome for completions that no one can foresee: a number, not applicable, or an error on purpose."""
    verdict = judge(subject, names, scores)
    if verdict.faults:
        return "failed", told(verdict.faults)
    if verdict.lost and subject.component.inline:
        return "failed", f"inline=True, where no deadline saves the run: {told(verdict.lost)}"
    if verdict.lost:
        return "warning", f"{verdict.summary}; each cost a worker: {told(verdict.lost)}"
    return "passed", verdict.summary


def must_do(subject: Subject, verdict: Verdict) -> Seen | None:
    """The outcome where there is an error over a completion that anyone could foresee."""
    if verdict.faults or verdict.lost:
        return "failed", told(verdict.faults + verdict.lost)
    if verdict.meant and subject.built_in:
        return "warning", f"the built-in word problems are not for it, give --tasks FILE: {told(verdict.meant)}"
    return ("failed", told(verdict.meant)) if verdict.meant else None
