"""The commands `guerdon plugins ...`."""

import click

from guerdon.printing import print_json, print_or_table

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@click.group(invoke_without_command=True)
@JSON
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """What is installed, from which package; or a new package."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(plugins_list, as_json=as_json)


@plugins.command("list")
@JSON
def plugins_list(as_json: bool = False) -> None:
    """The installed components, and the packages that they come from."""
    from guerdon.plugins import Plugins

    found = Plugins()
    rows = [
        {
            "kind": c.kind.removesuffix("s"),
            "name": c.name,
            "package": c.package,
            "version": c.version,
            "target": c.target,
        }
        for c in sorted(found.components, key=lambda c: c.kind)
    ]
    print_or_table(rows, as_json)
    for plugin in found.broken:
        click.echo(f"{click.style('warning:', fg='yellow')} {plugin.complaint()}", err=True)


@plugins.command("show")
@click.argument("name")
@JSON
def plugins_show(name: str, as_json: bool) -> None:
    """What a component does, its settings, and where it comes from.

    NAME is a component's name, `kind:name` (reward:numeric), `package:name`, `module:attr` or `./file.py:attr`.
    """
    from guerdon.look import component_card, show_component

    cards = component_card(name)
    if as_json:
        return print_json(cards)
    for card in cards:
        show_component(card)


@plugins.command("test")
@click.argument("name")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--tasks", type=click.Path(), help="JSONL rows to score: completion, answer, ..., perhaps expected.")
@JSON
def plugins_test(name: str, settings: tuple[str, ...], tasks: str | None, as_json: bool) -> int:
    """Does a component keep to its contract? Puts a reward through easy and hostile completions.

    NAME is as in `plugins show`; exit status 1 when a check fails.
    """
    from guerdon.conformance import run_tests

    found = run_tests(name, settings, tasks, quiet=as_json)
    if as_json:
        print_json([one.to_json() for one in found])
    return 0 if all(one.ok for one in found) else 1


@plugins.command("new")
@click.argument("kind", type=click.Choice(["reward", "agent"]))
@click.argument("name")
@click.option("--into", type=click.Path(), default=".", help="Where to make its folder.")
def plugins_new(kind: str, name: str, into: str) -> None:
    """Write a package with a reward (or an agent) of your own: code, tests, README and CI."""
    from pathlib import Path

    from guerdon.scaffold import write_package

    folder = write_package(kind, name, Path(into))
    click.echo(
        f"Wrote {folder}/. Next:\n  cd {folder}\n  pip install -e . pytest\n  pytest\n  guerdon plugins show {name}"
    )
