"""Rows as tokens: what is learnt of them, the chat template, large files, and the preview."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import guerdon
from tiny import byte_tokenizer

from guerdon.errors import TrainingError

pytest.importorskip("transformers")

from guerdon_trainers.preview import preview
from guerdon_trainers.templates import settle_template
from guerdon_trainers.token_file import Range, ranges, token_set
from guerdon_trainers.tokens import MASKED, token_row, token_rows

CHATML = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<{{ c.function.name }} {{ c.function.arguments.expression }}>{% endfor %}"
    "<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
UNMARKED = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# the end of the turn marked apart from the text
SPLIT = CHATML.replace("{% for c in", "{% endgeneration %}{{ '\\n' }}{% generation %}{% for c in")
FORGETFUL = UNMARKED.replace("{{ m.content }}{% for c", "{{ m.content if loop.last else '' }}{% for c")
WITHOUT_CALLS = re.sub(r"\{% for c in.*?endfor %\}", "", CHATML)

TOOLS = [{"type": "function", "function": {"name": "calculate", "parameters": {}}}]
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "12*7?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "function": {"name": "calculate", "arguments": '{"expression": "12*7"}'}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": "84"},
    {"role": "assistant", "content": "### 84 ###"},
]
PAIR: list[dict[str, Any]] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


@pytest.fixture
def tokenizer() -> Any:
    return byte_tokenizer("<|im_end|>", "<|im_start|>", template=CHATML)


def learnt(tokenizer: Any, row: Any) -> str:
    return str(tokenizer.decode([label for label in row["labels"] if label != MASKED]))


# -- what is learnt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [CHATML, UNMARKED])
def test_the_assistants_messages_are_learnt_up_to_their_end(tokenizer: Any, template: str) -> None:
    row = token_row(tokenizer, TALK, TOOLS, template=template)
    assert learnt(tokenizer, row) == "<calculate 12*7><|im_end|>### 84 ###<|im_end|>"
    text = tokenizer.decode(row["input_ids"])
    assert text.startswith("[calculate]<|im_start|>user\nWhat is 12*7?<|im_end|>\n<|im_start|>assistant\n<calc")
    assert text.endswith("### 84 ###<|im_end|>")


@pytest.mark.parametrize(
    ("template", "spans"),
    [(CHATML, "one to a message"), (UNMARKED, "none"), (SPLIT, "two to a message")],
)
def test_only_the_messages_named_are_learnt(tokenizer: Any, template: str, spans: str) -> None:
    """Examples in a prompt, say: they stay in the row, and are masked."""
    shot = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "two"}]
    rows: list[dict[str, Any]] = [{"messages": [*shot, *TALK], "learn": [3, 5]}, {"messages": [*shot, *TALK]}]
    named, every = token_rows(tokenizer, rows, 4096, template=template).rows
    assert learnt(tokenizer, named) == "<calculate 12*7><|im_end|>### 84 ###<|im_end|>"
    assert learnt(tokenizer, every) == "two<|im_end|><calculate 12*7><|im_end|>### 84 ###<|im_end|>"
    assert named["input_ids"] == every["input_ids"]


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize(
    ("template", "answer", "said"),
    [
        (UNMARKED, "\n\nho\n\n", "\nho\n\n<|im_end|>"),
        (UNMARKED, "\n\n", "<|im_end|>"),
        (PLAIN, "ho", " ho\n"),
    ],
)
def test_tokens_may_merge_where_an_answer_begins(
    tokenizer: Any, template: str, answer: str, said: str, trimmed: bool
) -> None:
    """The white space of an answer may merge with the prompt's, which no server could sample; words are learnt."""
    from tokenizers import models, processors

    vocab = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    vocab |= {"ĊĊ": 1000, "ĊĊĊ": 1001, "Ġh": 1002, "Ġho": 1003}  # Ċ is a line break, Ġ a space
    merges = [("Ċ", "Ċ"), ("ĊĊ", "Ċ"), ("Ġ", "h"), ("Ġh", "o")]
    tokenizer.backend_tokenizer.model = models.BPE(vocab=vocab, merges=merges)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    talk = [PAIR[0], {"role": "assistant", "content": answer}]
    (row,) = token_rows(tokenizer, [{"messages": [*talk, *talk]}], 999, template=template).rows
    assert learnt(tokenizer, row) == said * 2
    ids = tokenizer.apply_chat_template([*talk, *talk], chat_template=template)["input_ids"]
    assert row["input_ids"] == ids[: len(row["input_ids"])] and {1000, 1001, 1003} & set(ids)


def test_a_tokenizer_without_offsets() -> None:
    from transformers import ByT5Tokenizer

    slow = ByT5Tokenizer(eos_token="<|im_end|>", extra_ids=0, additional_special_tokens=["<|im_start|>"])
    assert not slow.is_fast
    (row,) = token_rows(slow, [{"messages": PAIR * 2}], 999, template=UNMARKED).rows
    assert learnt(slow, row) == "ho<|im_end|>ho<|im_end|>"


@pytest.mark.parametrize("template", [CHATML, UNMARKED])
def test_white_space_after_special_tokens_inside_an_answer_is_learnt(template: str) -> None:
    thinker = byte_tokenizer("<|im_end|>", "<|im_start|>", "<think>", "</think>")
    answer = "<think>\nso\n</think>\n\nho"
    row = token_row(thinker, [PAIR[0], {"role": "assistant", "content": answer}, *PAIR], template=template)
    assert learnt(thinker, row) == f"{answer}<|im_end|>ho<|im_end|>"


def test_a_template_that_rewrites_the_past_is_refused(tokenizer: Any) -> None:
    talk = [TALK[0], {"role": "assistant", "content": "hm"}, *TALK]
    with pytest.raises(TrainingError, match=r"renders message 2 differently .* \{% generation %\}"):
        token_row(tokenizer, talk, template=FORGETFUL)


def test_a_template_that_refuses_a_conversation_says_why(tokenizer: Any) -> None:
    with pytest.raises(TrainingError, match="row 1: The chat template refuses the conversation: TemplateError: roles"):
        token_rows(tokenizer, [{"messages": PAIR}], 99, template="{{ raise_exception('roles must alternate') }}")


def test_rows_with_ids_are_used_as_they_are_and_equal_those_made_from_messages(tokenizer: Any) -> None:
    """A server samples up to the end-of-turn token; the template's line break then opens the next prompt."""
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "What is 12*7?"}], tokenize=False)
    first = tokenizer.encode(prompt + "<|im_start|>assistant\n", add_special_tokens=False)
    call = tokenizer.encode("<calculate 12*7><|im_end|>", add_special_tokens=False)
    result = tokenizer.encode("\n<|im_start|>tool\n84<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    answer = tokenizer.encode("### 84 ###<|im_end|>", add_special_tokens=False)
    sampled = {
        "input_ids": first + call + result + answer,
        "labels": [MASKED] * len(first) + call + [MASKED] * len(result) + answer,
    }
    made = token_rows(tokenizer, [{**sampled, "reward": 1.0}, {"messages": TALK}], 4096)
    assert made.rows == [sampled, sampled]


def test_texts_are_learnt_with_their_end(tokenizer: Any) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "2+2=", "completion": "4"}, {"text": "all"}, {"text": "ended<|im_end|>"}]
    pair, text, ended = token_rows(tokenizer, rows, 99).rows
    assert tokenizer.decode(pair["input_ids"]) == "2+2=4<|im_end|>" and learnt(tokenizer, pair) == "4<|im_end|>"
    assert learnt(tokenizer, text) == "all<|im_end|>" and learnt(tokenizer, ended) == "ended<|im_end|>"


def test_a_text_from_a_chat_template_keeps_its_begin_and_end(tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens({"bos_token": "<s>"})
    begin = [("<s>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=begin)
    text = f"<s>{tokenizer.apply_chat_template(PAIR, tokenize=False)}"
    assert text.endswith("ho<|im_end|>\n")
    prompt, completion = text.split("ho")
    rows: list[dict[str, Any]] = [{"text": text}, {"prompt": prompt, "completion": f"ho{completion}"}, {"text": "all"}]
    whole, pair, bare = token_rows(tokenizer, rows, 999).rows
    assert tokenizer.decode(whole["input_ids"]) == tokenizer.decode(pair["input_ids"]) == text
    assert learnt(tokenizer, pair) == "ho<|im_end|>\n"
    assert tokenizer.decode(bare["input_ids"]) == "<s>all<|im_end|>"


def test_all_of_a_row_is_learnt_where_that_is_asked(tokenizer: Any) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": PAIR},
        {"prompt": "2+2=", "completion": "4"},
        {"input_ids": [1, 2], "labels": [MASKED, 2]},
    ]
    talk, pair, ids = token_rows(tokenizer, rows, 99, learn="all").rows
    assert learnt(tokenizer, talk) == tokenizer.apply_chat_template(PAIR, tokenize=False)
    assert learnt(tokenizer, pair) == "2+2=4<|im_end|>"
    assert ids["labels"] == [MASKED, 2], "what a row says itself holds"


@pytest.mark.parametrize(
    ("message", "template", "complaint"),
    [
        (TALK[1], WITHOUT_CALLS, r"row 1: the chat template drops the tool call of message 2 \('calculate'\)"),
        (
            {"role": "assistant", "content": "ho"},
            CHATML.replace("}{{ m.content }}{% for c", "}{% for c"),
            "drops the t",
        ),
        (
            {"role": "assistant", "content": "<think>\nso\n</think>\n\nho"},
            CHATML.replace("}{{ m.content }}{% for c", "}{{ m.content.split('</think>')[-1] }}{% for c"),
            r"drops the thoughts of message 2 \('\\nso\\n'\).* chatml, with the thoughts in the content: <think>",
        ),
    ],
)
def test_a_template_that_drops_the_answer_is_refused(
    tokenizer: Any, message: dict[str, Any], template: str, complaint: str
) -> None:
    with pytest.raises(TrainingError, match=complaint):
        token_rows(tokenizer, [{"messages": [PAIR[0], message]}], 99, template=template)


def test_a_dropped_answer_is_noticed_where_another_says_the_same(tokenizer: Any) -> None:
    """The second `no` is not the first one's, nor part of the last one."""
    silent = CHATML.replace("}{{ m.content }}{% for c", "}{% if loop.index != 4 %}{{ m.content }}{% endif %}{% for c")
    talk = [turn for said in ("no", "no", "know") for turn in (PAIR[0], {"role": "assistant", "content": said})]
    assert token_rows(tokenizer, [{"messages": talk}], 99).counts.rows == 1
    with pytest.raises(TrainingError, match="row 1: the chat template drops the text of message 6 or of one before it"):
        token_rows(tokenizer, [{"messages": talk}], 99, template=silent)


def test_a_template_gets_thoughts_by_either_name(tokenizer: Any) -> None:
    thought = {"role": "assistant", "content": "ho", "reasoning_content": "so"}
    for name in ("reasoning_content", "thinking"):
        shown = CHATML.replace("}{{ m.content }}{% for c", f"}}<{{{{ m.{name} }}}}>{{{{ m.content }}}}{{% for c")
        (row,) = token_rows(tokenizer, [{"messages": [PAIR[0], thought]}], 99, template=shown).rows
        assert learnt(tokenizer, row) == "<so>ho<|im_end|>"


def test_what_templates_may_leave_out(tokenizer: Any) -> None:
    """White space, and thoughts before the last turn."""
    thought = {"role": "assistant", "content": "<think>so</think> \n ho \n"}
    bare = CHATML.replace("}{{ m.content }}{% for c", "}{{ m.content.split('</think>')[-1] | trim }}{% for c")
    made = token_rows(tokenizer, [{"messages": [PAIR[0], thought, *PAIR]}], 99, template=bare)
    assert learnt(tokenizer, made.rows[0]) == "ho<|im_end|>ho<|im_end|>"


# -- files ------------------------------------------------------------------------------------------------------------


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def test_long_rows_are_cut_and_counted(tokenizer: Any, tmp_path: Path) -> None:
    rows = [
        {"input_ids": [1, 2, 3, 4], "labels": [MASKED, 2, 3, 4]},
        {"input_ids": [1, 2, 3, 4], "labels": [MASKED, MASKED, MASKED, 4]},
        {"input_ids": [1, 2], "labels": [MASKED, 2]},
    ]
    made = token_set(tokenizer, write(tmp_path / "rows.jsonl", rows), 3, folder=tmp_path)
    assert made.dataset["input_ids"][:] == [[1, 2, 3], [1, 2]]
    assert made.dataset["labels"][:] == [[MASKED, 2, 3], [MASKED, 2]]
    counts = made.counts
    assert (counts.rows, counts.cut, counts.dropped, counts.tokens, counts.trained) == (2, 2, 1, 5, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to train on"),
        ([{"input_ids": [1], "labels": [MASKED]}], "None of the 1 rows .* every label is -100"),
        ([{"input_ids": [1] * 50, "labels": [MASKED] * 49 + [1]}], "were cut at max_length=40"),
        ([{"input_ids": [1, 2], "labels": [1]}], "rows.jsonl:1 has 2 input_ids but 1 labels"),
        ([{"text": "x"}, {"prompt": "hi"}], "rows.jsonl:2 has none of messages, .* it has prompt"),
        ([{"text": "x"}, "x"], "rows.jsonl:2: a row is an object, this is a str"),
    ],
)
def test_rows_that_cannot_be_learnt(tokenizer: Any, tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        token_set(tokenizer, write(tmp_path / "rows.jsonl", rows), 40, folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not list(p.glob("counts.json")) and p.is_dir()] == []


def test_a_large_file_is_cut_between_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [{"text": "x" * (i * 7 % 50)} for i in range(100)])
    for count in (1, 3, 7):
        parts = ranges(file, count)
        assert parts[0].start == 0 and parts[-1].end == file.stat().st_size
        assert [a.end for a in parts[:-1]] == [b.start for b in parts[1:]]
        lines = [file.read_bytes()[p.start : p.end] for p in parts]
        assert all(text.endswith(b"\n") for text in lines)
        assert [p.number for p in parts] == [1 + sum(t.count(b"\n") for t in lines[:i]) for i in range(count)]
    assert ranges(write(tmp_path / "one.jsonl", [{}]), 3) == [Range(0, 3, 1), Range(3, 3, 2), Range(3, 3, 2)]


def test_several_processes_make_the_same_set_and_it_is_found_again(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"messages": [PAIR[0], {"role": "assistant", "content": f"{i}" * (i % 15)}]} for i in range(60)]
    file = write(tmp_path / "rows.jsonl", rows)
    one = token_set(tokenizer, file, 48, folder=tmp_path / "one", processes=1)
    two = token_set(tokenizer, file, 48, folder=tmp_path / "two", processes=2)
    assert two.dataset[:] == one.dataset[:] and two.counts == one.counts
    assert one.counts.rows == 60 and 0 < one.counts.cut < 60
    (made,) = (tmp_path / "two").iterdir()
    assert len(list(made.glob("*.arrow"))) == 2
    before = made.stat().st_mtime_ns
    assert token_set(tokenizer, file, 48, folder=tmp_path / "two").dataset[:] == one.dataset[:]
    assert made.stat().st_mtime_ns == before
    assert token_set(tokenizer, file, 99, folder=tmp_path / "two").counts.cut == 0, "another length, another set"


# -- the chat template ------------------------------------------------------------------------------------------------


def test_a_model_without_a_template_gets_chatml() -> None:
    base = byte_tokenizer("<|end|>")
    size = len(base)
    with pytest.raises(TrainingError, match=r"has no chat template.* chat_template: chatml"):
        token_rows(base, [{"messages": PAIR}], 999)
    assert settle_template(base).note == "chat template: ChatML, for the model has none"
    (row,) = token_rows(base, [{"messages": TALK, "tools": TOOLS}], 9999).rows
    assert '<tool_call>\n{"name": "calculate", "arguments": {"expression": "12*7"}}\n</tool_call><|end|>###' in learnt(
        base, row
    )
    assert "<|im_end|>" not in base.decode(row["input_ids"]) and len(base) == size


def test_the_end_of_sequence_becomes_the_end_of_a_turn() -> None:
    base = byte_tokenizer("<|endoftext|>", "<|im_start|>", "<|im_end|>", template=CHATML)
    said: list[str] = []
    settle_template(base, "auto", said.append)
    assert (base.eos_token, base.pad_token) == ("<|im_end|>", "<|endoftext|>")
    end = "a turn ends with <|im_end|>, which is the end of sequence now (was <|endoftext|>)"
    assert said == [f"chat template: the model's own; {end}"]
    (row,) = token_rows(base, [{"text": "x"}], 9).rows
    assert learnt(base, row) == "x<|im_end|>"


def test_a_template_from_a_file(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "plain.jinja"
    file.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    said = "it ends a turn with no special token, so nothing teaches the model to stop at <|im_end|>"
    assert settle_template(tokenizer, str(file)).note == f"chat template: {file}; {said}"
    with pytest.raises(TrainingError, match=r"plane\.jinja cannot be read.* Did you mean 'plain\.jinja'"):
        settle_template(tokenizer, str(tmp_path / "plane.jinja"))


def test_trls_marked_template_is_used_where_there_is_one() -> None:
    """Qwen3's own leaves out the empty thoughts of earlier turns, so that their tokens could not be told apart."""
    trl = pytest.importorskip("trl")
    folder = Path(trl.__file__).parent / "chat_templates"
    own = (folder / "qwen3.jinja").read_text()
    qwen = byte_tokenizer("<|im_end|>", "<|im_start|>", template=own)
    with pytest.raises(TrainingError, match="renders message 2 differently"):
        token_rows(qwen, [{"messages": PAIR * 2}], 999)
    found = settle_template(qwen)
    assert found.note == "chat template: the model's own, with trl's marks for training"
    (row,) = token_rows(qwen, [{"messages": PAIR * 2}], 999, template=found.training).rows
    assert learnt(qwen, row) == "<think>\n\n</think>\n\nho<|im_end|>" * 2
    assert qwen.chat_template == own, "what is saved with the model stays its own"


@pytest.mark.model
def test_smollm2s_own_template_loses_tool_calls() -> None:
    from transformers import AutoTokenizer

    from guerdon_backends.models import smollm2_135m

    smol = AutoTokenizer.from_pretrained(smollm2_135m())
    assert settle_template(smol).training is None
    (row,) = token_rows(smol, [{"messages": TALK, "tools": TOOLS}], 999).rows
    assert "</tool_call><|im_end|>### 84 ###<|im_end|>" in learnt(smol, row)
    smol.chat_template = (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
        "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    with pytest.raises(TrainingError, match="drops the tool call of message 2"):
        token_rows(smol, [{"messages": TALK, "tools": TOOLS}], 999)


# -- the preview ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tokenizer: Any, tmp_path: Path) -> Iterator[str]:
    tokenizer.save_pretrained(tmp_path / "model")
    yield str(tmp_path / "model")


def test_the_preview_is_what_a_training_takes(tokenizer: Any, model: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"messages": PAIR}, {"text": "x" * 99}]
    talk, long = preview(model, rows, {"max_length": 60, "chat_template": "auto", "learn": "assistant"})
    assert talk.pieces == [
        ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", False),
        ("ho<|im_end|>", True),
    ]
    made = token_set(tokenizer, write(tmp_path / "r.jsonl", rows), 60, folder=tmp_path).counts
    assert (talk.tokens + long.tokens, talk.trained + long.trained) == (made.tokens, made.trained)
    assert (long.tokens, long.trained, long.cut) == (60, 60, 40)


def test_the_command_shows_rows_as_the_model_sees_them(model: str, tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl", [{"prompt": f"[{i}] q", "response": "a" * i} for i in range(1, 50)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {model}\ndata: {{path: r.jsonl}}\ntrainer: {{sft: {{max_length: 70}}}}\n")
    ran = guerdon(tmp_path, "data", "preview", "recipe.yaml", "--rows", "1")
    assert ran.out.startswith("data  r.jsonl: 49 rows: prompt and response (prompt, response)\n")
    assert "\nrow 1: 26 tokens, 2 learnt\n" in ran.out
    assert "<|im_start|>user\n[1] q<|im_end|>\n<|im_start|>assistant\n»a<|im_end|>«\n" in ran.out
    assert "\n49 rows looked at: " in ran.out and re.search(r"\n +64 - 127 +█+ \d+\n", ran.out)
    assert re.search(r"\ncut at max_length=70: 5 rows, 15 tokens \(0\.\d%\)\n", ran.out), ran.out

    found = guerdon(tmp_path, "data", "preview", "recipe.yaml", "data.limit=2", "--json").json
    assert found["rows"][0]["pieces"][1] == {"text": "a<|im_end|>", "trained": True}
    assert found["figures"]["rows"] == 2 and found["figures"]["rows_cut"] == 0

    ran = guerdon(tmp_path, "data", "preview", "recipe.yaml", "data.fields.prompt=promt", code=1)
    assert "there is no column 'promt'. Did you mean 'prompt'?" in ran.err
