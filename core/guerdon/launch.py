"""Start a run, go on with one, score one again: what the commands do, for scripts too."""

import asyncio
import json
import logging
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import yaml

from guerdon import __version__, event_loop
from guerdon.alarms import comparing
from guerdon.engine import execute
from guerdon.errors import GuerdonError, RecipeError, StoreError, near_miss
from guerdon.http_server import listen
from guerdon.inputs import Inputs, read_inputs
from guerdon.loading import Loaded, read_recipe
from guerdon.packaged import packaged_recipes
from guerdon.plugins import Plugins
from guerdon.preflight import preflight
from guerdon.registry import Registry
from guerdon.report import Report
from guerdon.resolve import Plan, check_trainable, resolve
from guerdon.score_io import Output
from guerdon.score_row import added
from guerdon.scoring import Scorer
from guerdon.store import Run, elsewhere, find_run, list_runs
from guerdon.summary import figures
from guerdon.workplace import ask

CHANGEABLE = ("trainer.", "backend.", "launch.", "rollout.", "scoring.", "loop.train_timeout.")
"""What a run that goes on can have otherwise than it began."""

SHAPE = ("tuning", "lora_rank", "lora_alpha", "lora_targets", "lora_options")
"""Settings, of trainers that have them, by which a checkpoint is made: it fits no others."""


def load_recipe(name: str, overrides: Iterable[str]) -> tuple[Loaded, Registry]:
    """A recipe by path or by the name of a packaged one, and the registry to resolve it in.

    Raises:
        RecipeError: there is none, or it is wrong.
    """
    plugins = Plugins()
    path = Path(name)
    if path.is_file():
        loaded = read_recipe(path, overrides, folder=_frozen_folder(path))
        return loaded, Registry(plugins, loaded.folder)
    known = packaged_recipes(plugins)
    if name not in known:
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = near_miss(path.name if path.suffix else name, [*near, *known])
        raise RecipeError(f"there is no recipe {name!r}: no such file, and none of that name is packaged.{hint}")
    loaded = read_recipe(known[name], overrides, folder=Path.cwd(), source=f"recipe {name}")
    return loaded, Registry(plugins, Path.cwd())


def _frozen_folder(path: Path) -> Path | None:
    """A run's own recipe keeps the folder that its relative paths start from."""
    info = path.parent / "run.json"
    if path.name == "recipe.yaml" and info.is_file():
        return Path(json.loads(info.read_text())["folder"])
    return None


def start(
    loaded: Loaded,
    registry: Registry,
    *,
    runs: str | None = None,
    stage: str = "",
    quiet: bool = False,
    **where: str,
) -> dict[str, Any]:
    """Check a recipe, make a run of it and execute it, `where` as `execute` has it. Returns the run's summary."""
    plan = resolve(loaded, registry)
    if not stage:
        check_trainable(plan)
    inputs = read_inputs(plan)
    if not stage:
        plan.notes.extend(preflight(plan, inputs))
    name = Path(loaded.source.removeprefix("recipe ")).stem
    info = {
        "name": name,
        "recipe": loaded.source,
        "folder": str(loaded.folder),
        "stage": stage,
        "seed": loaded.recipe.seed,
        "compares": sorted(comparing(plan.rewards)),
        "versions": versions(),
    }
    if plan.adapter:  # "last" is another run soon
        loaded.raw["adapter"] = str(plan.adapter)
    _check_addresses(**where)
    run = Run.create(Path(runs or loaded.recipe.runs), name, _as_text(loaded), info)
    return _execute(plan, inputs, run, stage, quiet, where)


def resume(
    name: str,
    changes: Sequence[str] = (),
    *,
    runs: str | None = None,
    stage: str = "",
    quiet: bool = False,
    **where: str,
) -> dict[str, Any]:
    """Go on with a run where it was stopped, and from now on with these changes (`a.b=value`) of its recipe.

    Raises:
        RecipeError: a change is wrong, or of what has decided what the run has already.
    """
    folder = _unfinished(Path(runs or "runs")) if name == "last" and not stage else find_run(Path(runs or "runs"), name)
    for change in changes:
        if not f"{change.partition('=')[0]}.".startswith(CHANGEABLE):
            raise RecipeError(
                f"{change}: a run that goes on can change {', '.join(c.rstrip('.') for c in CHANGEABLE)}, and this has "
                "decided what it has already. Start another run with it."
            )
    recipe = folder / "recipe.yaml"
    loaded, registry = load_recipe(str(recipe), changes)
    plan = resolve(loaded, registry)
    _check_addresses(**where)
    run = Run(folder)
    inputs = read_inputs(plan)
    if changes:
        _check_shape(folder, plan)
        plan.notes.append(f"changed from here on: {', '.join(changes)}")
        if not (stage or run.info.get("stage")):
            plan.notes.extend(preflight(plan, inputs))
        with run.executing():
            recipe.with_suffix(".new").write_text(_as_text(loaded), encoding="utf-8")
            recipe.with_suffix(".new").replace(recipe)
    today = versions()
    changed = [
        f"{package} {old} -> {new}"
        for package, old in run.info["versions"].items()
        if (new := today.get(package, "gone")) != old
    ]
    if changed:
        plan.notes.append(f"since this run began, versions changed: {', '.join(changed[:8])}")
    return _execute(plan, inputs, run, stage or run.info.get("stage", ""), quiet, where)


def _check_shape(folder: Path, plan: Plan) -> None:
    """Before the recipe is rewritten: an adapter that was begun keeps its shape."""
    begun = [
        path
        for kind in ("*-steps/checkpoint-*", "*/adapter_config.json")
        for path in folder.glob(f"checkpoints/{kind}")
    ]
    old = resolve(*load_recipe(str(folder / "recipe.yaml"), ())).trainer if begun else None
    if not old or not plan.trainer or old.component.target != plan.trainer.component.target:
        return
    for name, parameter in signature(old.function).parameters.items():
        was, now = (trainer.settings.get(name, parameter.default) for trainer in (old, plan.trainer))
        quantised = name == "tuning" and "full" not in (was, now)  # an adapter fits its base in four bits too
        if name in SHAPE and was != now and not quantised:
            raise RecipeError(
                f"{name}: {now}: this run goes on from {begun[-1].relative_to(folder)}, which was made with {was}, and "
                "fits nothing else. Start another run with it."
            )


def _as_text(loaded: Loaded) -> str:
    return yaml.safe_dump(loaded.raw, sort_keys=False, allow_unicode=True)


def _check_addresses(server: str = "", token: str = "", host: str = "") -> None:
    """Before anything is written: a run that cannot begin leaves no folder, which would be the `last`."""
    if host:
        listen(host).close()
    if server:
        asyncio.run(ask(server, token))


def _unfinished(runs: Path) -> Path:
    """The newest run that is neither finished nor being executed."""
    for folder in reversed(list_runs(runs)):
        run = Run(folder)
        try:
            with run.executing():
                if run.stage("finished") is None:
                    return folder
        except StoreError:
            continue
        finally:
            run.close()
    raise StoreError(f"no run in {runs}/ is unfinished and idle (another folder: --runs).{elsewhere(runs)}")


def _execute(plan: Plan, inputs: Inputs, run: Run, stage: str, quiet: bool, where: Mapping[str, str]) -> dict[str, Any]:
    report = Report(quiet=quiet)
    options = [f" --{name} {shlex.quote(where[name])}" for name in ("server", "host") if where.get(name)]
    again = f"go on with: guerdon run --resume {run.folder}{''.join(options)}"
    report.say(f"run {run.id}  (in {run.folder})")
    for plugin in plan.registry.plugins.broken:
        report.warn(plugin.complaint())
    with log_to(report):
        try:
            with run.executing():
                summary = event_loop.run(execute(plan, inputs, run, report, stage, **where))
                if not stage:
                    report.say(f"\nAs a page: guerdon report {run.folder}")
                return summary
        except (KeyboardInterrupt, asyncio.CancelledError):
            report.say(f"\nInterrupted. What is finished is kept; {again}")
            raise KeyboardInterrupt from None
        except GuerdonError as error:
            error.args = (f"{error}\nWhat was finished is kept; {again}",)
            raise
        finally:
            run.close()


class log_to(logging.Handler):
    """Shows what components log under "guerdon" in the report."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.INFO)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        show = self.report.warn if record.levelno >= logging.WARNING else self.report.say
        show(f"{'' if record.levelno >= logging.WARNING else '  '}{record.getMessage()}")

    def __enter__(self) -> None:
        logger = logging.getLogger("guerdon")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def __exit__(self, *_: object) -> None:
        logging.getLogger("guerdon").removeHandler(self)


def versions() -> dict[str, str]:
    """Python's version, and that of every installed distribution."""
    from importlib.metadata import distributions

    cards = [d.metadata for d in distributions()]  # read once: `d.name` and `d.version` parse the file again
    found = {card["Name"]: card["Version"] for card in cards if card["Name"]}
    return {"python": platform.python_version(), "guerdon": __version__, **dict(sorted(found.items()))}


async def rescore(
    run: Run, opened: tuple[Loaded, Registry], output: str | None, *, overwrite: bool = False
) -> list[dict[str, Any]]:
    """Score a run's trajectories with a recipe's rewards; each reward's mean then and now.

    Raises:
        StoreError: the output exists, without `overwrite`.
    """
    plan = resolve(*opened)
    tasks = run.tasks()
    trajectories = [t for t in run.trajectories() if not t.failure]
    groups: dict[tuple[str, int, str], list[Any]] = {}
    for t in trajectories:
        groups.setdefault((t.phase, t.iteration, t.task_id), []).append((tasks[t.phase, t.task_id], t))
    with Output(output, overwrite=overwrite) as out, Scorer(plan.rewards, plan.recipe.scoring) as scorer:
        scored = [t for group in groups.values() for t in await scorer.score(group)]
        for t in scored:
            row = {"trajectory": t.id, "reward": t.reward, **added(t.scores, t.reward)}
            out.write(json.dumps(row).encode() + b"\n")
    before, after = figures(trajectories), figures(scored)
    names = dict.fromkeys([*before["rewards"], *after["rewards"]])
    rows = [{"reward": "(weighted sum)", "then": before["reward"], "now": after["reward"]}]
    rows += [
        {"reward": n, **{k: f["rewards"].get(n, {}).get("mean") for k, f in (("then", before), ("now", after))}}
        for n in names
    ]
    return rows


__all__ = ["load_recipe", "rescore", "resume", "start", "versions"]
