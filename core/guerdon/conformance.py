"""Does a component keep to its contract? What `guerdon plugins test` and the pytest fixture `conformance` run.

Every component is imported, and its documentation, settings and signature are read; a reward is also put to work
(`guerdon.conformance_rewards`).
"""

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from guerdon.conformance_inputs import BUILT_IN, Row, examples, read_rows
from guerdon.conformance_rewards import CHECKS, WATCHED
from guerdon.conformance_static import CHECKS as STATIC
from guerdon.conformance_subject import Outcome, Seen, Subject, announced
from guerdon.errors import ComponentError, GuerdonError, RewardError
from guerdon.invoke import check_wants, shape
from guerdon.loading import _value as yaml_value
from guerdon.plugins import Component, Plugins
from guerdon.recipe import REWARD_KEYS
from guerdon.registry import Registry, load, require_extra
from guerdon.settings import validate
from guerdon.workers import Workers

TIMEOUT = 1.0
"""Seconds that a reward may take for one completion, unless the settings have a `timeout`, as in a recipe."""


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    outcome: Outcome
    seen: str


@dataclass(frozen=True)
class Conformance:
    """All that was looked at in one component."""

    component: Component
    settings: Mapping[str, Any]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return not any(check.outcome == "failed" for check in self.checks)

    @property
    def title(self) -> str:
        c = self.component
        origin = f"from {c.package} {c.version}" if c.package else f"from {c.target}"
        given = ", ".join(f"{k}={v!r}" for k, v in self.settings.items())
        return f"{_kind(c)} {c.name} ({origin}){f' with {given}' if given else ''}"

    def to_json(self) -> dict[str, Any]:
        c = self.component
        about = {"kind": _kind(c), "name": c.name, "package": c.package, "version": c.version, "target": c.target}
        return {**about, "settings": dict(self.settings), "ok": self.ok, "checks": [k._asdict() for k in self.checks]}

    def text(self, *outcomes: Outcome) -> str:
        """A line for each check, or only for those with such an outcome."""
        wanted = [check for check in self.checks if not outcomes or check.outcome in outcomes]
        return "\n".join(f"  {c.outcome:8} {c.name:13} {c.seen}" for c in wanted)


def conformance(
    name: str, settings: Mapping[str, Any] | None = None, tasks: Iterable[Row] | None = None
) -> list[Conformance]:
    """Test the components of this name, of every kind that has it.

    `name` is as `guerdon plugins show` takes it. `tasks` are rows with a `prompt`, an `answer` and whatever columns
    the reward asks for; with a `completion` where it is to be scored, and `expected`, the score (`None`: not
    applicable). Without them, the rows of `examples/NAME.jsonl` in the component's package are taken, else a few word
    problems.

    Raises:
        ComponentError: nothing has this name.
    """
    rows = list(tasks) if tasks is not None else None
    return [examine(component, settings or {}, rows) for component in Registry(Plugins()).named(name)]


def given(settings: Iterable[str]) -> dict[str, Any]:
    """Settings from a command line: `key=value`, the value as a recipe has it.

    >>> given(["max_words=40", "tags=[a, b]"])
    {'max_words': 40, 'tags': ['a', 'b']}

    Raises:
        ComponentError: one is not of this form.
    """
    found = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ComponentError(f"{text!r}: write a setting as key=value")
        found[key.strip()] = yaml_value(value, text)
    return found


def examine(component: Component, settings: Mapping[str, Any], rows: Sequence[Row] | None = None) -> Conformance:
    """Test one component."""
    reserved = REWARD_KEYS if component.kind == "rewards" else ()
    own = {k: v for k, v in settings.items() if k not in reserved}
    timeout = float(settings.get("timeout", TIMEOUT)) if reserved else TIMEOUT
    return Conformance(component, settings, tuple(_checks(component, own, timeout, rows)))


def _checks(
    component: Component, settings: Mapping[str, Any], timeout: float, rows: Sequence[Row] | None
) -> Iterator[Check]:
    try:
        function = _loaded(component)
    except GuerdonError as error:
        yield Check("loads", "failed", str(error))
        return
    yield Check("loads", "passed", component.target)
    sound = True
    for name, look in STATIC.items():
        check = _told(name, partial(look, component, function, settings))
        sound = sound and (check.outcome != "failed" or name == "documented")
        yield check
    if component.kind != "rewards":
        yield Check("at work", "skipped", f"only a reward is put to work here: try this {_kind(component)} in a recipe")
    elif not sound:
        yield Check("at work", "skipped", "what failed above comes first")
    else:
        yield from _at_work(component, function, settings, timeout, rows)


def _told(name: str, look: Callable[[], Seen]) -> Check:
    try:
        return Check(name, *look())
    except GuerdonError as error:
        return Check(name, "failed", str(error))


def _loaded(component: Component) -> Callable[..., Any]:
    require_extra(component)
    function = load(component)
    if not callable(function):
        raise ComponentError(f"{component.target} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def _at_work(
    component: Component,
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    timeout: float,
    rows: Sequence[Row] | None,
) -> Iterator[Check]:
    try:
        own = rows if rows is not None else _shipped(component)
        found = examples(own or BUILT_IN)
        columns = set.intersection(*(set(e.task.fields) for e in found))
        check_wants(function, sorted(columns))
    except GuerdonError as error:
        hint = "give rows that have it: --tasks FILE, or examples/NAME.jsonl in its package"
        yield Check("at work", "skipped", f"{error} ({hint})")
        return
    documented = announced(inspect.getdoc(function) or "")
    values = validate(_kind(component), function, settings)
    with Workers(2) as workers:
        subject = Subject(component, function, values, shape(function), found, timeout, workers, documented, not own)
        for name, look in CHECKS.items():
            yield _told(name, partial(look, subject))
        try:
            subject.observed  # noqa: B018  once, for all that follow
        except RewardError as error:
            yield Check("at work", "failed", f"{error}; so the rest is left out: {', '.join(WATCHED)}")
            return
        for name, look in WATCHED.items():
            yield _told(name, partial(look, subject))


def _shipped(component: Component) -> list[Row]:
    """The rows that a component's package brings for it."""
    top = component.target.partition(":")[0].partition(".")[0]
    for folder in getattr(sys.modules.get(top), "__path__", ()):
        path = Path(folder, "examples", f"{component.name}.jsonl")
        if path.is_file():
            return read_rows(path)
    return []


def _kind(component: Component) -> str:
    return "task source" if component.kind == "tasks" else component.kind.removesuffix("s")


# -- what is shown --------------------------------------------------------------------------------------------------

_COLOURS = {"passed": "green", "failed": "bold red", "warning": "yellow", "skipped": "dim"}


def run_tests(name: str, settings: Iterable[str], tasks: str | None, *, quiet: bool) -> list[Conformance]:
    """The command `plugins test`: test, and show each table when it is known, unless `quiet`."""
    rows = read_rows(Path(tasks)) if tasks else None
    found = []
    for component in Registry(Plugins()).named(name):
        with _silence():
            found.append(examine(component, given(settings), rows))
        if not quiet:
            show(found[-1])
    return found


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Within this context nothing is written to stderr, as workers do with what rewards print."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def show(found: Conformance) -> None:
    """A table: check, outcome, what was seen."""
    from rich.markup import escape
    from rich.table import Table

    from guerdon.report import Report

    console = Report().console
    table = Table(title=escape(found.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("check", "", "seen"):
        table.add_column(column, no_wrap=column != "seen")
    for check in found.checks:
        colour = _COLOURS[check.outcome]
        table.add_row(check.name, f"[{colour}]{check.outcome}[/{colour}]", escape(check.seen))
    console.print(table)
    count = {outcome: sum(c.outcome == outcome for c in found.checks) for outcome in _COLOURS}
    console.print(", ".join(f"{n} {outcome}" for outcome, n in count.items() if n) + "\n")
