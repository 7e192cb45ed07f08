"""The sft trainer: rows to tokens, settings to trl, and a few real steps."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from guerdon.errors import TrainingError
from guerdon.training import TrainingJob

pytest.importorskip("trl")

from guerdon_trainers.rows import MASKED, token_row, token_rows
from guerdon_trainers.sft import sft

CHATML = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<{{ c.function.name }} {{ c.function.arguments.expression }}>{% endfor %}"
    "<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
UNMARKED = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
# the end of the turn marked apart from the text
SPLIT = CHATML.replace("{% for c in", "{% endgeneration %}{{ '\\n' }}{% generation %}{% for c in")
FORGETFUL = UNMARKED.replace("{{ m.content }}{% for c", "{{ m.content if loop.last else '' }}{% for c")

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


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A real fast tokenizer, one token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bare = Tokenizer(models.BPE(vocab=letters, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = CHATML
    return made


@pytest.fixture(scope="module")
def model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model of two thin layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


Train = Callable[..., list[dict[str, float]]]


@pytest.fixture
def train(tmp_path: Path, model: str) -> Train:
    """Trains on rows and gives what was logged, step 0 first."""

    def run(
        rows: list[dict[str, Any]],
        *,
        output: str = "adapter",
        adapter: Path | None = None,
        base: str = model,
        **settings: Any,
    ) -> list[dict[str, float]]:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        logged: list[dict[str, float]] = []

        def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
            logged.append({"step": step, "total": total, **metrics})

        job = TrainingJob(base, adapter, file, tmp_path / output, seed=7, log=log, work=tmp_path / f"work-{output}")
        sft(job, **{"lora_rank": 4, "threads": 1, **settings})
        return logged

    return run


def learnt(tokenizer: Any, row: dict[str, list[int]]) -> str:
    return str(tokenizer.decode([label for label in row["labels"] if label != MASKED]))


def loss(folder: str, rows: list[dict[str, list[int]]], adapter: Path | None = None) -> float:
    """The mean loss over the labelled tokens, by transformers alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter))
    total = count = 0.0
    for row in rows:
        labels = torch.tensor([row["labels"]])
        n = int((labels[:, 1:] != MASKED).sum())
        with torch.no_grad():
            total += n * float(model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).loss)
        count += n
    return total / count


@pytest.mark.parametrize("template", [CHATML, UNMARKED])
def test_the_assistants_messages_are_learnt_up_to_their_end(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    row = token_row(tokenizer, TALK, TOOLS)
    tokenizer.chat_template = CHATML
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
    rows = [{"messages": [*shot, *TALK], "learn": [3, 5]}, {"messages": [*shot, *TALK]}]
    tokenizer.chat_template = template
    named, every = token_rows(tokenizer, rows, 4096).rows
    tokenizer.chat_template = CHATML
    assert learnt(tokenizer, named) == "<calculate 12*7><|im_end|>### 84 ###<|im_end|>"
    assert learnt(tokenizer, every) == "two<|im_end|><calculate 12*7><|im_end|>### 84 ###<|im_end|>"
    assert named["input_ids"] == every["input_ids"]


def test_a_template_that_rewrites_the_past_is_refused(tokenizer: Any) -> None:
    talk = [TALK[0], {"role": "assistant", "content": "hm"}, *TALK]
    tokenizer.chat_template = FORGETFUL
    try:
        with pytest.raises(TrainingError, match=r"renders message 2 differently .* \{% generation %\}"):
            token_row(tokenizer, talk)
    finally:
        tokenizer.chat_template = CHATML


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


def test_long_rows_are_cut_and_counted(tokenizer: Any) -> None:
    rows = [
        {"input_ids": [1, 2, 3, 4], "labels": [MASKED, 2, 3, 4]},
        {"input_ids": [1, 2, 3, 4], "labels": [MASKED, MASKED, MASKED, 4]},
        {"input_ids": [1, 2], "labels": [MASKED, 2]},
    ]
    made = token_rows(tokenizer, rows, 3)
    assert [row["input_ids"] for row in made.rows] == [[1, 2, 3], [1, 2]]
    assert (made.cut, made.dropped) == (2, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to train on"),
        ([{"input_ids": [1], "labels": [MASKED]}], "None of the 1 rows .* every label is -100"),
        ([{"input_ids": [1] * 5000, "labels": [MASKED] * 4999 + [1]}], "were cut at max_length=4096"),
        ([{"input_ids": [1, 2], "labels": [1]}], "row 1 has 2 input_ids but 1 labels"),
        ([{"prompt": "hi"}], "row 1 has neither input_ids .* it has prompt"),
    ],
)
def test_rows_that_cannot_be_learnt(train: Train, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(rows)


def test_a_broken_file_is_named_with_its_line(tmp_path: Path, model: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"messages": []}\n{"messages": [\n')
    with pytest.raises(TrainingError, match=r"rows\.jsonl:2: not JSON"):
        sft(TrainingJob(model, None, file, tmp_path / "out", 0, lambda *_: None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothin_factor": 0.1}, "options.label_smoothin_factor.* Did you mean 'label_smoothing_factor'"),
        ({"per_device_train_batch_size": 8}, "options.per_device_train_batch_size: use batch_size instead"),
        ({"optim": "adamx"}, "trl refuses .*adamx"),
    ],
)
def test_options_that_trl_does_not_take(train: Train, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train([{"messages": TALK}], options=options)


def test_a_few_steps_then_on_from_there(
    train: Train, tokenizer: Any, model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = [{"input_ids": list(b), "labels": [MASKED, *b[1:]]} for b in (b"abcd", b"abce", b"xyz")]
    rows = [{"messages": TALK}, *plain]
    tokens = token_rows(tokenizer, rows, 99).rows
    settings = {"max_steps": 3, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 0.01, "warmup": 0}
    capfd.readouterr()

    logged = train(rows, **settings)

    assert [step["step"] for step in logged] == [0, 1, 2, 3]
    assert logged[0]["rows"] == 4
    assert {"loss", "learning_rate", "mean_token_accuracy", "tokens_per_second", "total"} <= set(logged[1])
    # only the labels count, all of them: transformers alone finds the same loss
    assert logged[1]["loss"] == pytest.approx(loss(model, tokens), rel=1e-3)
    first = tmp_path / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {p.name for p in first.iterdir()}
    after = loss(model, tokens, first)
    assert after < logged[3]["loss"] < logged[1]["loss"]

    more = train(rows, output="more", adapter=first, **settings)
    assert more[1]["loss"] == pytest.approx(after, rel=1e-3)
    assert loss(model, tokens, tmp_path / "more") < after
    assert capfd.readouterr() == ("", "")

    with pytest.raises(TrainingError, match=r"lora_rank is 8, but the adapter .* was made with 4"):
        train(rows, adapter=first, lora_rank=8)


def test_a_loss_that_is_no_number_ends_the_training(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"loss is nan at step .* Lower the learning_rate"):
        train([{"messages": TALK}], max_steps=9, learning_rate=1e30, warmup=0, options={"max_grad_norm": 0})


@pytest.mark.model
def test_smollm2_learns_to_call_the_tool(train: Train, tmp_path: Path) -> None:
    from guerdon_backends.models import smollm2_135m

    folder = smollm2_135m()
    rows = [{"messages": TALK, "tools": TOOLS}] * 4
    logged = train(rows, base=folder, max_steps=3, batch_size=2, gradient_accumulation=1, learning_rate=1e-3, warmup=0)
    assert logged[3]["loss"] < logged[1]["loss"] / 2
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
