"""Tasks from files, functions and data sets; columns; order; the held-out split."""

import json
from pathlib import Path
from typing import Any

import pytest

from guerdon.errors import TaskError
from guerdon.recipe import Eval, Tasks
from guerdon.task import Task
from guerdon.tasks import TaskSet, hold_out, read_tasks, reference

ROWS = [{"question": f"What is {i} + 1?", "answer": str(i + 1), "level": i} for i in range(10)]


def read(folder: Path, seed: int = 0, **spec: Any) -> TaskSet:
    return read_tasks(Tasks(**spec), folder=folder, seed=seed)


def write(folder: Path, name: str) -> None:
    if name.endswith((".jsonl", ".ndjson", ".JSONL")):
        text = "\n\n".join(json.dumps(row) for row in ROWS)
    elif name.endswith(".json"):
        text = json.dumps(ROWS, indent=1)
    else:
        text = "question,answer,level\r\n" + "".join(f'"{r["question"]}",{r["answer"]},{r["level"]}\r\n' for r in ROWS)
    (folder / name).write_text("\ufeff" + text if name.startswith("bom") else text, encoding="utf-8", newline="")


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "T.JSONL", "t.json", "t.csv", "bom.jsonl", "bom.csv"])
def test_files(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    found = read(tmp_path, path=name)
    assert found.columns == {"prompt": "question", "answer": "answer"}
    assert [(t.id, t.prompt, t.answer) for t in found.tasks] == [
        (str(i), f"What is {i} + 1?", str(i + 1)) for i in range(10)
    ]
    assert str(found.tasks[3].fields["level"]) == "3"


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    found = read(tmp_path, path="t.parquet")
    assert found.tasks[3] == Task("3", "What is 3 + 1?", "4", ROWS[3])


def test_a_python_function(tmp_path: Path) -> None:
    spec = Tasks(source="./s.py:rows")  # type: ignore[arg-type]  # as a recipe writes it
    found = read_tasks(spec, folder=tmp_path, seed=0, source=lambda: iter(ROWS))
    assert len(found.tasks) == 10
    with pytest.raises(TaskError, match=r"\./s\.py:rows, row 0: a task is a mapping of columns to values, not a str"):
        read_tasks(spec, folder=tmp_path, seed=0, source=lambda: ["x"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"question": "q", "answer": "Half of 84 is <<84/2=42>>42.\n#### 42"}, "q", "42"),  # GSM8K
        ({"input": "q", "code": "def solution(): ...", "target": 42.0}, "q", 42.0),  # GSM-hard
        ({"problem": "q", "solution": "...", "answer": "\\frac12"}, "q", "\\frac12"),
        (
            {"messages": [{"role": "user", "content": "q"}], "ground_truth": None},
            [{"role": "user", "content": "q"}],
            None,
        ),
        ({"prompt": "q"}, "q", None),
    ],
)
def test_the_usual_columns_are_found(tmp_path: Path, row: dict[str, Any], prompt: Any, answer: Any) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    (task,) = read(tmp_path, path="t.jsonl").tasks
    assert (task.prompt, task.answer, task.fields) == (prompt, answer, row)


def test_columns_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"key": 7, "q": "What?", "gold": "That", "question": "no"}')
    (task,) = read(tmp_path, path="t.jsonl", fields={"prompt": "q", "answer": "gold", "id": "key"}).tasks
    assert (task.id, task.prompt, task.answer) == ("7", "What?", "That")


def test_null_is_no_id_and_no_answer(tmp_path: Path) -> None:
    rows = ({"id": i, "prompt": "q", "answer": a} for i, a in ((None, None), ("b", "2"), (None, 3)))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [(t.id, t.answer) for t in read(tmp_path, path="t.jsonl").tasks] == [("0", None), ("b", "2"), ("2", 3)]


def test_a_conversation_is_a_prompt_up_to_where_the_model_is_to_go_on(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    said = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]
    for length, whole in ((1, True), (2, True), (3, False), (4, True)):
        (tmp_path / "t.jsonl").write_text(json.dumps({"prompt": said[:length]}))
        if whole:
            assert read(tmp_path, path="t.jsonl").tasks[0].prompt == said[:length]
        else:
            with pytest.raises(TaskError, match="ends with a message of the assistant"):
                read(tmp_path, path="t.jsonl")


def test_references() -> None:
    assert reference("a #### b\n#### 1,000 ") == "1,000"
    assert reference("42") == "42"
    assert reference(["####"]) == ["####"]


def test_limit_takes_the_first_and_reads_no_further(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\nnot JSON\n')
    assert [t.prompt for t in read(tmp_path, path="t.jsonl", limit=2).tasks] == ["a", "b"]
    with pytest.raises(TaskError, match="line 3"):
        read(tmp_path, path="t.jsonl", limit=2, shuffle=True)


def test_shuffling_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    write(tmp_path, "t.jsonl")

    def order(seed: int = 0, **spec: Any) -> list[str]:
        return [t.id for t in read(tmp_path, seed, path="t.jsonl", **spec).tasks]

    plain = [str(i) for i in range(10)]
    assert order(shuffle=True) == order(shuffle=True) != plain
    assert sorted(order(shuffle=True)) == plain
    assert order(0, shuffle=True) != order(1, shuffle=True)
    assert order(0, shuffle=5) == order(1, shuffle=5) == order(5, shuffle=True)
    assert order(shuffle=True, limit=3) == order(shuffle=True)[:3]
    assert order(shuffle=False) == plain
    assert order(3, shuffle=0) == order(0, shuffle=True), "0 is a seed, not false"


@pytest.mark.parametrize(("holdout", "count"), [(1, 1), (3, 3), (0.25, 2), (0.01, 1), (0.5, 5)])
def test_the_held_out_tasks_are_apart(tmp_path: Path, holdout: float, count: int) -> None:
    write(tmp_path, "t.jsonl")
    tasks = read(tmp_path, path="t.jsonl").tasks
    train, held = hold_out(tasks, Eval(holdout=holdout), seed=0)
    assert len(held) == count and len(train) == 10 - count
    assert {t.id for t in train} | {t.id for t in held} == {t.id for t in tasks}
    assert (train, held) == hold_out(tasks, Eval(holdout=holdout), seed=0)


def test_the_split_follows_the_seed(tmp_path: Path) -> None:
    write(tmp_path, "t.jsonl")
    tasks = read(tmp_path, path="t.jsonl").tasks
    assert len({tuple(t.id for t in hold_out(tasks, Eval(holdout=3), seed)[1]) for seed in range(5)}) > 1


def test_agents_see_only_what_is_exposed() -> None:
    task = Task("1", "q", "a", {"q": "q", "answer": "a", "hint": "h"})
    assert task.for_agent() == Task("1", "q", None, {})
    assert task.for_agent(["hint", "no"]) == Task("1", "q", None, {"hint": "h"})


def test_texts_and_messages() -> None:
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "x"}]
    assert Task("1", said).text == "u" and Task("1", said).messages == said
    assert Task("1", [said[0]]).text == ""
    assert Task("1", "u").messages == [{"role": "user", "content": "u"}]
