"""What a run came to: the headline with its verdict, alarms, evaluations; and what ran, recipe and versions."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from guerdon.card import PACKAGES
from guerdon.errors import counted
from guerdon.html import chart
from guerdon.html.chart import Point
from guerdon.html.facts import Facts
from guerdon.html.markup import Markup, h, section
from guerdon.report import number


def headline(facts: Facts) -> Markup:
    recipe, info = facts.recipe, facts.info
    trainer, agent = _named(recipe.get("trainer")), _named(recipe.get("agent") or "chat")
    said = {"finished": "finished", "running": "still going", "stopped": "not finished"}[facts.state]
    rows = [
        ("model", recipe.get("model")),
        ("trainer", trainer),
        ("agent", agent if recipe.get("tasks") else ""),
        ("rewards", ", ".join(_reward_name(r) for r in recipe.get("rewards") or ())),
        ("rollouts", f"{len(facts.trajectories):,}" if facts.trajectories else ""),
        ("seed", str(info["seed"])),
    ]
    more = h("span", f"goes on with: guerdon run --resume {facts.run.id}") if facts.state == "stopped" else None
    terms = [h("div", h("dt", name), h("dd", value)) for name, value in rows if value]
    return h(
        "header",
        h("p", h("span", said, class_=f"state {facts.state}"), h("code", facts.run.id), more, class_="run"),
        h("h1", info.get("name") or facts.run.id),
        _result(facts),
        h("dl", terms),
    )


def _result(facts: Facts) -> list[Markup]:
    """The figure, and what it means in words."""
    evaluations = facts.evaluations
    if not evaluations:
        return [h("p", _without_evaluation(facts), class_="verdict")]
    names = list(evaluations)
    first, newest = evaluations[names[0]], evaluations[names[-1]]
    tasks = counted(newest["tasks"], "held-out task" if newest.get("held_out", True) else "task")
    if len(names) == 1:
        return [
            _big(h("b", number(first["reward"]), _ends(first), title=names[0])),
            h("p", f"The mean reward on {tasks}, {names[0]} any training.", class_="verdict"),
        ]
    figures = [h("b", number(f["reward"]), _ends(f), class_=c) for f, c in ((first, "old"), (newest, "new"))]
    change = newest.get("difference") or {"mean": (newest["reward"] or 0) - (first["reward"] or 0), "interval": None}
    return [_big(figures[0], h("i", "\u2192"), figures[1]), h("p", verdict(change, tasks), class_="verdict")]


def _big(*parts: Markup) -> Markup:
    return h("p", parts, class_="big")


def _ends(figures: Mapping[str, Any]) -> Markup | None:
    ends = figures.get("interval")
    return h("small", f"{number(ends[0], 2)} to {number(ends[1], 2)}") if ends else None


def verdict(change: Mapping[str, Any], tasks: str) -> str:
    """What a difference says, in words.

    >>> verdict({"mean": 0.5, "interval": (0.4, 0.6)}, "60 held-out tasks")
    'Better: the mean reward on 60 held-out tasks has changed by +0.500 (95 % interval +0.400 to +0.600).'
    """
    if not change["interval"]:
        return f"The mean reward on {tasks} has changed by {change['mean']:+.3f}; no interval tells how certainly."
    low, high = change["interval"]
    what = "Better" if low > 0 else "Worse" if high < 0 else "No change is shown"
    return (
        f"{what}: the mean reward on {tasks} has changed by {change['mean']:+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f})."
    )


def _without_evaluation(facts: Facts) -> str:
    if facts.state != "finished":
        return "There is no evaluation yet. What there is so far is below."
    rollouts = facts.summary["rollouts"]
    if rollouts:
        name, figures = list(rollouts.items())[-1]
        what = f"{counted(figures['rollouts'], 'rollout')} of {name}: mean reward {number(figures['reward'])}"
        return f"{what}. Nothing was held out to compare."
    return "Nothing was held out to compare before and after."


def evaluations(facts: Facts) -> Markup | None:
    """A table of them, and each mean with its interval."""
    found = facts.own_evaluations
    if not found:
        return None
    names = list(dict.fromkeys(n for f in found.values() for n in f["rewards"]))
    if len(names) == 1 and all(f["reward"] == _of(f, names[0]).get("mean") for f in found.values()):
        names = []  # one reward, of weight 1
    best = next((n for n, f in found.items() if f.get("best")), "") if len(found) > 2 else ""
    head = h("tr", [h("th", c) for c in ("", "reward", "change", *names, "tool calls", "tokens", "failed")])
    rows = [_row(name, f, names, name == best) for name, f in found.items()]
    table = h("table", h("thead", head), h("tbody", rows), class_="figures")
    dots = [chart.intervals("Mean reward", _dots({n: {**f, "mean": f["reward"]} for n, f in found.items()}), best=best)]
    dots += [chart.intervals(name, _dots({n: _of(f, name) for n, f in found.items()}), best=best) for name in names[:5]]
    what = "Tasks that were never trained on" if list(found.values())[-1].get("held_out", True) else "The tasks"
    change = f"; a change is measured task by task from {next(iter(found))}" if len(found) > 1 else ""
    return section(
        "Before and after" if len(found) < 3 else "Evaluations",
        h("div", table, class_="wide"),
        h("div", dots, class_="charts"),
        about=f"{what}, each time the same. In brackets are 95 % intervals{change}.",
    )


def _row(name: str, f: Mapping[str, Any], names: Sequence[str], best: bool) -> Markup:
    cells = [
        _mean(f["reward"], f),
        _mean(f["difference"]["mean"], f["difference"], "+") if f.get("difference") else "",
        *(_mean(_of(f, n).get("mean"), _of(f, n)) for n in names),
        number(f["tool_calls"], 2),
        number(f["tokens"], 0),
        f"{f['failed']} of {f['rollouts']}",
    ]
    label = h("th", name, h("small", "best", class_="tag") if best else None)
    return h("tr", label, [h("td", c, class_="n") for c in cells])


def _of(figures: Mapping[str, Any], reward: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = figures["rewards"].get(reward, {})
    return found


def _dots(means: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Point]]:
    found = []
    for name, f in means.items():
        if (mean := f.get("mean")) is not None:
            low, high = f.get("interval") or (None, None)
            found.append((name, Point(0, mean, low, high, f"{name}: {number(mean)}")))
    return found


def _mean(value: float | None, figures: Mapping[str, Any], sign: str = "") -> list[Any]:
    ends = figures.get("interval")
    shown = h("small", f"[{number(ends[0], sign=sign)}, {number(ends[1], sign=sign)}]") if ends else None
    return [number(value, sign=sign), shown]


def alarms(facts: Facts) -> Markup | None:
    found = facts.alarms
    if not found:
        return None
    rows = [
        h("li", h("b", a.message + "."), h("span", a.advice), class_=f"alarm {a.severity}", data_alarm=a.kind)
        for a in found
    ]
    return section("Alarms", h("ul", rows, class_="alarms"))


def recipe(facts: Facts) -> Markup:
    text = yaml.safe_dump(facts.recipe, sort_keys=False, allow_unicode=True, width=100)
    return section("Recipe", h("pre", h("code", text)))


def versions(facts: Facts) -> Markup:
    known = dict(facts.info.get("versions") or {})
    first = {n: known.pop(n) for n in ("guerdon", "python", *PACKAGES) if n in known}
    main = h("p", ", ".join(f"{n} {v}" for n, v in first.items()))
    others = h("p", ", ".join(f"{n} {v}" for n, v in known.items()), class_="quiet")
    rest = h("details", h("summary", counted(known, "more package")), others)
    return section("Versions", main, rest if known else None)


def _named(use: Any) -> str:
    return use if isinstance(use, str) else str(next(iter(use))) if use else ""


def _reward_name(use: Any) -> str:
    name = _named(use)
    settings = use.get(name) if isinstance(use, Mapping) else None
    label = settings.get("label") if isinstance(settings, Mapping) else ""
    return str(label or name.rpartition(":")[2])
