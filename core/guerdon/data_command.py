"""The commands `guerdon data ...`: what a recipe's rows are, before anything is trained."""

import contextlib
from typing import Any

import click

from guerdon.printing import print_json

LOOKED_AT = 200
"""Rows that are tokenised for the figures."""


@click.group()
def data() -> None:
    """The rows that a recipe trains on (`data`)."""


@data.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--rows", default=3, type=click.IntRange(1), show_default=True, help="Rows to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def preview(recipe: str, overrides: tuple[str, ...], rows: int, as_json: bool) -> None:
    """The first rows as the model will see them: what is learnt of them, how long they are, what is cut.

    The figures are of the first rows of each source. Needs the model's tokenizer, and no GPU.
    """
    from rich.console import Console

    from guerdon.cli import open_recipe
    from guerdon.preview import figures, show

    plan, found, seen = _looked_at(*open_recipe(recipe, overrides), max(rows, LOOKED_AT))
    shown = seen[:rows]
    if as_json:
        return print_json({"data": found.notes, "rows": [r.to_json() for r in shown], "figures": figures(seen)})
    for note in found.notes:
        click.echo(f"data  {note}")
    show(Console(highlight=False), shown, seen, plan.trainer.settings.get("max_length"))


def _looked_at(loaded: Any, registry: Any, first: int) -> tuple[Any, Any, Any]:
    """The plan, the rows as they were recognised, and as the trainer will see them.

    Raises:
        RecipeError: there are no data, or the trainer cannot show any.
    """
    from random import Random

    from guerdon.data import read_data
    from guerdon.errors import TaskError
    from guerdon.resolve import resolve
    from guerdon.traits import attribute

    plan = resolve(loaded, registry)
    if not plan.recipe.data:
        raise loaded.error((), "the recipe has no data: guerdon data preview shows the rows of its key `data`")
    trainer = plan.trainer
    target = getattr(trainer.function, "preview", "") if trainer else ""
    if not trainer or not target:
        name = trainer.component.name if trainer else None
        raise loaded.error(("trainer",), f"the trainer {name!r} has no preview of its rows")
    try:
        found = read_data(plan.recipe.data, folder=loaded.folder, seed=plan.recipe.seed, first=first)
    except TaskError as error:
        raise loaded.error(("data",), str(error)) from error
    if not found.rows:
        raise loaded.error(("data",), "; ".join(found.notes))
    rows = list(found.rows)
    if plan.recipe.data.mix:  # so that each source is among those shown
        Random(plan.recipe.seed).shuffle(rows)
    model = plan.adapter if plan.adapter and (plan.adapter / "tokenizer_config.json").exists() else plan.model
    path, show_rows = plan.model_path(str(model)), attribute(target)
    with contextlib.chdir(loaded.folder) if loaded.folder.is_dir() else contextlib.nullcontext():  # as a training does
        return plan, found, show_rows(path, rows[:first], trainer.settings)
