"""Trajectories to read: the best, the worst, the most changed, and a list to look through."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from guerdon.errors import counted
from guerdon.html import conversation
from guerdon.html.facts import Change, Facts, outcome
from guerdon.html.markup import Markup, h, section
from guerdon.trajectory import Trajectory

SIZE = 1_200_000
"""Characters of the trajectories to browse: those that do not fit are left out."""


def examples(facts: Facts) -> Markup | None:
    best, worst = facts.extremes()
    if not best and not worst:
        return None
    newest = facts.newest()[0]
    name = facts.where(newest).removeprefix("evaluation ")
    places = {"eval": f"the evaluation \u201c{name}\u201d", "train": "the newest iteration"}
    return section(
        "Best and worst",
        _examples(facts, "Best", best, opened=1),
        _examples(facts, "Worst", worst, opened=1),
        about=f"Of {places.get(newest.phase, f'the {name}')}, one rollout a task.",
    )


def _examples(facts: Facts, title: str, found: Sequence[Trajectory], opened: int) -> list[Markup]:
    drawn = [_one(facts, t, open=i < opened) for i, t in enumerate(found)]
    return [h("h3", title), *drawn] if drawn else []


def _one(facts: Facts, t: Trajectory, *, open: bool = False, **data: Any) -> Markup:  # noqa: A002
    where = facts.where(t)
    inside = conversation.trajectory(t, facts.task(t))
    return h("details", conversation.summary(t, facts.task(t), where), inside, open=open, class_="one", **data)


def changed(facts: Facts) -> Markup | None:
    found = facts.changed()
    if not found:
        return None
    return section(
        "Most changed",
        [_change(facts, c, open=i == 0) for i, c in enumerate(found)],
        about="Held-out tasks whose reward differs most between the first evaluation and the last.",
    )


def _change(facts: Facts, change: Change, *, open: bool) -> Markup:  # noqa: A002
    sides = [
        h("div", h("h4", title), conversation.trajectory(t, facts.task(t)))
        for title, t in ((facts.where(change.before), change.before), (facts.where(change.after), change.after))
    ]
    state = "good" if change.by > 0 else "bad"
    line = h(
        "summary",
        h("span", f"{outcome(change.before)} \u2192 {outcome(change.after)}", class_=f"pill {state}"),
        h("span", conversation.asked(change.after, facts.task(change.after)), class_="asked", dir="auto"),
    )
    return h("details", line, h("div", sides, class_="sides"), open=open, class_="one")


def browse(facts: Facts) -> Markup | None:
    """A list to look through; the filter needs the script, and is hidden without."""
    rows, size = [], 0
    stages: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for t in facts.listed():
        where = facts.where(t)
        kind = f"failed: {t.failure.kind}" if t.failure else "reward above 0" if (t.reward or 0) > 0 else "no reward"
        row = _one(facts, t, data_stage=where, data_outcome=kind)
        if size + len(row) > SIZE:
            continue
        size += len(row)
        stages[where] += 1
        outcomes[kind] += 1
        rows.append(row)
    if not rows:
        return None
    form = h(
        "form",
        _choice("stage", "all stages", stages),
        _choice("outcome", "all outcomes", outcomes),
        h("input", type="search", name="words", placeholder="words", aria_label="words"),
        h("output", counted(rows, "rollout")),
        hidden=True,
        id="filter",
    )
    total = len(facts.trajectories)
    about = f"{len(rows)} of {total:,}, an even share of each stage." if len(rows) < total else f"All {total:,}."
    return section("Rollouts", form, h("div", rows, id="rows"), about=about)


def _choice(name: str, everything: str, counts: Counter[str]) -> Markup:
    options = [h("option", f"{value} ({n})", value=value) for value, n in counts.items()]
    return h("select", h("option", everything, value=""), options, name=name, aria_label=name)
