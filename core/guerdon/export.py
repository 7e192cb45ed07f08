"""Exports: a trained model as files for elsewhere, compared with the model that they were made from.

    the checkpoint that a run keeps, or a folder -> exporter -> check -> model card -> the output folder

The exporter and its check run in a process each (`guerdon.export_process`). All is written to a folder beside the
output, which gets its name when everything went well; what fails its check is kept as NAME.failed.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from guerdon.export_source import ExportError, Source
from guerdon.registry import Registry, load, require_extra
from guerdon.settings import validate
from guerdon.task import Message
from guerdon.worker import receive, send

F = TypeVar("F", bound=Callable[..., Any])

RENAMED = {
    "adapter": "lora",
    "merged": "merged_16bit",
    "16bit": "merged_16bit",
    "4bit": "merged_4bit",
    "merged_4bit_forced": "merged_4bit",
}
"""What formats are called elsewhere, and here."""

ELSEWHERE = {
    "merged_8bit": "there is no folder of 8-bit weights that is worth having: take gguf with --quantize q8_0, or "
    "merged_16bit, and load it with BitsAndBytesConfig(load_in_8bit=True)",
    **dict.fromkeys(
        ("fp8", "mxfp4", "nvfp4", "mxfp8"), "export merged_16bit, and quantise that with llm-compressor for your server"
    ),
}
"""Formats that there are elsewhere, and what to do here."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One call of an exporter, or of its check.

    `model` is a folder or a hub id, `adapter` a LoRA adapter on it or `None` for the model as it is. `output` is an
    empty folder to write to; for the check, the folder as the exporter left it. `name` is for file names. `prompts` are
    conversations, for the check. `hub` is the hub id of the base, where it has one. `say` puts one line on the user's
    screen.
    """

    model: str
    adapter: Path | None
    output: Path
    name: str
    prompts: tuple[list[Message], ...] = ()
    hub: str = ""
    say: Callable[[str], None] = lambda _: None


def exporter(*, check: str = "", library: str = "transformers", usage: str = "") -> Callable[[F], F]:
    """Note on an exporter's function what else there is to know of it.

    Args:
        check: "module:function", `(job, settings) -> rows`: loads what was exported and compares it with the model. A
            row is a mapping with at least `file`, `ok` and `says`.
        library: `library_name` of the model card.
        usage: How to load it, as Markdown for the model card; `{folder}` and `{base}` are replaced.
    """

    def note(function: F) -> F:
        for name, value in {"check": check, "library": library, "usage": usage}.items():
            setattr(function, name, value)
        return function

    return note


@dataclass(frozen=True)
class Exported:
    """What an export came to. `check` has a row for each file that was compared."""

    format: str
    output: Path
    check: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        files = sorted(p for p in self.output.rglob("*") if p.is_file())
        return {
            "ok": True,
            "format": self.format,
            "output": str(self.output),
            "files": [{"name": str(p.relative_to(self.output)), "bytes": p.stat().st_size} for p in files],
            "check": list(self.check),
            "notes": list(self.notes),
        }


def export(
    source: Source,
    format: str = "lora",  # noqa: A002  as on the command line
    settings: Mapping[str, Any] | None = None,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    repository: str = "",
    registry: Registry,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a model, compare the result with it, and write the model card, which names the `repository` it is for.

    Raises:
        ComponentError: there is no such format, or its settings are wrong.
        ExportError: it failed, or the result differs from the model beyond the format's bound.
    """
    from guerdon.card import write_card

    notes: list[str] = []
    format = _today(format, registry, notes)  # noqa: A001
    component = registry.find("exporters", format)
    require_extra(component)
    function = load(component)
    given = validate(f"exporter {format!r}", function, settings or {}, notes)
    for note in notes:
        say(f"note: {note}")
    target = (output or Path("exports") / f"{source.name}-{component.name}").expanduser().resolve()
    if target.exists() and not overwrite:
        raise ExportError(f"there is already {target}; choose another --output, or give --overwrite")
    log = target.with_name(f"{target.name}.log")
    with _partial(target, log) as partial:
        job = ExportJob(source.model, source.adapter, partial, source.short_name, hub=source.hub)
        _in_process(component, job, given, say=say, log=log)
        if not any(partial.iterdir()):
            raise ExportError(f"exporter {format!r} wrote nothing to its output folder")
        rows: tuple[Mapping[str, Any], ...] = ()
        if check := getattr(function, "check", ""):
            job = replace(job, prompts=source.prompts)
            rows = tuple(_in_process(check, job, given, say=say, log=log))
        write_card(partial, source, component.name, function, given, rows, repository)
        bad = [row for row in rows if not row["ok"]]
        if bad:
            failed = _replaced(partial, target.with_name(f"{target.name}.failed"))
            what = "\n".join(f"  {row['file']}: {row['says']}" for row in bad)
            raise ExportError(f"what was exported is not the trained model:\n{what}\nIt is kept in {failed}")
        log.unlink(missing_ok=True)
        return Exported(component.name, _replaced(partial, target), rows, tuple(notes))


def _today(name: str, registry: Registry, notes: list[str]) -> str:
    if name in {c.name for c in registry.of_kind("exporters")}:
        return name
    if name in ELSEWHERE:
        raise ExportError(f"there is no format {name!r}: {ELSEWHERE[name]}")
    if name in RENAMED:
        notes.append(f"the format {name!r} is called {RENAMED[name]!r} here")
    return RENAMED.get(name, name)


@contextlib.contextmanager
def _partial(target: Path, log: Path) -> Iterator[Path]:
    """An empty folder beside the target, that is gone afterwards; and the log too when the user has stopped it."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
    except OSError as error:
        raise ExportError(f"cannot write to {target}: {error}. Make room, or choose another --output") from error
    except KeyboardInterrupt:
        log.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replaced(partial: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return partial.rename(target)


# -- processes --------------------------------------------------------------------------------------------------------


def _in_process(
    what: Any, job: ExportJob, settings: Mapping[str, Any], *, say: Callable[[str], None], log: Path
) -> Any:
    """Call an exporter (a component) or a check ("module:function") in a process of its own.

    Raises:
        ExportError: it failed, or ended without a word; with the end of its log.
    """
    order = {f.name: getattr(job, f.name) for f in fields(job) if f.name != "say"}
    with log.open("ab") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "guerdon.export_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
            start_new_session=True,  # Ctrl-C is for this process, which then ends the other
        )
        assert process.stdin and process.stdout
        try:
            with contextlib.suppress(EOFError, BrokenPipeError):
                send(process.stdin, (what, order, dict(settings)))
                while True:
                    kind, message = receive(process.stdout)
                    if kind == "say":
                        say(message)
                    elif kind == "refused":
                        log.unlink()
                        raise ExportError(message)
                    elif kind == "error":
                        raise ExportError(f"{message}\n  its log: {log}")
                    else:
                        return message
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()
            process.stdout.close()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = " (out of memory is the usual cause)" if code == -signal.SIGKILL else ""
    raise ExportError(f"the process of the export {how}{hint}; the end of {log}:\n{_tail(log)}")


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(f"  | {line}" for line in path.read_text(errors="replace").splitlines()[-lines:])


# -- the hub ----------------------------------------------------------------------------------------------------------


def check_hub(repository: str) -> None:
    """Before the work begins: is this a name that a hub takes, and is someone logged in?

    Raises:
        ExportError: not so.
    """
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise ExportError("--push needs huggingface_hub: pip install 'guerdon[train]'") from None
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", repository):
        raise ExportError(f"--push {repository}: a repository is written user/name")
    if not get_token():
        raise ExportError("--push needs a token of the hub that may write: set HF_TOKEN, or run `hf auth login`")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to the hub as a model repository, made where there is none; its address.

    Raises:
        ExportError: the hub is not reached, or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(library_name="guerdon")
        made = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=made.repo_id, commit_message="Export by guerdon")
        return str(made)
    except Exception as error:  # whatever the client, the network or the hub makes of it
        raise ExportError(
            f"pushing to {repository} failed: {type(error).__name__}: {error}\n"
            f"The files are kept; push them again with: hf upload {repository} {folder}",
            kind="hub",
        ) from error


__all__: Sequence[str] = ["ExportError", "ExportJob", "Exported", "check_hub", "export", "exporter", "push"]
