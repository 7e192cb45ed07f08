"""The command `export`: a trained model as files for elsewhere."""

from typing import Any

import click

from guerdon.printing import print_json


@click.command()
@click.argument("target", metavar="RUN|FOLDER")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--format", "format_", default="lora", show_default=True, help="lora, merged_16bit, merged_4bit, gguf ..."
)
@click.option("--quantize", metavar="NAMES", help="Of gguf: which files to write, e.g. q4_k_m,q8_0.")
@click.option("--output", type=click.Path(), help="The folder to write; by default exports/NAME-FORMAT.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("--push", metavar="USER/NAME", help="Upload the result to the hub.")
@click.option("--private", is_flag=True, help="Make the pushed repository a private one.")
@click.option("--runs", default=None, help="The folder of runs, instead of runs/.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def export(target: str, settings: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Export what a run has trained, or the adapter or model in a folder.

    The result is loaded again by plain transformers, and its greedy answers compared with those of the trained model;
    one that differs beyond its format's bound is an error. Further settings of a format (see `guerdon plugins show
    exporter:gguf`) are given as KEY=VALUE.
    """
    from pathlib import Path

    from guerdon import export as exports
    from guerdon.conformance import given
    from guerdon.export_source import find_source
    from guerdon.plugins import Plugins
    from guerdon.registry import Registry
    from guerdon.report import Report

    chosen = given(settings)
    if options["quantize"]:
        chosen["quantize"] = [name.strip() for name in options["quantize"].split(",") if name.strip()]
    if options["private"] and not options["push"]:
        raise click.UsageError("--private is for --push")
    if options["push"]:
        exports.check_hub(options["push"])
    report = Report(quiet=as_json)
    done = exports.export(
        find_source(target, Path(options["runs"] or "runs")),
        options["format_"],
        chosen,
        output=Path(options["output"]) if options["output"] else None,
        overwrite=options["overwrite"],
        repository=options["push"] or "",
        registry=Registry(Plugins()),
        say=report.say,
    )
    summary = done.to_json()
    for row in done.check:
        report.say(f"  {row['file']}: {row['says']}")
    report.say(f"Exported to {done.output} ({sum(f['bytes'] for f in summary['files']) / 1e6:.0f} MB)")
    if options["push"]:
        summary["pushed"] = exports.push(done.output, options["push"], private=options["private"])
        report.say(f"Pushed to {summary['pushed']}")
    if as_json:
        print_json(summary)
