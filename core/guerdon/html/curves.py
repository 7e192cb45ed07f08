"""How a run went: rewards by iteration, what the trainer logged, lengths and failures, where the time went."""

from collections import Counter
from collections.abc import Sequence

from guerdon.errors import counted
from guerdon.html import chart
from guerdon.html.facts import Facts
from guerdon.html.markup import Markup, h, section
from guerdon.stopwatch import WORDS

CURVES = ("loss", "eval_loss", "reward", "learning_rate", "completions/mean_length", "kl", "entropy", "grad_norm")
"""Logged figures that are shown first; others are one click away."""


def rewards(facts: Facts) -> Markup | None:
    curves = facts.reward_curves()
    if not any(curves.values()):
        return None
    x = "step" if facts.rolls_out else "iteration"
    drawn = [chart.lines(name, [points], x=x) for name, points in curves.items()]
    about = f"Of the rollouts to learn from: the mean by {x}, and one standard deviation around it."
    return section("Rewards", h("div", drawn, class_="charts"), about=about)


def training(facts: Facts) -> Markup | None:
    curves, begins = facts.training_curves()
    if not curves:
        return None
    marks = {at: name for at, name in begins.items() if at}
    note = ", then ".join(begins.values()) if 1 < len(begins) <= 6 else ""
    first = [name for name in CURVES if name in curves]
    rest = [name for name in curves if name not in first and not name.startswith("rewards/")]

    def drawn(names: Sequence[str]) -> list[Markup]:
        return [chart.lines(name, curves[name], x="step", marks=marks) for name in names]

    more = h("details", h("summary", counted(rest, "more figure")), h("div", drawn(rest), class_="charts"))
    about = "As the trainer logged them." + (f" One training after the other: {note}." if note else "")
    return section("Training", h("div", drawn(first), class_="charts"), more if rest else None, about=about)


def lengths(facts: Facts) -> Markup | None:
    if not facts.trajectories:
        return None
    drawn = [
        chart.histogram(f"{title}: tokens of an answer", _lengths(facts, phase), x="tokens")
        for title, phase in (("Training", "train"), ("Evaluation", "eval"))
    ]
    kinds = Counter(t.failure for t in facts.trajectories if t.failure)
    rows = [(kind, {kind: n}, f"{n} ({n / len(facts.trajectories):.1%})") for kind, n in kinds.most_common(12)]
    failures = chart.bars("Failed rollouts", rows)
    none = None if kinds else h("p", "No rollout has failed.", class_="quiet")
    return section("Lengths and failures", h("div", drawn, failures, class_="charts"), none)


def _lengths(facts: Facts, phase: str) -> dict[str, list[int]]:
    """By name, of the first and the last of a phase: the thirds where there are many."""
    stages = facts.iterations(phase)
    ends = {facts.where(found[0]): found for found in (facts.evaluated() if phase == "eval" else ())}
    if phase == "train" and len(stages) > 8:
        third = len(stages) // 3
        parts = {"first third": stages[:third], "last third": stages[-third:]}
        ends = {name: [t for _, found in part for t in found] for name, part in parts.items()}
    elif phase == "train":
        ends = {facts.where(found[0]): found for _, found in (stages[:1] + stages[-1:])}
    found = {name.removeprefix("evaluation "): [t.tokens for t in ts if not t.failure] for name, ts in ends.items()}
    return found if any(any(values) for values in found.values()) else {}


def time(facts: Facts) -> Markup | None:
    rows = facts.seconds()
    if not rows:
        return None
    parts = [word for what, word in WORDS.items() if any(what in spent for _, spent in rows)]
    shown = [
        (name, {WORDS[p]: spent[p] for p in WORDS if spent.get(p)}, _duration(sum(spent.values())))
        for name, spent in rows
    ]
    drawn = chart.bars("By iteration", shown, parts=parts)
    return section(
        "Time",
        h("div", drawn, class_="charts"),
        about="Rolling out is without the time that the rewards took, which is beside it.",
    )


def _duration(seconds: float) -> str:
    """
    >>> _duration(8.2), _duration(192), _duration(8000)
    ('8.2 s', '3.2 min', '2.22 h')
    """
    unit, size = next((u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 1.6 * s or s == 1)
    return f"{seconds / size:.3g} {unit}"
