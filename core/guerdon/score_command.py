"""The command `guerdon score`: a file's rows, or a run's trajectories again."""

import asyncio
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from guerdon.errors import RecipeError
from guerdon.launch import load_recipe, rescore
from guerdon.loading import Loaded, _value, parse_recipe
from guerdon.plugins import Plugins
from guerdon.registry import Registry
from guerdon.report import Report
from guerdon.resolve import BoundReward, _rewards
from guerdon.score_file import score_file
from guerdon.score_io import is_file
from guerdon.score_totals import show_summary
from guerdon.store import Run, find_run


def score_command(
    target: str,
    recipe: str | None,
    overrides: Sequence[str],
    *,
    rewards: Sequence[str],
    columns: Sequence[str],
    output: str | None,
    resume: bool,
    overwrite: bool,
    workers: int | None,
    runs: str | None,
    as_json: bool,
) -> tuple[Any, int]:
    """What there is to print, and the exit code. A file's summary is shown already, unless it is wanted as JSON."""
    if rewards:
        overrides = (*overrides, "rewards=" + json.dumps([_from_here(r) for r in rewards]))
    if workers is not None:
        overrides = (*overrides, f"scoring.workers={workers}")
    if is_file(target):
        loaded, registry = load_recipe(recipe, overrides) if recipe else _bare_recipe(target, overrides)
        with _told(output, as_json) as report:
            summary = score_file(
                target,
                _bound(loaded, registry, report),
                columns=_mapping(columns),
                output=output,
                workers=_workers(loaded),
                memory_mb=loaded.recipe.scoring.memory_mb,
                resume=resume,
                overwrite=overwrite,
                report=report,
            )
            if not as_json:
                show_summary(summary, report if output == "-" else Report())
            if failed := not any(r["count"] - r["failed"] for r in summary["rewards"].values()):
                report.warn("no row could be scored")
        return summary, int(failed)
    if columns or resume:
        raise RecipeError(f"{target}: --map and --resume are for files, and there is none of this name")
    with closing(Run(find_run(Path(runs or "runs"), target))) as run:
        opened = load_recipe(recipe or str(run.folder / "recipe.yaml"), overrides)
        return asyncio.run(rescore(run, opened, output, overwrite=overwrite)), 0


@contextmanager
def _told(output: str | None, quiet: bool) -> Iterator[Report]:
    """Where progress is shown: stderr, for the summary or the rows may be piped on."""
    report = Report(Console(stderr=True, highlight=False, quiet=quiet))
    try:
        yield report
    except KeyboardInterrupt:
        if output and Path(output).is_file():
            report.say(f"\nInterrupted. What is scored is in {output}; go on with the same command and --resume")
        raise


def _bound(loaded: Loaded, registry: Registry, report: Report) -> list[BoundReward]:
    notes: list[str] = []
    rewards = list(_rewards(loaded, registry, notes))
    for note in notes:
        report.warn(note)
    return rewards


def _workers(loaded: Loaded) -> int:
    scoring = loaded.recipe.scoring
    return scoring.workers if "workers" in scoring.model_fields_set else len(os.sched_getaffinity(0))


def _bare_recipe(source: str, overrides: Sequence[str]) -> tuple[Loaded, Registry]:
    """A recipe of nothing but the rewards that are given."""
    plugins = Plugins()
    if not any(o.partition("=")[0].strip() == "rewards" for o in overrides):
        names = sorted(c.name for c in plugins.components if c.kind == "rewards")
        raise RecipeError(f"{source}: with which rewards? Give --reward (there are {', '.join(names)}), or a recipe")
    text = yaml.safe_dump({"model": "none", "tasks": {"path": source}, "rewards": ["none"]})
    loaded = parse_recipe(text, overrides, source="command line", folder=Path.cwd())
    return loaded, Registry(plugins, Path.cwd())


def _mapping(pairs: Iterable[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise RecipeError(f"--map {pair}: write it as NAME=COLUMN, e.g. completion=pred")
        if columns.setdefault(name, column) != column:
            raise RecipeError(f"--map {pair}: {name!r} is mapped twice")
    return columns


def _from_here(text: str) -> Any:
    """A reward as a recipe has it; a file on the command line is meant from this folder, not from the recipe's."""
    reward = _value(text, f"--reward {text}")
    if isinstance(reward, dict):
        return {_path_from_here(str(ref)): settings for ref, settings in reward.items()}
    return _path_from_here(reward) if isinstance(reward, str) else reward


def _path_from_here(ref: str) -> str:
    path, _, attribute = ref.rpartition(":")
    return f"{Path(path).expanduser().resolve()}:{attribute}" if path.endswith(".py") else ref
