"""The sft trainer: settings to trl, a few real steps, and going on from where they stopped."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from command import guerdon
from tiny import byte_tokenizer, save_model

from guerdon.errors import TrainingError
from guerdon.training import TrainingJob

pytest.importorskip("trl")

from guerdon_trainers.backend import choose
from guerdon_trainers.reporter import last_checkpoint
from guerdon_trainers.sft import sft
from guerdon_trainers.tokens import MASKED, token_rows

CHATML = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<{{ c.function.name }} {{ c.function.arguments.expression }}>{% endfor %}"
    "<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

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
    return byte_tokenizer("<|im_end|>", "<|im_start|>", template=CHATML)


@pytest.fixture(scope="module")
def model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    wide = {"initializer_range": 0.2}  # so that it matters what a token sees
    return save_model(tmp_path_factory.mktemp("tiny"), tokenizer, **wide)


@dataclass
class Ran:
    """What a training did: all that it logged, the figures of its steps, what it said, and where it wrote."""

    output: Path
    logged: list[dict[str, float]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in self.logged if "loss" in line]


class Train:
    """Trains on rows, in `folder`."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model

    def job(self, ran: Ran, rows: list[dict[str, Any]], *, stop: float = math.inf, **job: Any) -> TrainingJob:
        """`stop` is the step after which the training is interrupted."""

        def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
            if step > stop:
                raise KeyboardInterrupt
            ran.logged.append({"step": step, "total": total, **metrics})

        (file := self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        work = self.folder / f"work-{ran.output.name}"
        given = {"model": self.model, "adapter": None, "work": work, "say": ran.said.append, **job}
        return TrainingJob(rows=file, output=ran.output, seed=7, log=log, **given)

    def __call__(
        self, rows: list[dict[str, Any]], output: str = "adapter", *, job: dict[str, Any] | None = None, **settings: Any
    ) -> Ran:
        ran = Ran(self.folder / output)
        settings = {"lora_rank": 4, "threads": 1, "warmup": 0, "gradient_accumulation": 1, **settings}
        sft(self.job(ran, rows, **(job or {})), **settings)
        return ran


@pytest.fixture
def train(tmp_path: Path, model: str) -> Train:
    return Train(tmp_path, model)


def numbers(count: int) -> list[dict[str, Any]]:
    """Rows of different lengths, without a meaning."""
    ids = [[3 + (7 * i * i + 11 * j) % 200 for j in range(5 + 5 * i % 13)] for i in range(count)]
    return [{"input_ids": row, "labels": [MASKED, *row[1:]]} for row in ids]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*model.safetensors")))


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


def test_a_broken_file_is_named_with_its_line(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"rows\.jsonl:2"):
        train([{"messages": TALK}, {"prompt": "hi"}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": {"label_smoothin_factor": 0.1}}, "options.label_smoothin_factor.* Did you mean 'label_smoothing"),
        (
            {"options": {"per_device_train_batch_size": 8}},
            "options.per_device_train_batch_size: use batch_size instead",
        ),
        ({"options": {"optim": "adamx"}}, "trl refuses .*adamx"),
        ({"lora_options": {"lora_dropuot": 0.1}}, "peft's LoraConfig has no .* Did you mean 'lora_dropout'"),
        ({"lora_options": {"r": 8}}, "lora_options.r: use lora_rank instead"),
        ({"report_to": ["console", "trackio"]}, "trackio is not installed: pip install trackio"),
        ({"tuning": "qlora"}, r"needs bitsandbytes.*guerdon\[quantize\]"),
        ({"backend": "unsloth"}, "backend: unsloth cannot be used: no CUDA device"),
        ({"early_stop": 1}, "early_stop needs rows to evaluate on"),
        ({"resume_from": "step_1000"}, "no checkpoint step_1000. In .* there are: none"),
        ({"chat_template": "nowhere.jinja"}, "nowhere.jinja cannot be read"),
    ],
)
def test_what_cannot_be_had(
    train: Train, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    if settings.get("tuning") == "qlora":
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match=message):
        train([{"messages": TALK}], **settings)


@pytest.mark.parametrize(
    ("asked", "more", "name", "why"),
    [
        ("auto", {"cuda": False}, "transformers", "no CUDA device"),
        ("auto", {"cuda": True}, "unsloth", "a GPU, and the package"),
        ("auto", {"cuda": True, "world": 2}, "transformers", "2 processes"),
        ("transformers", {"cuda": True}, "transformers", "as the recipe says"),
        ("unsloth", {"cuda": False}, "", "no CUDA device"),
        ("transformers", {"checkpointing": "unsloth"}, "", "Unsloth's own, and backend is transformers"),
        ("auto", {"checkpointing": "unsloth", "cuda": False}, "", "Unsloth's own, which cannot be used: no CUDA"),
    ],
)
def test_the_backend_and_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: Any, more: dict[str, Any], name: str, why: str
) -> None:
    (tmp_path / "unsloth.py").write_text("raise RuntimeError('only the training process imports it')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("guerdon_trainers.backend.PATCHED", ())  # this process has imported them all
    if name:
        chosen, reason = choose(asked, **more)
        assert chosen == name and why in reason
    else:
        with pytest.raises(TrainingError, match=why):
            choose(asked, **more)


def test_a_few_steps_then_on_from_there(
    train: Train, tokenizer: Any, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = [{"input_ids": list(b), "labels": [MASKED, *b[1:]]} for b in (b"abcd", b"abce", b"xyz")]
    rows = [{"messages": TALK}, *plain]
    tokens = token_rows(tokenizer, rows, 99).rows
    settings = {"max_steps": 3, "batch_size": 4, "learning_rate": 0.01}
    capfd.readouterr()

    first = train(rows, **settings)

    assert [line["step"] for line in first.logged] == [0, 1, 2, 3]
    assert first.logged[0]["rows"] == 4
    assert first.said[0].startswith("backend transformers: ")
    assert {"loss", "learning_rate", "grad_norm", "mean_token_accuracy", "epoch", "tokens_per_second", "total"} <= set(
        first.logged[1]
    )
    # only the labels count, all of them: transformers alone finds the same loss
    assert first.losses[0] == pytest.approx(loss(model, tokens), rel=1e-3)
    written = {p.name for p in first.output.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= written
    after = loss(model, tokens, first.output)
    assert after < first.losses[2] < first.losses[0]

    more = train(rows, "more", job={"adapter": first.output}, **settings)
    assert more.losses[0] == pytest.approx(after, rel=1e-3)
    assert loss(model, tokens, more.output) < after
    assert capfd.readouterr() == ("", "")

    with pytest.raises(TrainingError, match=r"lora_rank is 8, but the adapter .* was made with 4"):
        train(rows, "other", job={"adapter": first.output}, lora_rank=8)
    with pytest.raises(TrainingError, match=r"tuning: full .* cannot go on from the adapter"):
        train(rows, "whole", job={"adapter": first.output}, tuning="full")


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(train: Train) -> None:
    rows = numbers(7)
    settings = {
        "max_steps": 6,
        "batch_size": 2,
        "learning_rate": 0.01,
        "schedule": "cosine_with_min_lr",
        "warmup": 1,
        "save_steps": 1,
        "save_limit": 3,
        "lora_options": {"lora_dropout": 0.3},
    }
    whole = train(rows, "whole", **settings)
    part = Ran(train.folder / "part")
    with pytest.raises(KeyboardInterrupt):
        train(rows, "part", job={"stop": 4}, **settings)
    work = train.folder / "work-part"
    assert sorted(p.name for p in work.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
    (work / "checkpoint-4" / "trainer_state.json").write_text('{"global_')  # killed while it was written
    with pytest.raises(TrainingError, match=r"step_4. checkpoint-4 lacks .* In .*: checkpoint-2, checkpoint-3\."):
        last_checkpoint(train.job(part, rows), "step_4")
    assert last_checkpoint(train.job(part, rows), "2") == str(work / "checkpoint-2")

    rest = train(rows, "part", **settings)

    assert any("checkpoint-4 was not written to its end" in line for line in rest.said)
    assert "going on from checkpoint-3" in rest.said
    assert rest.losses == whole.losses[3:]
    assert whole.logged[-1]["learning_rate"] == pytest.approx(0.00186, rel=0.01)  # a cosine to 0 would be at 0.00095
    one, other = weights(whole.output), weights(rest.output)
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


def test_it_goes_on_with_the_settings_of_today(train: Train) -> None:
    rows, settings = numbers(9), {"max_steps": 6, "batch_size": 2, "warmup": 2, "save_steps": 2, "save_limit": 9}
    today = {**settings, "learning_rate": 1e-5, "weight_decay": 0.5, "save_steps": 3}
    unbroken = train(rows, "unbroken", **today)
    with pytest.raises(KeyboardInterrupt):
        train(rows, "part", job={"stop": 3}, **settings, learning_rate=0.01)
    rest = train(rows, "part", **{**today, "batch_size": 1, "gradient_accumulation": 2})

    rates = [[line["learning_rate"] for line in ran.logged if "loss" in line] for ran in (unbroken, rest)]
    assert rates[1] == rates[0][2:]
    assert not any("a step has" in line for line in rest.said)
    assert (train.folder / "work-part" / "checkpoint-3").is_dir()  # every third step, no more every second
    groups = _groups(train.folder / "work-part" / "checkpoint-3")
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]

    more = train(rows, "part", **{**today, "max_steps": 8, "batch_size": 1, "learning_rate": 0.02, "weight_decay": 0.0})
    assert any(line.startswith("a step has 1 rows now, and had 2: ") for line in more.said)
    assert _groups(train.folder / "work-part" / "checkpoint-6")[0]["weight_decay"] == 0


def _groups(checkpoint: Path) -> list[dict[str, Any]]:
    import torch

    groups: list[dict[str, Any]] = torch.load(checkpoint / "optimizer.pt", weights_only=True)["param_groups"]
    return groups


def test_all_of_the_model_the_best_of_it(train: Train, tokenizer: Any) -> None:
    """Learning rows by heart does not help with others: it stops early, and the best weights are what is written."""
    rows, others = [{"prompt": "ab", "completion": "cdefgh"}] * 8, [{"prompt": "ab", "completion": "ceg"}]
    (file := train.folder / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in others))
    settings: dict[str, Any] = {"epochs": 20, "batch_size": 1, "gradient_accumulation": 8, "global_batch": 4}
    settings |= {"learning_rate": 0.02, "tuning": "full", "early_stop": 2, "eval_steps": 2}
    ran = train(rows, job={"validation": file}, **settings)

    assert ran.logged[0]["total"] == 40  # two steps an epoch
    evaluated = {line["step"]: line["eval_loss"] for line in ran.logged if "eval_loss" in line}
    best = min(evaluated, key=evaluated.__getitem__)
    assert ran.said[-1].startswith(f"stopped early at step {best + 4}; the best weights are kept: of step {best}, ")
    assert list(evaluated) == list(range(2, best + 5, 2)) and best + 4 < 40
    held_back = token_rows(tokenizer, others, 99).rows
    assert loss(str(ran.output), held_back) == pytest.approx(evaluated[best], rel=1e-3)
    written = {p.name for p in ran.output.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= written
    saved = json.loads((ran.output / "config.json").read_text())
    assert saved["use_cache"] is True and saved["eos_token_id"] == tokenizer.eos_token_id

    with pytest.raises(KeyboardInterrupt):  # after one evaluation that was no better
        train(rows, "part", job={"validation": file, "stop": best + 2}, **settings)
    assert train(rows, "part", job={"validation": file}, **settings).said[-1] == ran.said[-1]


def test_packed_rows_do_not_see_each_other(train: Train) -> None:
    rows = numbers(6)
    settings = {"max_steps": 1, "batch_size": 6, "max_length": 64, "learning_rate": 1e-9}
    apart, packed = train(rows, "apart", **settings), train(rows, "packed", packing=True, **settings)
    assert packed.losses == pytest.approx(apart.losses, rel=1e-5)
    assert packed.logged[1]["grad_norm"] == pytest.approx(apart.logged[1]["grad_norm"], rel=1e-4)
    assert any("without flash attention" in line for line in packed.said)


def test_token_ids_of_another_tokenizer_are_refused(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"token id 5000, but the model's vocabulary ends at 257"):
        train([*numbers(2), {"input_ids": [1, 5000], "labels": [MASKED, 2]}])


def test_a_loss_that_is_no_number_ends_the_training(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"loss is nan at step .* Lower the learning_rate"):
        train([{"messages": TALK}], max_steps=9, learning_rate=1e30, options={"max_grad_norm": 0})


def test_the_plain_loss_for_trl_1_15_without_a_gpu() -> None:
    import torch

    from guerdon_trainers.cpu_kernels import PlainLogProb

    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(700, 8, requires_grad=True), torch.randn(30, 8), torch.randn(30)
    targets = torch.randint(30, (700,))
    every = ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    chosen, *figures = PlainLogProb.apply(hidden, weight, bias, targets, 2.0, 256, 5.0, 0.5, every)
    logits = 5 * torch.tanh(0.5 * (hidden @ weight.T + bias) / 5) / 2
    logs = torch.log_softmax(logits, -1)
    expected = [-(logs.exp() * logs).sum(-1), logs.exp().square().sum(-1).log(), logits.mean(-1)]
    torch.testing.assert_close(chosen, logs.gather(-1, targets[:, None]).squeeze(-1))
    torch.testing.assert_close(figures[:3], expected)
    assert figures[3].equal(logs.argmax(-1) == targets)
    assert PlainLogProb.apply(hidden, weight, None, targets, 1.0, 256)[2:] == (None, None, None)
    chosen.sum().backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


@pytest.mark.model
def test_smollm2_learns_to_call_the_tool(train: Train) -> None:
    from guerdon_backends.models import smollm2_135m

    rows = [{"messages": TALK, "tools": TOOLS}] * 4
    ran = train(rows, job={"model": smollm2_135m()}, max_steps=3, batch_size=2, learning_rate=1e-3)
    assert ran.losses[2] < ran.losses[0] / 2
    assert (ran.output / "adapter_model.safetensors").exists()


def test_the_preview_finds_a_template_where_a_training_does(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.jinja").write_text(CHATML.replace("<|im_start|>", "<|im_start|>~"))
    (folder / "rows.jsonl").write_text('{"prompt": "1 + 1?", "response": "2"}\n')
    trainer = "{sft: {chat_template: mine.jinja}}"
    (folder / "recipe.yaml").write_text(f"model: {model}\ndata: {{path: rows.jsonl}}\ntrainer: {trainer}\n")
    assert "~user" in guerdon(tmp_path, "data", "preview", "recipes/recipe.yaml").out
