"""The command `guerdon`. Nothing but click is imported until a command needs it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from guerdon import __version__
from guerdon.printing import print_json, print_or_table

if TYPE_CHECKING:
    from pathlib import Path

    from guerdon.loading import Loaded
    from guerdon.registry import Registry


ELSEWHERE = {"resume": "run --resume", "new": "plugins new", "list": "runs", "test": "plugins test"}
"""What is sought as a command of its own."""


class _Group(click.Group):
    """Lists commands in the order of this file, and suggests the near miss."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from guerdon.errors import near_miss

            meant = ELSEWHERE.get(args[0])
            hint = f" It is `guerdon {meant}`." if meant else near_miss(args[0], self.commands)
            raise click.UsageError(f"there is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="guerdon")
def cli() -> None:
    """Compose an agent, rewards and a trainer in one recipe: roll out, score, train, compare.

    Start with `guerdon recipes`, then `guerdon run quickstart`. Any value of a recipe can be overridden behind its
    name: `guerdon run gsm.yaml loop.iterations=3 trainer.sft.learning_rate=1e-5`.
    """


def main() -> None:
    """Run the command line; errors that guerdon raises end in one message and exit code 1."""
    from guerdon.errors import GuerdonError

    try:
        status = cli(standalone_mode=False)
    except GuerdonError as error:
        if "--json" in sys.argv:
            print_json({"ok": False, "error": {"kind": error.kind, "message": str(error)}})
        _fail(str(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    sys.exit(1)


RECIPE = click.argument("recipe")
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
RUNS = click.option("--runs", default=None, help="The folder of runs, instead of the recipe's (`runs`).")
GPUS = click.option("--gpus", type=click.IntRange(1), help="Processes to train in, instead of the recipe's (`launch`).")


SERVER = click.option("--server", help="Let the workers of the `guerdon serve` at this address roll out.")
HOST = click.option("--host", help="The address at which workers on other machines reach this one.")


def with_gpus(overrides: tuple[str, ...], gpus: int | None) -> tuple[str, ...]:
    return (*overrides, f"launch.gpus={gpus}") if gpus else overrides


@cli.command()
@click.argument("recipe", required=False)
@OVERRIDES
@GPUS
@click.option(
    "--resume", is_flag=False, flag_value="last", metavar="[RUN]", help="Go on with a run; by default the last."
)
@RUNS
@SERVER
@HOST
@JSON
def run(
    recipe: str | None,
    overrides: tuple[str, ...],
    gpus: int | None,
    resume: str | None,
    runs: str | None,
    server: str | None,
    host: str | None,
    as_json: bool,
) -> None:
    """Run a recipe: roll out, score, train, compare.

    RECIPE is a YAML file, or the name of one that a plugin ships (see `guerdon recipes`). With --resume, KEY=VALUE
    changes what the run goes on with: the trainer's settings, the backend's, how it rolls out and scores.
    """
    if resume:
        words = tuple(word for word in (resume, recipe, *overrides) if word and "=" in word)
        if recipe and recipe not in words:
            raise click.UsageError(
                "a resumed run goes on with the recipe it has: give no other, only what is to change"
            )
        name = "last" if resume in words else resume
        _resume(name, with_gpus(words, gpus), runs, as_json, **_where(server, host))
    elif recipe:
        _start(recipe, with_gpus(overrides, gpus), runs, as_json, stage="", **_where(server, host))
    else:
        raise click.UsageError("give a recipe, or --resume")


@cli.command()
@RECIPE
@OVERRIDES
@GPUS
@JSON
def check(recipe: str, overrides: tuple[str, ...], gpus: int | None, as_json: bool) -> None:
    """Is a recipe right, and what will run? Needs no GPU and loads no model."""
    from guerdon.check import checked

    lines = checked(*open_recipe(recipe, with_gpus(overrides, gpus)))
    if as_json:
        return print_json({"ok": True, **lines})
    for name, value in lines.items():
        values = value if isinstance(value, list) else [value]
        for i, one in enumerate(v for v in values if v):
            click.echo(f"{name if i == 0 else '':8} {one}")
    click.echo("The recipe is right.")


@cli.command()
@RECIPE
@OVERRIDES
@JSON
def explain(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """The whole recipe with its defaults, and where each value comes from."""
    from guerdon.explain import explained
    from guerdon.resolve import resolve

    plan = resolve(*open_recipe(recipe, overrides))
    rows = explained(plan)
    if as_json:
        return print_json([{"key": k, "value": v, "from": origin} for k, v, origin in rows])
    width = min(44, max(len(k) for k, _, _ in rows))
    for key, value, origin in rows:
        click.echo(f"{key:{width}} = {value!s:30} {click.style('# ' + origin, dim=True)}")


@cli.command()
@RECIPE
@OVERRIDES
@RUNS
@SERVER
@HOST
@JSON
def rollout(
    recipe: str, overrides: tuple[str, ...], runs: str | None, server: str | None, host: str | None, as_json: bool
) -> None:
    """Only roll out and score a recipe's tasks, `loop.group_size` attempts each."""
    _start(recipe, overrides, runs, as_json, stage="rollout", **_where(server, host))


@cli.command()
@click.argument("run_name", metavar="RUN")
@RUNS
@JSON
def train(run_name: str, runs: str | None, as_json: bool) -> None:
    """Only train, on the trajectories that a run has."""
    _resume(run_name, (), runs, as_json, stage="train")


@cli.command("eval")
@click.argument("target", metavar="RECIPE|RUN")
@OVERRIDES
@RUNS
@SERVER
@HOST
@JSON
def evaluate(
    target: str, overrides: tuple[str, ...], runs: str | None, server: str | None, host: str | None, as_json: bool
) -> None:
    """Only evaluate: a recipe's model, or a run's best checkpoint, on the held-out tasks."""
    from pathlib import Path

    from guerdon.errors import StoreError
    from guerdon.packaged import packaged_recipes
    from guerdon.store import find_run

    found = ""
    if not (overrides or Path(target).is_file() or target in packaged_recipes()):
        with contextlib.suppress(StoreError):
            found = str(find_run(Path(runs or "runs"), target))
    if found:
        _resume(found, (), runs, as_json, stage="eval", **_where(server, host))
    else:
        _start(target, overrides, runs, as_json, stage="eval", **_where(server, host))


@cli.command()
@click.argument("target", metavar="FILE|RUN")
@click.argument("recipe", required=False)
@OVERRIDES
@click.option("--reward", "rewards", multiple=True, metavar="REF", help="Score with this reward instead; repeatable.")
@click.option("--map", "columns", multiple=True, metavar="NAME=COLUMN", help="Which column of a file is what.")
@click.option("--output", type=click.Path(), help="Write the scores of each row or trajectory to this JSONL file.")
@click.option("--resume", is_flag=True, help="Go on after the last row that the output has.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("--workers", type=click.IntRange(1), help="Processes; by default the recipe's, or one a CPU.")
@RUNS
@JSON
def score(target: str, recipe: str | None, overrides: tuple[str, ...], **options: Any) -> int:
    """Score the rows of a file, or a run's trajectories again, and compare.

    RECIPE is one whose rewards to take; `--reward ./polite.py:polite` and `--reward 'numeric: {relative: 0.01}'` name
    single ones. A FILE (.jsonl, .jsonl.gz, .json, .csv, .parquet, or `-`) has the columns completion, answer and
    prompt, or those that `--map completion=pred` names.
    """
    from guerdon.score_command import score_command

    if recipe and "=" in recipe:
        overrides, recipe = (recipe, *overrides), None
    summary, status = score_command(target, recipe, overrides, **options)
    if options["as_json"] or isinstance(summary, list):
        print_or_table(summary, options["as_json"])
    return status


def open_recipe(name: str, overrides: tuple[str, ...]) -> "tuple[Loaded, Registry]":
    """A recipe by path, or by the name of a packaged one, with the registry it is to be resolved in."""
    from guerdon.launch import load_recipe

    return load_recipe(name, overrides)


@contextlib.contextmanager
def open_run(name: str, runs: str | None) -> Iterator[Any]:
    from pathlib import Path

    from guerdon.store import Run, find_run

    found = Run(find_run(Path(runs or "runs"), name))
    try:
        yield found
    finally:
        found.close()


def _start(recipe: str, overrides: tuple[str, ...], runs: str | None, as_json: bool, stage: str, **where: str) -> None:
    from guerdon.launch import start

    loaded, registry = open_recipe(recipe, overrides)
    _executed(lambda: start(loaded, registry, runs=runs, stage=stage, quiet=as_json, **where), as_json)


def _resume(
    name: str, changes: tuple[str, ...], runs: str | None, as_json: bool, stage: str = "", **where: str
) -> None:
    from guerdon.launch import resume

    _executed(lambda: resume(name, changes, runs=runs, stage=stage, quiet=as_json, **where), as_json)


def _where(server: str | None, host: str | None) -> dict[str, str]:
    """Where rollouts are done, as `guerdon.engine.execute` has it."""
    if server:
        from guerdon.serve_command import token_for

        return {"server": server, "token": token_for(server), "host": host or ""}
    return {"host": host or ""}


def _executed(execute: Callable[[], Any], as_json: bool) -> None:
    summary = execute()
    if as_json:
        print_json(summary)


# -- looking back ---------------------------------------------------------------------------------------------------


@cli.command("runs")
@RUNS
@JSON
def list_of_runs(runs: str | None, as_json: bool) -> None:
    """The runs in this folder, the newest last."""
    from pathlib import Path

    from guerdon.look import run_rows
    from guerdon.store import elsewhere

    folder = Path(runs or "runs")
    rows = run_rows(folder)
    if not rows and not as_json:
        click.echo(f"No runs in {folder}/ yet. {elsewhere(folder).strip() or 'Try: guerdon run quickstart'}")
    print_or_table(rows, as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@click.argument("trajectory", required=False)
@click.option("--best", is_flag=True, help="Show the trajectory with the highest reward.")
@click.option("--worst", is_flag=True, help="Show the one with the lowest reward, or that failed.")
@RUNS
@JSON
def show(run_name: str, trajectory: str | None, best: bool, worst: bool, runs: str | None, as_json: bool) -> None:
    """A run's figures and trajectories; or one trajectory as a conversation, with its scores.

    RUN is an id, a part of one, a folder, or `last`.
    """
    from guerdon import look

    if best + worst + bool(trajectory) > 1:
        raise click.UsageError("give one of TRAJECTORY, --best and --worst")
    with open_run(run_name, runs) as found:
        if best or worst:
            trajectory = look.extreme(found, best)
        if as_json:
            from guerdon.summary import summarise

            if trajectory:
                return print_json(found.trajectory(trajectory).to_json())
            return print_json({**summarise(found), "trajectories": found.index()})
        if trajectory:
            look.show_trajectory(found.trajectory(trajectory))
        else:
            look.show_run(found)


# -- what there is --------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("name", required=False)
@JSON
def recipes(name: str | None, as_json: bool) -> None:
    """The recipes that plugins ship; with NAME, the text of one."""
    from guerdon.packaged import packaged_recipes

    known = packaged_recipes()
    if name:
        from guerdon.errors import RecipeError, near_miss

        if name not in known:
            raise RecipeError(f"there is no packaged recipe {name!r}.{near_miss(name, known)}")
        return click.echo(known[name].read_text(encoding="utf-8").rstrip())
    print_or_table([{"name": n, "about": _first_comment(p)} for n, p in known.items()], as_json)


def _first_comment(path: "Path") -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


@cli.command()
def schema() -> None:
    """A JSON Schema of recipes for editors, with the settings of all installed components."""
    from guerdon.explain import recipe_schema

    print_json(recipe_schema())


def _add_commands() -> None:
    from guerdon.chat_command import chat
    from guerdon.data_command import data
    from guerdon.export_command import export
    from guerdon.plugins_command import plugins
    from guerdon.report_command import report
    from guerdon.serve_command import serve, worker

    for command in (chat, data, export, plugins, report, serve, worker):
        cli.add_command(command)


_add_commands()
