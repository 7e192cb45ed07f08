"""The command `report`: a run as one HTML file."""

import click


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--output", type=click.Path(dir_okay=False), metavar="FILE.html", help="Instead of report.html in the run."
)
@click.option("--open", "show", is_flag=True, help="Open it in a browser.")
@click.option("--runs", default=None, help="The folder of runs, instead of runs/.")
def report(run_name: str, output: str | None, show: bool, runs: str | None) -> None:
    """Write a run as one HTML file, to be read without a network.

    Its curves, alarms, before and after, lengths, failures, and rollouts as conversations. Of a run that is still going
    or was stopped, what there is. RUN is an id, a part of one, a folder, or `last`.
    """
    import os
    from pathlib import Path

    from guerdon.errors import StoreError
    from guerdon.html.page import page
    from guerdon.store import Run, find_run

    run = Run(find_run(Path(runs or "runs"), run_name))
    try:
        text = page(run)
        target = Path(output) if output else run.folder / "report.html"
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(target)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error.strerror}. Choose another file with --output") from None
    finally:
        run.close()
    click.echo(str(target))
    if show:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())
