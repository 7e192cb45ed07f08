"""`guerdon score FILE`: rows in, the same rows with scores out, whatever the rows and the rewards are like."""

import contextlib
import csv
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from command import finish, guerdon, processes_with, start, wait_until

REWARDS = """\
import os
import time


def moody(completion):
    if completion == "hang":
        time.sleep(600)
    if completion == "die":
        os._exit(3)
    if completion == "raise":
        raise ValueError("moody")
    return None if completion == "skip" else float(len(completion)), "so long"


def talk(messages):
    return float(len(messages)), "/".join(m["role"] for m in messages)


def lasts(completions, levels):
    return [len(c) + int(level) for c, level in zip(completions, levels)]


def trl(completions, answer, **kwargs):
    return [float(c[-1]["content"] == a) for c, a in zip(completions, answer)]


def asks(prompt, completion, *, extra: int = 0):
    return float(prompt == "1+1?") + extra


def stuck(completion):
    time.sleep(600)


def slow(completion):
    time.sleep(0.01)
    return 1.0
"""

PAIRS = ("--map", "completion=pred", "--map", "answer=gold")


def write(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def pairs(count: int) -> list[dict[str, Any]]:
    """Every third is wrong."""
    return [{"id": i, "pred": f"#### {i + (i % 3 == 0)}", "gold": str(i)} for i in range(count)]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scores(folder: Path, rows: Iterable[Mapping[str, Any] | str], *args: str, code: int = 0) -> list[Any]:
    """The output's rows; `./r.py` holds the rewards above."""
    (folder / "r.py").write_text(REWARDS)
    write(folder / "rows.jsonl", rows)
    guerdon(folder, "score", "rows.jsonl", *args, "--output", "scores.jsonl", "--overwrite", code=code)
    return lines(folder / "scores.jsonl")


def test_each_row_comes_out_with_its_scores(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", [*pairs(500), {"id": 500, "pred": "1", "gold": None}])
    args = ("score", "pairs.jsonl", "--reward", "numeric", *PAIRS, "--output", "scores.jsonl", "--workers", "2")
    ran = guerdon(tmp_path, *args)
    rows = lines(tmp_path / "scores.jsonl")
    assert [row["id"] for row in rows] == list(range(501)), "in order, and complete"
    assert [row["scores"]["numeric"] for row in rows[:500]] == [float(i % 3 != 0) for i in range(500)]
    assert rows[3] == {
        "id": 3,
        "pred": "#### 4",
        "gold": "3",
        "scores": {"numeric": 0.0},
        "reasons": {"numeric": "4 against 3"},
    }
    assert rows[500]["scores"] == {"numeric": None}
    assert ran.out.splitlines()[2].split() == ["numeric", "0.666", "0.472", "500", "1", "0"]
    assert "501 rows in " in ran.out and "The scores are in scores.jsonl" in ran.out


def test_the_summary_alone(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", [*pairs(30), "{"])
    found = guerdon(tmp_path, "score", "pairs.jsonl", "--reward", "numeric", *PAIRS, "--json").json
    assert (found["rows"], found["file"], found["output"]) == (31, "pairs.jsonl", None)
    assert found["rows_per_second"] > 0 and found["seconds"] > 0
    figures = found["rewards"]["numeric"]
    assert figures["mean"] == pytest.approx(2 / 3) and figures["count"] == 31
    assert figures["errors"]["not_json"]["count"] == 1 and figures["errors"]["not_json"]["first"] == "line 31"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.jsonl"]


def test_a_row_that_is_broken_costs_its_own_score_only(tmp_path: Path) -> None:
    broken = [
        ("{bad", "not_json", "rows.jsonl, line 3, column 2: not valid JSON: Expecting property name"),
        ("[1]", "not_an_object", "rows.jsonl, line 4: a row is an object of columns, not a list"),
        ("9" * 5000, "not_json", "rows.jsonl, line 5: not readable JSON: Exceeds the limit (4300 digits)"),
        ("[" * 100_000, "not_json", "rows.jsonl, line 6: not readable JSON: maximum recursion depth"),
        ('{"prd": "1", "gold": "1"}', "missing_column", "line 7: there is no column 'pred' for 'completion'. Did you"),
        ('{"pred": null, "gold": "1"}', "no_completion", "rows.jsonl, line 8: pred: null is no completion: write text"),
    ]
    good = {"pred": "1", "gold": "1"}
    found = scores(tmp_path, [good, "", *(text for text, _, _ in broken), good], "--reward", "numeric", *PAIRS)
    assert [row["scores"]["numeric"] for row in (found[0], found[-1])] == [1.0, 1.0]
    assert len(found) == 8, "a blank line is no row"
    for row, (text, kind, message) in zip(found[1:-1], broken, strict=True):
        error = row["scores"]["numeric"]
        assert error["kind"] == kind and message in error["error"]
        assert "prd" not in text or row["prd"] == "1"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"completion": "1", "answer": "1"}\n{"completion": "\xff"}\n')
    guerdon(tmp_path, "score", "rows.jsonl", "--reward", "numeric", "--output", "scores.jsonl")
    first, second = lines(tmp_path / "scores.jsonl")
    assert first["scores"] == {"numeric": 1.0} and "can't decode byte 0xff" in second["scores"]["numeric"]["error"]


def test_rewards_that_hang_die_and_raise(tmp_path: Path) -> None:
    rows = [{"completion": c, "answer": "1"} for c in ("1", "hang", "die", "skip", "raise", "1")]
    rewards = ("--reward", "numeric", "--reward", "./r.py:moody: {timeout: 0.5, weight: 2}")
    found = scores(tmp_path, rows, *rewards)
    assert [row["scores"]["numeric"] for row in found] == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0], "they keep their scores"
    moody = [row["scores"]["moody"] for row in found]
    assert (moody[0], moody[3], moody[5]) == (1.0, None, 1.0)
    assert [moody[i]["kind"] for i in (1, 2, 4)] == ["timeout", "died", "raised"]
    assert [row["reward"] for row in found] == [3.0, 0.0, 0.0, 0.0, 0.0, 3.0]
    assert found[0]["reasons"] == {"moody": "so long"}

    alone = scores(tmp_path, rows, *rewards[2:])
    assert [row["scores"]["moody"] for row in alone][3:] == moody[3:] and "reward" not in alone[0]
    assert alone[1]["scores"]["moody"]["kind"] == "timeout"


def test_rewards_that_are_slow_together_are_not_late(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import time\n\n"
        "def a(completion):\n    time.sleep(0.4)\n    return 1.0\n\n"
        "def b(completion):\n    time.sleep(0.4)\n    return 2.0\n"
    )
    rewards = [r for name in "ab" for r in ("--reward", f"./late.py:{name}: {{timeout: 0.7}}")]
    found = scores(tmp_path, [{"completion": "x"}] * 3, *rewards)
    assert [row["scores"] for row in found] == [{"a": 1.0, "b": 2.0}] * 3


def test_what_rewards_ask_for(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    rows = [
        {"messages": said, "answer": "2"},
        {"prompt": said[:1], "completion": said[1:], "answer": "2"},
        {"prompt": "1+1?", "completion": "2", "answer": "2"},
        {"prompt": "1+1?", "completion": 2, "answer": "so: #### 2"},
        {
            "prompt": "1+1?",
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": "2"}]}],
            "answer": "2",
        },
    ]
    rewards = [r for name in ("asks", "trl", "talk") for r in ("--reward", f"./r.py:{name}")]
    for row in scores(tmp_path, rows, "--reward", "numeric", *rewards):
        assert row["scores"] == {"numeric": 1.0, "asks": 1.0, "trl": 1.0, "talk": 2.0}
        assert row["reasons"] == {"talk": "user/assistant"}
    (none,) = scores(tmp_path, [{"messages": said[:1], "answer": "2"}], "--reward", "numeric", code=1)
    assert none["scores"]["numeric"]["kind"] == "no_completion"


def test_any_column_and_settings(tmp_path: Path) -> None:
    rows = [{"level": 3, "question": "1+1?", "completion": "abcd"}]
    batch, single = "./r.py:lasts", "./r.py:asks: {extra: 5, label: five}"
    (row,) = scores(tmp_path, rows, "--reward", batch, "--reward", single, "--map", "prompt=question")
    assert row["scores"] == {"lasts": 7.0, "five": 6.0} and row["reward"] == 13.0
    (row,) = scores(tmp_path, rows, "--reward", single, code=1)
    assert row["scores"]["five"]["error"] == (
        "rows.jsonl, line 1: there is no column 'prompt'. Known: completion, level, question. "
        "Name another: --map prompt=COLUMN"
    )


def test_the_rewards_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "r.py").write_text(REWARDS)
    recipe = (
        "model: x\ntasks: {path: t.jsonl}\nrewards: [./r.py:moody, {numeric: {weight: 2}}]\nscoring: {workers: 1}\n"
    )
    (tmp_path / "sub" / "recipe.yaml").write_text(recipe)
    write(tmp_path / "rows.jsonl", [{"completion": "7", "answer": "7"}])
    found = guerdon(tmp_path, "score", "rows.jsonl", "sub/recipe.yaml", "--json").json
    assert (found["workers"], found["reward"]) == (1, 3.0)
    found = guerdon(tmp_path, "score", "rows.jsonl", "sub/recipe.yaml", "rewards.numeric.weight=4", "--json").json
    assert found["reward"] == 5.0


def test_columns_of_the_input_are_kept_to_the_letter(tmp_path: Path) -> None:
    odd = '{ "big":12345678901234567890123, "e":1.50e3,"u":"\\ud800é", "completion":"1","answer":"1" }'
    scores(tmp_path, [odd], "--reward", "numeric")
    assert (tmp_path / "scores.jsonl").read_text() == odd[:-2] + ', "scores": {"numeric": 1.0}}\n'


def test_scoring_the_output_again_adds_to_it(tmp_path: Path) -> None:
    rows = scores(tmp_path, [{"completion": "2", "answer": "1"}], "--reward", "numeric")
    (again,) = scores(tmp_path, rows, "--reward", "./r.py:moody")
    assert again["scores"] == {"numeric": 0.0, "moody": 1.0}
    assert again["reasons"] == {"numeric": "2 against 1", "moody": "so long"}
    (third,) = scores(tmp_path, [{**again, "answer": "2"}], "--reward", "numeric")
    assert third["scores"] == {"numeric": 1.0, "moody": 1.0} and third["reasons"] == {"moody": "so long"}

    write(tmp_path / "own.jsonl", [{"completion": "2", "answer": "2", "scores": 3, "reward": 4}])
    args = ("--reward", "numeric", "--reward", "./r.py:moody", "--output", "own.out.jsonl")
    ran = guerdon(tmp_path, "score", "own.jsonl", *args)
    assert "warning: 1 row had a column 'scores'; the output has guerdon's in its place" in ran.out
    assert "warning: 1 row had a column 'reward'" in ran.out


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv", "rows.json", "rows.ndjson"])
def test_other_files(tmp_path: Path, name: str) -> None:
    rows, path = pairs(100), tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "pred", "gold"])
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        write(path, rows)
    guerdon(tmp_path, "score", name, "--reward", "numeric", *PAIRS, "--output", "scores.jsonl")
    found = lines(tmp_path / "scores.jsonl")
    assert [int(row["id"]) for row in found] == list(range(100))
    assert [row["scores"]["numeric"] for row in found] == [float(i % 3 != 0) for i in range(100)]


def test_through_a_pipe(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", pairs(50))
    command = [sys.executable, "-m", "guerdon", "score", "-", "--reward", "numeric", *PAIRS, "--output", "-"]
    with (tmp_path / "rows.jsonl").open() as rows:
        ran = subprocess.run(command, stdin=rows, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert [json.loads(line)["id"] for line in ran.stdout.splitlines()] == list(range(50))
    assert "50 rows in " in ran.stderr


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"{json.dumps(row)}\n" for row in pairs(20_000)).encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    args = ("--reward", "numeric", *PAIRS, "--output", "scores.jsonl")
    ran = guerdon(tmp_path, "score", "rows.jsonl.gz", *args, code=1)
    assert "error: rows.jsonl.gz: it cannot be read to its end: Compressed file ended before" in ran.err
    found = lines(tmp_path / "scores.jsonl")
    assert len(found) > 1000 and [row["id"] for row in found] == list(range(len(found))), "what could be read is scored"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rows.jsnl"], "there are no runs in runs/"),
        (["row.jsonl", "--reward", "numeric"], "there is no file row.jsonl. Did you mean 'rows.jsonl'?"),
        (
            ["rows.txt", "--reward", "numeric"],
            "tasks are read from .jsonl, .ndjson, .json, .csv, .parquet, not from .txt",
        ),
        (["empty.jsonl", "--reward", "numeric"], "empty.jsonl: there are no rows in it"),
        (["rows.jsonl"], "rows.jsonl: with which rewards? Give --reward (there are correctness, "),
        (["rows.jsonl", "--reward", "numerik"], "rewards[0]: there is no reward 'numerik'. Did you mean 'numeric'?"),
        (["rows.jsonl", "--reward", "numeric: {relativ: 1}"], "has no setting 'relativ'. Did you mean 'relative'?"),
        (["rows.jsonl", "--reward", "numeric: {"], "'--reward numeric: {': the value is not valid YAML"),
        (
            ["rows.jsonl", "--reward", "numeric", "--map", "completon=pred"],
            "asks for 'completon'. Did you mean 'completion'",
        ),
        (["rows.jsonl", "--reward", "numeric", "--map", "pred"], "--map pred: write it as NAME=COLUMN, e.g."),
        (["rows.jsonl", "--reward", "numeric", "--output", "rows.jsonl", "--overwrite"], "rows.jsonl is the input"),
        (["rows.jsonl", "--reward", "numeric", "--output", "x/y.jsonl"], "cannot write x/y.jsonl: No such file or dir"),
        (["rows.jsonl", "--reward", "numeric", "--output", "y.jsonl.gz"], "the output is JSONL as it is, uncompressed"),
        (
            ["last", "--map", "completion=pred"],
            "last: --map and --resume are for files, and there is none of this name",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, args: list[str], message: str) -> None:
    write(tmp_path / "rows.jsonl", [{"completion": "1", "answer": "1"}])
    (tmp_path / "rows.txt").write_text("x")
    (tmp_path / "empty.jsonl").write_text("\n")
    before = {p.name: p.read_text() for p in tmp_path.iterdir()}
    ran = guerdon(tmp_path, "score", *args, code=1)
    assert message in ran.err and ran.out == ""
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before, "nothing is made, nothing is lost"


def test_none_scored_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", pairs(5))
    ran = guerdon(tmp_path, "score", "rows.jsonl", "--reward", "numeric", code=1)
    assert "warning: no row could be scored" in ran.err
    assert "numeric: 5 errors (missing_column), the first at line 1: there is no column 'completion'" in ran.out
    write(tmp_path / "rows.jsonl", [{"completion": "1", "answer": None}])
    guerdon(tmp_path, "score", "rows.jsonl", "--reward", "numeric")  # not applicable is an answer


def test_an_output_that_exists_is_gone_on_with_or_replaced(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [*pairs(20), "{bad"])
    args = ("score", "rows.jsonl", "--reward", "numeric", *PAIRS, "--output", "scores.jsonl")
    output = tmp_path / "scores.jsonl"
    guerdon(tmp_path, *args, "--resume")  # there is nothing to go on with yet
    whole = output.read_text()
    assert "scores.jsonl exists: go on after its last row with --resume" in guerdon(tmp_path, *args, code=1).err
    assert output.read_text() == whole

    for end in (40, 100, len(whole) - 3, len(whole)):
        output.write_text(whole[:end])
        found = guerdon(tmp_path, *args, "--resume", "--json").json
        assert output.read_text() == whole
        assert found["rows"] == 21 and found["resumed_after"] == whole[:end].count("\n")
        figures = found["rewards"]["numeric"]
        assert figures["mean"] == pytest.approx(0.65) and figures["failed"] == 1, "the summary is of all rows"

    write(tmp_path / "rows.jsonl", pairs(3))
    assert "scores.jsonl has 21 rows, rows.jsonl has fewer" in guerdon(tmp_path, *args, "--resume", code=1).err
    write(tmp_path / "rows.jsonl", [{"pred": "x", "gold": "1"}] * 30)
    output.write_text("".join(whole.splitlines(keepends=True)[:9]))
    assert "its last row is not that of rows.jsonl, line 9" in guerdon(tmp_path, *args, "--resume", code=1).err
    other = ("score", "rows.jsonl", "--reward", "length", *PAIRS[:2], "--output", "scores.jsonl", "--resume")
    assert "scores.jsonl, line 1: no score of 'length'" in guerdon(tmp_path, *other, code=1).err
    assert len(lines(output)) == 9, "what is refused is left as it is"
    guerdon(tmp_path, *args, "--overwrite")
    assert len(lines(output)) == 30


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "r.py").write_text(REWARDS)
    write(tmp_path / "rows.jsonl", [{"completion": str(i)} for i in range(300)])
    args = ("score", "rows.jsonl", "--reward", "./r.py:slow", "--output", "scores.jsonl", "--workers", "2")
    output = tmp_path / "scores.jsonl"
    process = start(tmp_path, *args, GUERDON_MARK=str(tmp_path))
    wait_until(lambda: output.exists() and output.stat().st_size)
    process.send_signal(how)
    ran = finish(process, 130 if how == signal.SIGINT else -how)
    assert how == signal.SIGKILL or "go on with the same command and --resume" in ran.err
    wait_until(lambda: not processes_with("GUERDON_MARK", str(tmp_path)))
    written = output.read_text().count("\n")
    assert 0 < written < 300
    found = guerdon(tmp_path, *args, "--resume", "--json").json
    assert found["rows"] == 300 and found["resumed_after"] == written
    assert [row["completion"] for row in lines(output)] == [str(i) for i in range(300)]


def test_reading_ahead_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(REWARDS)
    row = json.dumps({"completion": "x" * 100_000}).encode() + b"\n"
    command = [sys.executable, "-m", "guerdon", "score", "-", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--reward", "./r.py:stuck: {timeout: 1000}"], cwd=tmp_path, stdin=subprocess.PIPE
    )
    written, last = 0, time.monotonic()

    def feed() -> None:
        nonlocal written, last
        assert process.stdin
        with contextlib.suppress(BrokenPipeError), process.stdin:
            while True:
                process.stdin.write(row)
                written, last = written + 1, time.monotonic()

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        wait_until(lambda: written > 20 and time.monotonic() - last > 1.5)
        assert written * len(row) < 20_000_000
    finally:
        process.kill()
        process.wait()
        feeder.join()
