"""Everything that README.md and docs/ show is run.

In a document, a block whose first line is `# file: NAME` is written to a folder of its own; in a `console` block the
lines after `$ ` are run there, and what is shown below them must be what they print, with `...` for what may differ.
A block after the comment `<!-- not run: REASON -->` is left alone.
"""

import doctest
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(document: Path) -> list[tuple[str, str]]:
    found = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [(language, body) for skipped, language, body in found if not skipped]


def has_something_to_run(document: Path) -> bool:
    return any(language == "console" or body.startswith("# file: ") for language, body in blocks(document))


@pytest.mark.model
@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if has_something_to_run(d)], ids=lambda d: str(d.relative_to(ROOT))
)
def test_document_runs(document: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    for language, body in blocks(document):
        if body.startswith("# file: "):
            head, _, text = body.partition("\n")
            target = tmp_path / head.removeprefix("# file: ").strip()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        elif language == "console":
            for command, shown in commands(body):
                done = subprocess.run(
                    command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280
                )
                output = done.stdout + done.stderr
                expected_failure = "error:" in shown
                assert (done.returncode == 0) != expected_failure, f"$ {command}\n{output}"
                if shown.strip():
                    assert doctest.OutputChecker().check_output(shown, output, FLAGS), (
                        f"$ {command}\nshown:\n{shown}\ngot:\n{output}"
                    )


def commands(body: str) -> list[tuple[str, str]]:
    """Each command of a console block, with the output shown below it."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found:
            command, shown = found[-1]
            found[-1] = (command, f"{shown}{line}\n")
    return found


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_reference_is_what_the_code_says() -> None:
    spec = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: python docs/generate.py"
