"""Look back at runs, and at components: what `runs`, `show` and `plugins show` print."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from guerdon.alarms import alarms
from guerdon.errors import ComponentError, StoreError, counted
from guerdon.invoke import shape
from guerdon.plugins import Component, Plugins
from guerdon.registry import Registry, load
from guerdon.report import Report, compare, number
from guerdon.settings import describe
from guerdon.store import Run, list_runs
from guerdon.summary import summarise
from guerdon.task import Message
from guerdon.trajectory import Trajectory
from guerdon.trends import seen


def run_rows(runs: Path) -> list[dict[str, Any]]:
    """One row a run, oldest first."""
    return [_run_row(folder) for folder in list_runs(runs)]


def _run_row(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": folder.name, "recipe": "", "started": "", "state": "unreadable"}
    try:
        run = Run(folder)
        try:
            summary = summarise(run)
        finally:
            run.close()
    except StoreError:
        return {**row, "before": None, "newest": None, "loss": None}
    rewards = {name: figures["reward"] for name, figures in summary["eval"].items()}
    newest = [reward for name, reward in rewards.items() if name != "before"]
    losses = [row["loss"] for t in summary["training"].values() for row in t.get("curve", ()) if "loss" in row]
    return {
        "run": run.id,
        "recipe": run.info["recipe"],
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info["created"])),
        "state": "finished" if summary["finished"] else "unfinished",
        "before": rewards.get("before"),
        "newest": newest[-1] if newest else None,
        "loss": losses[-1] if losses else None,
    }


def extreme(run: Run, best: bool) -> str:
    """The id of the trajectory with the highest (or lowest) reward; a failed one is lowest of all."""
    key = {t.id: (t.reward if t.reward is not None else float("-inf")) for t in run.each()}
    if not key:
        raise ComponentError(f"run {run.id} has no trajectories yet")
    return (max if best else min)(key, key=lambda name: key[name])


def show_run(run: Run) -> None:
    report = Report()
    summary = summarise(run)
    report.head(f"{run.id}: {'finished' if summary['finished'] else 'unfinished'}")
    report.say(f"{_recipe(run)}, seed {run.info['seed']}, guerdon {run.info['versions']['guerdon']}")
    if summary["eval"]:
        report.say("")
        compare(report, summary["eval"])
    for name, figures in summary["rollouts"].items():
        report.say(f"\nrollouts of {name}: {figures['rollouts']}, mean reward {number(figures['reward'])}")
    for name, figures in summary["training"].items():
        _show_training(report, name, figures)
    records = [seen(t) for t in run.each()]
    if not records:
        return
    report.say("")
    for alarm in alarms(run, records):
        report.alarm(alarm)
    shown = [run.trajectory(r.id) for r in records[-20:]]
    rows = [
        [
            t.id,
            number(t.reward),
            len(t.turns),
            t.tool_calls,
            t.failure.kind if t.failure else _short(t.completion or ""),
        ]
        for t in shown
    ]
    report.table(
        f"the last {len(shown)} of {len(records)} trajectories", ["id", "reward", "turns", "calls", "answer"], rows
    )
    report.say(f"\nOne as a conversation: guerdon show {run.id} {shown[-1].id}   (or --best, --worst)")
    report.say(f"All as a page: guerdon report {run.id}")
    if not summary["finished"]:
        report.say(f"Go on with it: guerdon run --resume {run.id}")


def _show_training(report: Report, name: str, figures: dict[str, Any]) -> None:
    """How many rows, and the curve of what was logged."""
    title = f"training {name}: " + (counted(figures["rows"], "row") if "rows" in figures else "not finished")
    if not (curve := figures.get("curve")):
        return report.say(f"\n{title}")
    columns = list(dict.fromkeys(name for row in curve for name in row))
    rows = [[str(row["step"]), *(number(row.get(name)) for name in columns[1:])] for row in curve]
    report.say("")
    report.table(title, columns, rows)


def _recipe(run: Run) -> str:
    name = str(run.info["recipe"])
    return name if name.startswith("recipe ") else f"recipe {name}"


def _short(text: str) -> str:
    line = _shown(" ".join(text.split()))
    return line if len(line) <= 48 else line[:45] + "..."


def _shown(text: str) -> str:
    """Without escape sequences: a model must not move the cursor."""
    return text.replace("\x1b", "")


def show_trajectory(trajectory: Trajectory) -> None:
    """All that was said with the tool calls, where the agent began anew, then the scores with their reasons."""
    console = Console(highlight=False)
    t = trajectory
    console.print(
        f"[bold]{escape(t.id)}[/bold]  agent {t.agent}, model {t.model}, {counted(t.turns, 'turn')}, {t.seconds:.1f} s"
    )
    length = 0
    for turn in t.turns:
        if turn.keep < length:
            again = f"from here on the agent went on from message {turn.keep}" if turn.keep else "another conversation"
            console.print(f"[yellow]{again}[/yellow]")
        for message in (*turn.prompt, turn.reply):
            console.print(_message(message))
        length = turn.keep + len(turn.prompt) + 1
    if t.failure:
        console.print(f"[red]failed ({t.failure.kind}):[/red] {escape(t.failure.message)}")
    report = Report(console)
    rows = []
    for name, s in t.scores.items():
        value = "error" if s.error else "not applicable" if s.value is None else number(s.value)
        rows.append([name, value, f"{s.weight:g}", s.error.message if s.error else s.reason])
    if rows:
        rows.append(["reward", number(t.reward), "", "the weighted sum"])
        report.table("scores", ["", "score", "weight", "reason"], rows)


_COLOURS = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "magenta"}


def _message(message: Message) -> Panel:
    role = str(message.get("role"))
    text = Text(_shown(str(message.get("content") or "")))
    for call in message.get("tool_calls") or ():
        text.append("\n" if text.plain else "")
        text.append(_shown(f"calls {call['function']['name']} {call['function']['arguments']}"), "bold")
    return Panel(text, title=role, title_align="left", border_style=_COLOURS.get(role, ""), padding=(0, 1))


def component_card(name: str) -> list[dict[str, Any]]:
    """What there is to know about the components of this name, of every kind that has it.

    Raises:
        ComponentError: there is none, or it cannot be imported.
    """
    return [_card(component) for component in Registry(Plugins()).named(name)]


def _card(component: Component) -> dict[str, Any]:
    function = load(component)
    about, settings = describe(function)
    return {
        "kind": component.kind.removesuffix("s"),
        "name": component.name,
        "package": component.package,
        "version": component.version,
        "target": component.target,
        "extra": component.extra,
        "about": about,
        "asks_for": list(shape(function).wants) if component.kind == "rewards" else [],
        "settings": [{"name": s.name, "type": s.type, "default": s.default, "help": s.help} for s in settings],
    }


def show_component(card: dict[str, Any]) -> None:
    report = Report()
    package = f"from {card['package']} {card['version']}" if card["package"] else "from a file or module"
    report.head(f"{card['kind']} {card['name']}")
    extra = f", needs pip install '{card['package']}[{card['extra']}]'" if card["extra"] else ""
    report.say(f"{package} ({card['target']}){extra}\n\n{card['about']}\n")
    if card["asks_for"]:
        report.say(f"asks for: {', '.join(card['asks_for'])}\n")
    if card["settings"]:
        rows = [[s["name"], s["type"], repr(s["default"]), s["help"]] for s in card["settings"]]
        report.table("settings", ["", "type", "default", "meaning"], rows)
    else:
        report.say("It has no settings.")
