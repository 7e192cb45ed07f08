"""Rows of data: formats, what is wrong with them, mixtures, the split, and how they look to a model."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from guerdon.data import DataSet, read_data, write_data
from guerdon.errors import TaskError
from guerdon.recipe import Data

CALL = {"name": "add", "arguments": {"a": 1}}
OPENAI_CALL = {"type": "function", "function": CALL}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def read(folder: Path, spec: Any, seed: int = 0, first: int | None = None) -> DataSet:
    return read_data(Data.model_validate(spec), folder=folder, seed=seed, first=first)


def write(file: Path, *rows: Any) -> Path:
    text = json.dumps(list(rows)) if file.suffix == ".json" else "".join(f"{json.dumps(row)}\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def pairs(file: Path, count: int, word: str = "q") -> Path:
    return write(file, *({"prompt": f"{word}{i}", "response": f"a{i}"} for i in range(count)))


def asked(rows: Any) -> list[str]:
    return [row["messages"][0]["content"] for row in rows]


def chat(*texts: str, system: str = "") -> list[dict[str, Any]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns] if system else turns


@pytest.mark.parametrize(
    ("row", "made", "name"),
    [
        ({"prompt": "q", "response": "a"}, {"messages": chat("q", "a")}, "prompt and response (prompt, response)"),
        (
            {"prompt": chat("q", "a", "r", system="s"), "response": "b"},
            {"messages": chat("q", "a", "r", "b", system="s"), "learn": [4]},
            "prompt and response",
        ),
        (
            {"instruction": "do", "input": "", "output": 7},
            {"messages": chat("do", "7")},
            "Alpaca (instruction, output)",
        ),
        (
            {"instruction": "do", "input": "it", "output": "ok", "system": "s", "history": [["hi", "ho"]], "text": "?"},
            {"messages": chat("hi", "ho", "do\nit", "ok", system="s")},
            "Alpaca (instruction, input, output, system, history); not used: text",
        ),
        ({"messages": chat("q", "a"), "prompt": "q"}, {"messages": chat("q", "a")}, "messages; not used: prompt"),
        ({"messages": json.dumps(chat("q", "a"))}, {"messages": chat("q", "a")}, "messages"),
        ({"conversations": chat("q", "a")}, {"messages": chat("q", "a")}, "conversations"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "q", "weight": None},
                    {"from": "function_call", "value": json.dumps(CALL)},
                    {"from": "observation", "value": "2"},
                    {"from": "gpt", "value": "a"},
                ],
                "tools": json.dumps([TOOL["function"]]),
                "system": "s",
            },
            {
                "messages": [
                    *chat("q", system="s"),
                    {"role": "assistant", "content": "", "tool_calls": [OPENAI_CALL]},
                    {"role": "tool", "content": "2"},
                    {"role": "assistant", "content": "a"},
                ],
                "tools": [TOOL],
            },
            "conversations (conversations, tools, system)",
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": "s"},
                    {"role": "user", "content": [{"type": "text", "text": "q"}]},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "x", **OPENAI_CALL}]},
                    {"role": "tool", "content": "2", "tool_call_id": "x", "name": None},
                    {"role": "assistant", "content": "a", "weight": 0},
                ],
                "tools": [TOOL],
            },
            {
                "messages": [
                    *chat("q", system="s"),
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "x", **OPENAI_CALL}]},
                    {"role": "tool", "content": "2", "tool_call_id": "x"},
                    {"role": "assistant", "content": "a"},
                ],
                "tools": [TOOL],
                "learn": [2],
            },
            "messages (messages, tools)",
        ),
        ({"prompt": "q", "completion": " a"}, {"prompt": "q", "completion": " a"}, "prompt and completion, plain text"),
        (
            {"prompt": chat("q", "a", "r"), "completion": chat("q", "b")[1:]},
            {"messages": chat("q", "a", "r", "b"), "learn": [3]},
            "prompt and completion, messages",
        ),
        *(
            (
                {"prompt": chat("q"), response: [{**chat("q", "a")[1], off: value}, *chat("r", "b")]},
                {"messages": chat("q", "a", "r", "b"), "learn": [3]},
                "prompt and ",
            )
            for response, off, value in (("completion", "weight", 0), ("response", "weight", False))
        ),
        (
            {"messages": [*chat("q"), *({"role": "assistant", "content": c, "train": c == "b"} for c in "ab")]},
            {"messages": [*chat("q"), *({"role": "assistant", "content": c} for c in "ab")], "learn": [2]},
            "messages",
        ),
        (
            {"messages": [*chat("q"), {"role": "assistant", "content": "a", "thinking": "so", "weight": 1.0}]},
            {
                "messages": [
                    *chat("q"),
                    {"role": "assistant", "content": "a", "reasoning_content": "so", "thinking": "so"},
                ]
            },
            "messages",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q", "thinking": True, "date": None},
                    {"role": "assistant", "content": "a", "reasoning": "so", "refusal": "no"},
                ],
                "url": "u",
            },
            {"messages": [*chat("q"), {"role": "assistant", "content": "a", "reasoning_content": "so"}]},
            "messages; not used: messages.thinking, messages.refusal, url",
        ),
        (
            {"messages": chat("q", "a", system="s"), "system": "t"},
            {"messages": chat("q", "a", system="s")},
            "messages; not used: system",
        ),
        ({"text": "t", "url": "u", "messages": None}, {"text": "t"}, "text; not used: url, messages"),
        ({"input_ids": [1, 2], "labels": [-100, 2]}, {"input_ids": [1, 2], "labels": [-100, 2]}, "token ids"),
        ({"input_ids": [1, 2]}, {"input_ids": [1, 2], "labels": [1, 2]}, "token ids"),
        (
            {"input_ids": [1, 2, 0], "completion_mask": [0, 1, 0], "attention_mask": [1, 1, 0]},
            {"input_ids": [1, 2], "labels": [-100, 2]},
            "token ids",
        ),
    ],
)
def test_formats(tmp_path: Path, row: dict[str, Any], made: dict[str, Any], name: str) -> None:
    write(tmp_path / "r.jsonl", row)
    found = read(tmp_path, "r.jsonl")
    assert list(found.rows) == [made]
    assert found.notes[0].startswith(f"r.jsonl: 1 row: {name}")


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"prompt": "problem", "response": "generated_solution"}, {"messages": chat("p", "g")}),
        ({"prompt": "problem", "completion": "completion"}, {"messages": chat("p", "c")}),
        ({"response": "completion"}, {"messages": chat("q", "c")}),
        ({"text": "problem"}, {"text": "p"}),
        ({"messages": "chosen"}, {"messages": chat("m", "n")}),
        ({"system": "completion", "messages": "chosen"}, {"messages": chat("m", "n", system="c")}),
    ],
)
def test_columns_are_mapped(tmp_path: Path, fields: dict[str, str], made: dict[str, Any]) -> None:
    row = {"problem": "p", "generated_solution": "g", "prompt": "q", "completion": "c", "chosen": chat("m", "n")}
    write(tmp_path / "r.jsonl", row)
    assert list(read(tmp_path, {"path": "r.jsonl", "fields": fields}).rows) == [made]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "answer": "a"}, r"Say which is what: fields: \{prompt: question, response: answer\}"),
        ({"chosen": chat("q", "a"), "rejected": []}, r"fields: \{messages: chosen\}"),
        ({"prompt": "q", "response": None}, "response is null, not text; mend the row or leave it out"),
        ({"prompt": "q", "response": float("nan")}, "response is nan, not text; mend the row or leave it out"),
        ({"prompt": "q", "completion": float("-inf")}, "completion is -inf, not text"),
        ({"messages": [*chat("q"), {"role": "assistant", "content": float("nan")}]}, "content is nan, not text"),
        ({"instruction": "q", "output": ["a"]}, "output is a list, not text"),
        *(
            ({"instruction": "q", "output": "a", "history": history}, r"history is not a list of pairs \[asked, answer")
            for history in ([["a"]], ["ab"], "abc", float("nan"))
        ),
        ({"messages": []}, "messages is an empty list, not a list of messages"),
        ({"messages": "[{"}, "messages is text that is not valid JSON"),
        ({"messages": chat("q")}, "messages has no message of the assistant: there is nothing to learn from"),
        ({"messages": [{"role": "usr", "content": "q"}]}, r"messages\[0\] has the role 'usr'.* Did you mean 'user'"),
        (
            {"messages": [{"role": ["user"], "content": "q"}]},
            r"has the role \['user'\], which is not known",
        ),
        *(
            ({column: [*chat("q"), {**chat("q", "a")[1], "weight": weight}], "prompt": chat("q")}, message)
            for column, weight, message in (
                ("messages", 0.5, r"messages\[1\] has the weight 0.5: a message is learnt \(1\) or not \(0\)"),
                ("completion", "0", r"completion\[1\] has the weight '0'"),
                ("response", 0, "response has no message of the assistant whose weight is not 0"),
            )
        ),
        ({"messages": [*chat("q"), {"role": "assistant", "content": "a", "thinking": ["so"]}]}, "thinking is a list"),
        ({"messages": [*chat("q"), {"role": "assistant", "content": "a", "tool_calls": 5}]}, "tool_calls is a int"),
        ({"messages": [{"content": "q"}]}, r"messages\[0\] has no role; it has content"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\] \(user\) has no content \(null\)"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, r"a part that is no text \(image\)"),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "begins with the assistant, not with the user"),
        ({"messages": [*chat("q"), {"role": "tool", "content": "2"}, *chat("q", "a")]}, "message 2 is a tool's result"),
        (
            {"messages": [*chat("q"), {"role": "assistant", "tool_calls": [{"function": {}}]}]},
            r"messages\[1\]\.tool_calls\[0\] is not a tool call",
        ),
        ({"messages": chat("q", "a"), "tools": [{"function": {}}]}, r"tools\[0\] has no name"),
        ({"input_ids": [1, 2], "labels": [1]}, "it has 2 input_ids but 1 labels"),
        ({"input_ids": "12"}, "input_ids is not a list of whole numbers"),
        ({"input_ids": [1, -2]}, "input_ids holds -2, which is no token id"),
        ({"input_ids": [1, 2], "labels": [-100, -5]}, "labels holds -5; what is not learnt has -100"),
        ([1], "a row is a mapping of columns to values, not a list"),
    ],
)
def test_a_broken_row_is_named_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    write(tmp_path / "r.jsonl", {"prompt": "q", "response": "a"}, row)
    with pytest.raises(TaskError, match=rf"r\.jsonl, line 2: .*{message}"):
        read(tmp_path, "r.jsonl")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"path": "r.jsonl", "fields": {"promt": "x"}}, "'promt' is not one of .* Did you mean 'prompt'"),
        ({"path": "r.jsonl", "fields": {"prompt": "promt"}}, "no column 'promt'.* Did you mean 'prompt'"),
        ({"path": "s.jsonl"}, "there is no file .* Did you mean 'r.jsonl'"),
        ({"path": "*.parquet"}, r"no file fits '\*\.parquet'"),
        ({"path": "empty.json"}, "empty.json: there are no rows in it"),
        ({"path": "lines.json"}, r"lines.json, line 2, .* one object a line, name it lines.jsonl"),
        ({"path": ["r.jsonl", "empty.json", "./r.jsonl"]}, "'./r.jsonl' is named twice"),
        ({"path": "twice.csv"}, "twice.csv, line 1: the header has the column 'prompt' twice"),
        ({"path": "r.jsonl", "validation": 4}, "keeps back 4 of 4 rows: none is left"),
        ({"path": "r.jsonl", "validation": 1.5}, "a number of rows, or a fraction below 1, not 1.5"),
    ],
)
def test_a_broken_source_is_named(tmp_path: Path, spec: dict[str, Any], message: str) -> None:
    pairs(tmp_path / "r.jsonl", 4)
    write(tmp_path / "empty.json")
    (tmp_path / "lines.json").write_text('{"prompt": "q"}\n' * 2)
    (tmp_path / "twice.csv").write_text("prompt,response,prompt\na,b,c\n")
    with pytest.raises(TaskError, match=message):
        read(tmp_path, spec)


def test_files_of_every_kind_by_list_and_pattern(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import Table

    pairs(tmp_path / "a.jsonl", 2, "l")
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": [{"prompt": "j", "response": "a"}]}))
    (tmp_path / "c.csv").write_text('prompt,response\n"c, d",a\n')
    # Arrow gives all objects of a column the same keys
    calls = [{"function": {"name": n, "arguments": {n: 1}}} for n in "ab"]
    talk = [{"role": "assistant", "tool_calls": [call]} for call in calls]
    parquet.write_table(
        Table.from_pylist([{"messages": [*chat("p"), *talk], "text": None}, {"messages": None, "text": "t"}]),
        tmp_path / "d.parquet",
    )
    found = read(tmp_path, {"path": ["[abc].*", "d.parquet", "a.jsonl"]})
    assert asked(found.rows[:5]) == ["l0", "l1", "j", "c, d", "p"]
    made = [m["tool_calls"][0]["function"]["arguments"] for m in found.rows[4]["messages"][1:]]
    assert made == [{"a": 1}, {"b": 1}]
    assert found.rows[5] == {"text": "t"}
    assert found.notes == [
        "[abc].*, d.parquet, a.jsonl: 6 rows: 4 prompt and response (prompt, response) and 1 messages and 1 text"
    ]


def test_what_some_rows_do_not_use_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl", *({"messages": chat("q", "a", system=s), "system": "t"} for s in ("", "s", "s")))
    found = read(tmp_path, "r.jsonl")
    assert [row["messages"][0]["content"] for row in found.rows] == ["t", "s", "s"]
    assert found.notes == ["r.jsonl: 3 rows: messages (messages, system); not used: system in 2 rows"]


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(f"prompt,response\nq,{'a' * 200_000}\n")
    assert len(read(tmp_path, "r.csv").rows[0]["messages"][1]["content"]) == 200_000


def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    found = read(tmp_path, str(pairs(tmp_path / "a.jsonl", 5)))
    assert write_data(found.rows, tmp_path / "out.jsonl") == 5
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == list(found.rows)
    assert write_data([{"text": "\ud800"}], tmp_path / "out.jsonl") == 1


def test_mixtures_have_exact_shares(tmp_path: Path) -> None:
    pairs(tmp_path / "reasoning.jsonl", 1000, "r")
    pairs(tmp_path / "chat.jsonl", 5000, "c")
    parts = [{"path": "reasoning.jsonl", "weight": 0.75}, {"path": "chat.jsonl", "weight": 0.25}]

    def kinds(found: DataSet) -> Counter[str]:
        return Counter(text[0] for text in asked(found.rows))

    found = read(tmp_path, {"mix": parts, "system": "s"})
    assert found.rows[0]["messages"][0] == {"role": "system", "content": "s"}
    found = read(tmp_path, {"mix": parts})
    assert kinds(found) == {"r": 999, "c": 333}
    assert found.counts == {"reasoning.jsonl": 999, "chat.jsonl": 333}
    assert found.notes[-1] == "mixture: 1332 rows: 999 of reasoning.jsonl (75.0%), 333 of chat.jsonl (25.0%)"
    assert len(set(asked(found.rows))) == 1332
    assert len(Counter(text[0] for text in asked(found.rows[:20]))) == 2, "mixed, not one after the other"
    assert list(read(tmp_path, {"mix": parts}).rows) == list(found.rows)
    assert set(asked(read(tmp_path, {"mix": parts}, seed=1).rows)) != set(asked(found.rows))

    assert kinds(read(tmp_path, {"mix": parts, "limit": 100})) == {"r": 75, "c": 25}
    parts[1]["limit"] = 10
    assert kinds(read(tmp_path, {"mix": parts})) == {"r": 30, "c": 10}
    parts[1]["weight"] = 1e-9
    assert kinds(read(tmp_path, {"mix": parts})) == {"r": 1000}


def test_order_limit_and_split_follow_the_seed(tmp_path: Path) -> None:
    pairs(tmp_path / "a.jsonl", 20)
    plain = [f"q{i}" for i in range(20)]

    def order(seed: int = 0, **spec: Any) -> list[str]:
        return asked(read(tmp_path, {"path": "a.jsonl", **spec}, seed).rows)

    assert order() == plain and order(limit=3) == plain[:3]
    assert order(shuffle=True) == order(shuffle=True) != plain
    assert sorted(order(shuffle=True)) == sorted(plain)
    assert order(0, shuffle=True) != order(1, shuffle=True)
    assert order(0, shuffle=5) == order(1, shuffle=5) == order(5, shuffle=True)
    assert order(shuffle=True, limit=3) == order(shuffle=True)[:3]

    for wanted, count in ((4, 4), (0.25, 5), (0.001, 1)):
        found = read(tmp_path, {"path": "a.jsonl", "validation": wanted})
        assert found.validation is not None and len(found.validation) == count
        assert sorted(asked(found.rows) + asked(found.validation)) == sorted(plain)
        assert found.notes[1:] == [
            f"validation: {count} row{'s' * (count > 1)} held back, {20 - count} left to train on"
        ]


def test_rows_that_are_trained_and_validated_on_are_noted(tmp_path: Path) -> None:
    pairs(tmp_path / "a.jsonl", 10)
    write(
        tmp_path / "v.jsonl",
        {"ask": "q3", "say": "a3"},
        {"ask": "q4", "say": "other"},
        {"ask": "new", "say": "x"},
    )
    own = {"path": "v.jsonl", "fields": {"prompt": "ask", "response": "say"}}
    found = read(tmp_path, {"path": "a.jsonl", "validation": own})
    assert found.validation is not None and asked(found.validation) == ["q3", "q4", "new"]
    assert found.notes[-1] == "1 of the 3 validation rows is trained on, and of 1 more the prompt"


def test_only_the_first_rows_are_read_where_that_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("datasets").config
    with pairs(tmp_path / "a.jsonl", 5).open("a") as file:
        file.write("not JSON\n")
    assert asked(read(tmp_path, {"path": "a.jsonl", "shuffle": True, "validation": 2}, first=2).rows) == ["q0", "q1"]
    pairs(tmp_path / "b.jsonl", 4)
    few = {"path": "b.jsonl", "shuffle": True, "validation": 1}
    assert list(read(tmp_path, few, first=5).rows) == list(read(tmp_path, few).rows), "all of it was read"
    few = {"path": "b.jsonl", "shuffle": True, "limit": 2}
    found = read(tmp_path, few, first=5)
    assert list(found.rows) == list(read(tmp_path, few).rows) and asked(found.rows) != ["q0", "q1"]
    assert found.notes == ["b.jsonl: 4 rows, 2 taken: prompt and response (prompt, response)"]
    found = read(tmp_path, few, first=3)
    assert asked(found.rows) == ["q0", "q1"]
    assert found.notes[1:] == ["b.jsonl: a run takes its 2 rows from all there are, shuffled"]
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    hub = {"dataset": "guerdon/none-such", "weight": 1}
    found = read(tmp_path, {"mix": [{"path": "a.jsonl", "weight": 3}, hub]}, first=2)
    assert asked(found.rows) == ["q0", "q1"]
    assert found.notes == [
        "a.jsonl: the first 2 rows: prompt and response (prompt, response)",
        "guerdon/none-such: not looked at, for the hub cannot be reached",
        "mixture: 75.0% a.jsonl, 25.0% guerdon/none-such",
    ]
    with pytest.raises(TaskError, match="data set 'guerdon/none-such' cannot be loaded"):
        read(tmp_path, {"dataset": "guerdon/none-such"})
