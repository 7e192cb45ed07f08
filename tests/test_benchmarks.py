"""The benchmarks' harness (`tests/benchmarks/rewards.py`) on a few made-up rows, so that it cannot rot."""

import gzip
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
PAIRS: list[dict[str, Any]] = [
    {"gold": "42", "pred": r"So \boxed{42}.", "expected": True, "form": "boxed", "kind": "integer"},
    {"gold": "42", "pred": r"So \boxed{41}.", "expected": False, "form": "boxed", "kind": "integer"},
    {"gold": r"\frac{1}{2}", "pred": "0.5", "expected": True, "kind": "fraction"},
    {"gold": "5", "pred": "2 + 3\n#### 5", "expected": True, "form": "hash", "pred_bare": "5", "kind": "integer"},
    {"gold": r"\frac{3}{4}", "pred": r"\frac{4}{3}", "expected": True, "kind": "fraction"},  # a wrong label
]
HOSTILE = [
    {"id": "tower", "group": "bomb", "gold": "1", "pred": r"\boxed{9^{9^{9^{9}}}}", "want": False},
    {"id": "plain", "group": "hack", "gold": "42", "pred": r"\boxed{42}", "want": True},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"id": f"made/{i}", "source": "made", "split": "core", "doubtful": None, **p} for i, p in enumerate(PAIRS)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(tmp_path / "hostile.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in HOSTILE)
    return tmp_path


def script(name: str, *args: object) -> str:
    command = [sys.executable, BENCHMARKS / name, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def line(output: str, start: str) -> list[str]:
    return next(text for text in output.splitlines() if text.startswith(start)).removeprefix(start).split()


@pytest.mark.skipif(find_spec("math_verify") is None, reason="needs math-verify")
def test_accuracy_counts_and_keeps_what_the_peer_said(folder: Path) -> None:
    options = ("accuracy", "--cache", folder / "cache.jsonl", "--failures", folder / "failures.jsonl")
    output = script("rewards.py", folder, *options)
    for grader in ("guerdon", "math-verify"):
        assert line(output, f"clean core: {grader}")[:3] == ["5", "4", "80.00%"]
    (failure,) = [json.loads(text) for text in (folder / "failures.jsonl").read_text().splitlines()]
    assert (failure["id"], failure["score"], failure["math_verify"]) == ("made/4", 0.0, False)
    assert "asking math-verify about 5 pairs" in output
    assert "asking math-verify" not in script("rewards.py", folder, *options)


def test_hostile_inputs_and_batches_with_them(folder: Path) -> None:
    output = script("rewards.py", folder, "hostile", "batches", "--count", 5)
    for way in ("workers", "plain function"):
        fine, errors, wrong = line(output, way)[:3]
        assert int(fine) + int(errors) == 2
        assert wrong == "0"
    assert "files written: none" in output
    assert "results lost 0, scores of other items changed 0, processes left 0" in output


def test_fuzzer_and_memory(folder: Path) -> None:
    output = script("rewards.py", folder, "fuzz", "memory", "--minutes", 0.02, "--count", 100)
    assert "pairs in 0.02 minutes, seed 0" in output
    megabytes, _ = line(output, "100 ")
    assert float(megabytes) > 1


def test_gsm8k_rows_are_labelled_and_mistakes_are_told(tmp_path: Path) -> None:
    problem = {"question": "?", "answer": "She has 3*400=<<3*400=1200>>1200 and 34 more.\n#### 1,234"}
    (tmp_path / "gsm8k.jsonl").write_text(json.dumps(problem) + "\n")
    script("gsm8k.py", "make", tmp_path / "gsm8k.jsonl", tmp_path / "pairs.jsonl")
    rows = [json.loads(text) for text in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [row["expected"] for row in rows] == [True, False] * 4
    assert len({row["format"] for row in rows}) == 4
    assert all("<<" not in row["completion"] and row["answer"] == "1,234" for row in rows)
    for row in rows:
        row["scores"] = {"equivalence": 1.0}
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = script("gsm8k.py", "check", tmp_path / "scores.jsonl")
    assert line(output, "boxed") == ["2", "50.00%", "1", "0", "0"]
    assert "wrongly accepted: " in output


def test_an_unknown_table_is_named(folder: Path) -> None:
    command = [sys.executable, BENCHMARKS / "rewards.py", folder, "accuracyy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no table accuracyy; there are accuracy, " in done.stderr
