"""What may be wrong with a run though nothing fails: a reward that is gamed, answers that drift, nothing to learn from.

Pure functions over what trajectories came to. Each looks at the first third of the iterations (GRPO's steps are
iterations too) beside the last third, or at the last third alone, and says nothing on little evidence: a change counts
when it is `SURE` standard errors long, by groups, for the attempts at one task are alike.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter

from guerdon.errors import GuerdonError, counted
from guerdon.invoke import shape
from guerdon.plugins import Plugins
from guerdon.recipe import Reward, RewardUse
from guerdon.registry import Registry, load
from guerdon.resolve import BoundReward
from guerdon.store import Run
from guerdon.tasks import USUAL
from guerdon.trajectory import Trajectory
from guerdon.trends import GROUPS, Seen, change, groups, seen, thirds

SURE = 3.0
"""Standard errors. At every look there are some ten trends, and at two of them one in twenty would be chance."""
EFFECT = 0.2
"""A reward's rise in standard deviations: below, it is a small effect (Cohen 1988), and no sign of anything."""
FLAT = 0.1
"""Correctness is flat when it has less than this share in the reward's rise."""
SOLVED = 0.9
"""Of its highest value: correctness that is there already cannot rise, and is not called flat."""
SATURATED = 0.95
"""The share of scores that are within 5 % of the highest ever given."""
DRIFT = 1.5
"""Times longer, or shorter: answers of a policy that only gets better stay well within."""
DRIFT_TOKENS = 16
"""The least change of the mean: 4 tokens to 8 are no drift."""
CUT = 0.5
"""The share of replies that end at max_tokens, whether it has risen or not; or by `CUT_RISE` more than before."""
CUT_RISE = 0.1
SAME = 0.5
"""The share of attempts that repeat another of their group to the letter."""
SAME_EVERYWHERE = 0.3
"""The share of tasks that got one and the same answer."""
NO_VARIANCE = 0.5
"""The share of groups whose attempts all earn the same; as the watch of GRPO has it."""
FAILING, FAILED = 0.1, 5
"""The share, and the number, of rollouts that failed for one reason. A few always do."""
ERRING, ERRED = 0.05, 3
"""The share, and the number, of a reward's errors: a reward is a program, and should have none."""

ANSWERS = {name for answer in (*USUAL["answer"], "solution") for name in (answer, f"{answer}s")}
"""A reward that asks for one of these compares with the reference answer: it is about correctness."""

Kind = Literal["gamed", "saturated", "lengths", "cut_off", "duplicates", "no_variance", "failures", "reward_errors"]
SAID_ELSEWHERE: tuple[Kind, ...] = ("failures", "reward_errors")
"""What the engine says of itself, on the screen, when rollouts are finished."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What was seen, in figures, and what to do. `evidence` holds the figures."""

    kind: Kind
    severity: Literal["warning", "note"]
    message: str
    advice: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.message}. {self.advice}"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def alarms(run: Run, records: Sequence[Seen] | None = None) -> list[Alarm]:
    """All alarms of a stored run; `records` are its trajectories, where they have been looked at."""
    return find([seen(t) for t in run.each()] if records is None else records, compared_in(run))


class Watch:
    """Looks while a run goes on; each kind of alarm is given once.

    `compares` are the rewards that are about correctness, `silent` the kinds that are said elsewhere. It looks when
    there is a tenth more than at the last look, so that a long training is not looked through at every step.
    """

    def __init__(self, compares: Collection[str], silent: Collection[Kind] = SAID_ELSEWHERE) -> None:
        self.compares = compares
        self._given: set[str] = set(silent)
        self._seen: list[Seen] = []
        self._looked = 0

    def add(self, trajectories: Iterable[Trajectory]) -> list[Alarm]:
        """The alarms that these trajectories give rise to."""
        self._seen += map(seen, trajectories)
        if len(self._seen) < 1.1 * self._looked:
            return []
        self._looked = len(self._seen)
        new = [alarm for alarm in find(self._seen, self.compares) if alarm.kind not in self._given]
        self._given |= {alarm.kind for alarm in new}
        return new


def find(records: Sequence[Seen], compares: Collection[str]) -> list[Alarm]:
    """The alarms, the most serious first; `compares` are the rewards that are about correctness."""
    by_phase: dict[str, list[Seen]] = {"train": [], "eval": []}
    for record in records:
        by_phase.setdefault(record.phase, []).append(record)
    first, last = thirds(by_phase["train"])
    held_out = thirds(by_phase["eval"], least=1)
    found = [
        *_gamed(*held_out, compares, "on held-out tasks "),
        *_gamed(first, last, compares, ""),
        *_no_variance(last),
        *_duplicates(last),
        *_lengths(first, last),
        *_saturated(by_phase["train"], last),
        *(list(_failures(last)) or _failures(records)),
        *_reward_errors(records),
    ]
    gamed = [a for a in found if a.kind == "gamed"][1:]  # that of the held-out tasks says it all
    return sorted((a for a in found if a not in gamed), key=lambda a: a.severity, reverse=True)


# -- each of them -----------------------------------------------------------------------------------------------------


def _gamed(first: Sequence[Seen], last: Sequence[Seen], compares: Collection[str], where: str) -> Iterator[Alarm]:
    """The reward rises, and correctness does not: what is learnt is to please the other rewards."""
    there = {name for r in last for name in r.parts}
    names = sorted(there.intersection(compares))
    reward = change(first, last, lambda r: r.reward)
    spread = pstdev([r.reward for r in first if r.reward is not None] or [0.0])
    if not names or not reward or reward.by < max(SURE * reward.error, EFFECT * spread, 1e-9):
        return

    def correct(r: Seen) -> float | None:
        return sum(r.parts.get(name, 0.0) for name in names) if r.reward is not None else None

    right = change(first, last, correct)
    highest = max((value for r in (*first, *last) if (value := correct(r)) is not None), default=0.0)
    if not right or right.by > FLAT * reward.by or (highest > 0 and right.after >= SOLVED * highest):
        return
    others = {n: c for n in there.difference(names) if (c := change(first, last, _part(n))) and c.by > 0}
    risen = sorted(others, key=lambda n: others[n].by, reverse=True)[:2]
    what = " and ".join(f"{n} ({others[n]})" for n in risen) or "how often it applies"
    yield Alarm(
        "gamed",
        "warning",
        f"The reward {where}has risen ({reward}) while correctness, {' + '.join(names)}, has not ({right}): "
        f"what has risen is {what}",
        "Read the best trajectories (guerdon show RUN --best). If they are no better, give that reward less weight, or "
        "only for right answers.",
        {"reward": reward.ends, "correctness": right.ends, **{n: others[n].ends for n in risen}},
    )


def _part(name: str) -> Callable[[Seen], float | None]:
    return lambda r: r.parts.get(name)


def _no_variance(last: Sequence[Seen]) -> Iterator[Alarm]:
    """All attempts at a task earn the same: no gradient for GRPO, and nothing to choose between."""
    several = [g for g in groups(last, lambda r: r.reward) if len(g) > 1]
    flat = [g[0] for g in several if max(g) - min(g) < 1e-9]
    if len(several) < GROUPS or len(flat) <= NO_VARIANCE * len(several):
        return
    low, high = min(map(min, several)), max(map(max, several))
    bottom = sum(value == low for value in flat) if low < high else len(flat) * (high <= 0)
    top = sum(value == high for value in flat) if low < high else len(flat) - bottom
    advice = "Take a higher temperature or a larger loop.group_size."
    if bottom > len(flat) / 2:
        advice = "The tasks are too hard: take easier ones, a warm-up or sft first, or a reward that has degrees."
    elif top > len(flat) / 2:
        advice = "The tasks are too easy by now: take harder ones."
        if len(several) < 2 * GROUPS:  # a small run that has learnt all there is, which is no reason for alarm
            return
    yield Alarm(
        "no_variance",
        "note" if top > len(flat) / 2 else "warning",
        f"In {len(flat)} of the last {len(several)} groups all attempts earn the same ({bottom} at the lowest reward, "
        f"{top} at the highest): nothing tells good attempts from bad",
        advice,
        {"groups": len(several), "alike": len(flat), "lowest": bottom, "highest": top},
    )


def _duplicates(last: Sequence[Seen]) -> Iterator[Alarm]:
    """The same text again and again, within groups or whatever the task."""
    good = [r for r in last if not r.failure and r.long]
    attempts = groups(good, lambda r: r.said)
    chances = sum(len(g) - 1 for g in attempts)
    repeats = sum(len(g) - len(set(g)) for g in attempts)
    if chances >= GROUPS and repeats >= SAME * chances:
        yield Alarm(
            "duplicates",
            "warning",
            f"{repeats / chances:.0%} of the attempts repeat another attempt at their task to the letter",
            "The policy hardly varies any more: take a higher sampling.temperature, a lower learning rate, or see that "
            "sampling.seed is not set.",
            {"repeats": repeats, "attempts": len(good), "share": repeats / chances},
        )
    tasks: dict[int, set[str]] = defaultdict(set)
    for r in good:
        tasks[r.said].add(r.task)
    everywhere = max(map(len, tasks.values()), default=0)
    count = len({r.task for r in good})
    if count >= GROUPS and everywhere >= SAME_EVERYWHERE * count:
        yield Alarm(
            "duplicates",
            "warning",
            f"{everywhere} of {count} different tasks got one and the same answer",
            "The policy has collapsed on a phrase, or a reward pays for it: read it (guerdon show RUN --best).",
            {"tasks": count, "same": everywhere},
        )


def _lengths(first: Sequence[Seen], last: Sequence[Seen]) -> Iterator[Alarm]:
    """Answers grow or shrink, or run into max_tokens."""
    tokens = change(first, last, lambda r: None if r.failure else r.tokens)
    if tokens and tokens.before > 0 and abs(tokens.by) >= max(DRIFT_TOKENS, SURE * tokens.error):
        factor = tokens.after / tokens.before
        if factor >= DRIFT or factor <= 1 / DRIFT:
            yield Alarm(
                "lengths",
                "warning",
                f"Answers get {'longer' if factor > 1 else 'shorter'}: from {tokens.before:.0f} to {tokens.after:.0f} "
                f"tokens, by {factor - 1:+.0%}",
                "See whether they get better by it. If not, a reward pays for length; the reward length can hold "
                "against it."
                if factor > 1
                else "See whether they still reason (guerdon report RUN, the most changed). If not, a reward pays for "
                "brevity, or nothing pays for the way to the answer.",
                {"before": tokens.before, "after": tokens.after},
            )
    cut = change(first, last, lambda r: None if r.failure else float(r.cut))
    rising = cut and cut.by >= max(CUT_RISE, SURE * cut.error)
    replies = [r.cut for r in last if not r.failure]
    share = fmean(replies) if replies else 0.0
    if rising or (len(replies) >= 2 * GROUPS and share >= CUT):
        yield Alarm(
            "cut_off",
            "warning",
            f"{share:.0%} of the rollouts have a reply that was cut off at max_tokens"
            + (f", before it was {cut.before:.0%}" if cut and rising else ""),
            "Raise sampling.max_tokens; or, if they ramble, let a reward pay for an end.",
            {"share": share, "before": cut.before if cut else None},
        )


def _saturated(records: Sequence[Seen], last: Sequence[Seen]) -> Iterator[Alarm]:
    """A reward that nearly all get in full tells attempts apart no more."""
    names = dict.fromkeys(name for r in last for name in r.parts)
    for name in names if len(names) > 1 else ():
        highest = max(value for r in records if (value := r.scores.get(name)) is not None)
        values = [value for r in last if (value := r.scores.get(name)) is not None]
        near = sum(value >= 0.95 * highest for value in values)
        if highest > 0 and len(values) >= 2 * GROUPS and near >= SATURATED * len(values):
            yield Alarm(
                "saturated",
                "note",
                f"Reward {name} is at its highest, {highest:.3g}, in {near / len(values):.0%} of the last "
                f"{len(values)} rollouts",
                "It tells attempts apart no more: what it is for has been learnt, or it asks for too little.",
                {"reward": name, "share": near / len(values), "mean": fmean(values)},
            )


def _failures(records: Sequence[Seen]) -> Iterator[Alarm]:
    """Many rollouts fail for one reason."""
    kinds = Counter(r.failure for r in records if r.failure and r.failure != "cancelled")
    for kind, count in kinds.most_common():
        if count >= FAILED and count >= FAILING * len(records):
            example = next(r.message for r in reversed(records) if r.failure == kind)
            yield Alarm(
                "failures",
                "warning",
                f"{counted(count, 'rollout')} of {len(records)} failed ({kind}), the last: {_line(example)}",
                "guerdon show RUN --worst shows one.",
                {"failure": kind, "count": count, "of": len(records)},
            )


def _reward_errors(records: Sequence[Seen]) -> Iterator[Alarm]:
    """A reward raises, or takes too long."""
    errors = Counter(name for r in records for name in r.errors)
    for name, count in errors.most_common():
        scored = sum(name in r.scores for r in records)
        if count >= ERRED and count >= ERRING * scored:
            example = next(r.errors[name] for r in reversed(records) if name in r.errors)
            yield Alarm(
                "reward_errors",
                "warning",
                f"Reward {name} failed on {count} of {scored} rollouts, the last time with: {_line(example)}",
                "Correct it, and score what is stored again: guerdon score RUN RECIPE.",
                {"reward": name, "count": count, "of": scored},
            )


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:157] + "..."


# -- which rewards are about correctness ------------------------------------------------------------------------------


def comparing(rewards: Iterable[BoundReward]) -> set[str]:
    """The names of those that ask for the reference answer."""
    return {r.name for r in rewards if ANSWERS & {*shape(r.function).wants}}


def compared_in(run: Run) -> set[str]:
    """Of a stored run: as it was noted when it began; else by the rewards that are installed, no file is imported."""
    if (noted := run.info.get("compares")) is not None:
        return set(noted)
    recipe = yaml.safe_load((run.folder / "recipe.yaml").read_text("utf-8")) or {}
    plugins = Plugins()
    found = set()
    for use in TypeAdapter(list[Reward]).validate_python(recipe.get("rewards") or []):
        if _asks_for_answer(use, plugins):
            found.add(use.name)
    return found


def _asks_for_answer(use: RewardUse, plugins: Plugins) -> bool:
    try:
        component = Registry(plugins).find("rewards", use.ref)
        return component in plugins.components and bool(ANSWERS & {*shape(load(component)).wants})
    except GuerdonError:
        return False
