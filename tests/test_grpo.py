"""The grpo trainer: what it hands to trl, what it asks of the engine, and that a reward really rises."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import byte_tokenizer, save_model

from guerdon.errors import TrainingError
from guerdon.settings import SettingError
from guerdon.training import TrainingJob

pytest.importorskip("trl")

from guerdon_trainers.agent_rollouts import row
from guerdon_trainers.batches import Batch
from guerdon_trainers.generating import refuse_stored_bits, stop_values, vllm_values
from guerdon_trainers.grpo import grpo
from guerdon_trainers.merged import merge_into_copies
from guerdon_trainers.prompts import Plan, Prompt, order, short_enough
from guerdon_trainers.watches import variance_watch

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOOL = "<tool>7<|im_end|><assistant>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    sizes = {"max_position_embeddings": 256, "initializer_range": 0.3}
    return save_model(tmp_path_factory.mktemp("tiny"), byte_tokenizer(template=TEMPLATE), **sizes)


@dataclass
class Engine:
    """Rolls out and scores as the engine does: `low` is the share of the lower half of the tokens, `even` is for tasks
    with an even number only."""

    model: str
    group_size: int = 4
    sampling: dict[str, Any] = field(default_factory=lambda: {"temperature": 1.0, "max_tokens": 8})
    rewards: tuple[tuple[str, float], ...] = (("low", 1.0), ("even", 0.5))
    single_turn: bool = True
    fails: Callable[[int], bool] = lambda _: False
    scored: list[dict[str, Any]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)

    def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        self.steps.append(step)
        self.scored += [dict(item) for item in items]
        return [
            {"scores": self.scores(i["task"], i["completion_ids"]), "reward": 0.0, "trajectory": "t"} for i in items
        ]

    def scores(self, task: str, ids: Sequence[int]) -> dict[str, float | None]:
        number = int(task.removeprefix("t"))
        return {
            "low": sum(i < 128 for i in ids) / len(ids),
            "even": None if number % 2 else float(len(ids) > 2),
        }

    def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
        """Two turns of the policy, with a tool's answer between them, by transformers and peft alone."""
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        assert checkpoint
        self.steps.append(step)
        self.policies = sorted(path.name for path in checkpoint.parent.glob("policy-*"))
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        base = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        policy = PeftModel.from_pretrained(base, str(checkpoint)).eval()
        tool = tokenizer.encode(TOOL)

        def turn(ids: list[int]) -> tuple[list[int], list[float]]:
            made: list[int] = []
            logprobs = []
            for _ in range(4):
                with torch.no_grad():
                    logits = policy(input_ids=torch.tensor([ids + made])).logits[0, -1]
                spread = torch.log_softmax(logits / self.sampling["temperature"], -1)
                made.append(int(torch.multinomial(spread.exp(), 1)))
                logprobs.append(float(spread[made[-1]]))
            return made, logprobs

        results = []
        for number, task in enumerate(tasks):
            if self.fails(number):
                results.append(
                    {"prompt_ids": [], "completion_ids": [], "logprobs": [], "mask": [], "failure": "timeout"}
                )
                continue
            prompt = tokenizer.encode(f"<user>{task}<|im_end|><assistant>")
            one, p1 = turn(prompt)
            two, p2 = turn(prompt + one + tool)
            results.append(
                {
                    "prompt_ids": prompt,
                    "completion_ids": one + tool + two,
                    "logprobs": p1 + [0.0] * len(tool) + p2,
                    "mask": [1] * 4 + [0] * len(tool) + [1] * 4,
                    "scores": self.scores(task, one + two),
                    "failure": "",
                }
            )
        return results


@dataclass
class Run:
    logged: list[dict[str, float]]
    said: list[str]
    job: TrainingJob


Train = Callable[..., Run]
QUICK = {"threads": 1, "learning_rate": 0.02, "warmup": 0, "schedule": "constant", "lora_rank": 8, "lora_alpha": 16}


@pytest.fixture
def train(tmp_path: Path, model: str) -> Train:
    def run(engine: Engine, *, tasks: int = 4, work: str = "work", output: str = "adapter", **settings: Any) -> Run:
        rows = tmp_path / "tasks.jsonl"
        prompts = [{"task": f"t{i}", "prompt": [{"role": "user", "content": f"t{i}"}]} for i in range(tasks)]
        rows.write_text("".join(json.dumps(row) + "\n" for row in prompts))
        logged: list[dict[str, float]] = []
        said: list[str] = []

        def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
            logged.append({"step": step, "total": total, **metrics})

        job = TrainingJob(
            model,
            None,
            rows,
            tmp_path / output,
            seed=7,
            log=log,
            work=tmp_path / work,
            rollouts=engine,
            say=said.append,
        )
        grpo(job, **{**QUICK, **settings})
        return Run(logged, said, job)

    return run


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def test_the_reward_rises_and_each_is_logged_by_its_name(
    train: Train, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(model, group_size=8)
    run = train(engine, max_steps=30, batch_size=8, gradient_accumulation=2, options={"max_grad_norm": 1.0})
    steps = run.logged[1:]
    assert [step["step"] for step in steps] == list(range(1, 31))
    first, last = (sum(s["rewards/low/mean"] for s in part) / 5 for part in (steps[:5], steps[-5:]))
    assert first < 0.6 and last > 0.85

    # one question a step, of all its completions, in the terms of the model
    assert engine.steps == list(range(1, 31)) and len(engine.scored) == 30 * 16
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    item = engine.scored[0]
    assert tokenizer.decode(item["prompt_ids"]) == f"<user>{item['task']}<|im_end|><assistant>"
    assert item["completion"] == tokenizer.decode(item["completion_ids"], skip_special_tokens=True)

    # `even` was not applicable to half of the tasks; the reward is the weighted sum of what was
    batch = engine.scored[:16]
    scores = [engine.scores(item["task"], item["completion_ids"]) for item in batch]
    share = sum(map(low, batch)) / 16
    even = [s["even"] for s in scores if s["even"] is not None]
    assert steps[0]["rewards/low/mean"] == pytest.approx(share, abs=1e-5)
    assert steps[0]["reward"] == pytest.approx(share + 0.5 * sum(even) / 16, abs=1e-5)
    if even:
        assert steps[0]["rewards/even/mean"] == pytest.approx(sum(even) / len(even))
    wanted = {"loss", "learning_rate", "grad_norm", "entropy", "reward_std", "frac_reward_zero_std", "step_time"}
    assert wanted | {"completions/mean_length", "completions/clipped_ratio", "tokens_per_second"} <= set(steps[0])
    assert {"adapter_config.json", "tokenizer.json"} <= {path.name for path in run.job.output.iterdir()}
    assert capfd.readouterr() == ("", "")


def test_an_agents_rollouts_are_learnt_where_the_model_sampled(train: Train, model: str) -> None:
    engine = Engine(
        model,
        sampling={"temperature": 0.7},
        single_turn=False,
        fails=lambda number: number == 1,
    )
    settings = {"max_steps": 3, "batch_size": 4, "gradient_accumulation": 2, "max_length": 40, "save_steps": 2}
    run = train(engine, **settings)
    first, *_, last = run.logged[1:]
    # of the 13 to 23 tokens of prompt and 36 of completion, the end is beyond max_length
    assert any("longer than max_length=40" in line for line in run.said)
    assert first["completions/max_length"] <= 8 and first["completions/min_length"] == 0
    assert first["rollouts_failed"] == pytest.approx(1 / 8)
    # the server's policy is the trainer's, at the recipe's temperature
    assert first["sampling_logp_difference"] < 1e-3
    assert engine.steps == [1, 2, 3] and engine.policies == ["policy-2", "policy-3"]
    assert last["grad_norm"] > 0

    again = train(engine, **settings)  # goes on from step 2, with its weights, under a name of their own
    assert engine.steps[3:] == [3] and engine.policies == ["policy-3", "policy-4"]
    assert again.logged[1]["sampling_logp_difference"] < 1e-3


def test_tokens_that_the_model_did_not_sample_have_no_gradient(model: str, tmp_path: Path, train: Train) -> None:
    """Rows that differ only where the mask is 0, after the last sampled token, train the same weights."""

    class Fixed(Engine):
        tail = "x"

        def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
            return [
                {
                    "prompt_ids": [5, 6, 7],
                    "completion_ids": [10 + n, 20 + n, *self.tail.encode()],
                    "mask": [1, 1, *[0 for _ in self.tail]],
                    "scores": {"low": n % 2, "even": None},
                }
                for n, _ in enumerate(tasks)
            ]

    made = []
    for tail in ("aa", "zz"):
        engine = Fixed(model, single_turn=False)
        engine.tail = tail
        train(engine, max_steps=1, batch_size=4, gradient_accumulation=1, work=tail, output=f"out-{tail}")
        made.append(weights(tmp_path / f"out-{tail}"))
    assert all((made[0][name] == made[1][name]).all() for name in made[0])
    assert any(tensor.any() for name, tensor in made[0].items() if "lora_B" in name)


def test_what_an_agent_said_without_the_model_is_no_ones_baseline(model: str, train: Train) -> None:
    class Silent(Engine):
        def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
            said = {"prompt_ids": [5, 6, 7], "completion_ids": [10, 20], "scores": {"low": 0.5, "even": None}}
            default = {"prompt_ids": [], "completion_ids": [], "scores": {"low": 1.0, "even": 1.0}, "failure": ""}
            return [default if n else said for n, _ in enumerate(tasks)]

    run = train(Silent(model, single_turn=False), max_steps=2, batch_size=4, gradient_accumulation=1)
    assert [step["rewards/low/mean"] for step in run.logged[1:]] == [0.5, 0.5]
    assert [step["grad_norm"] for step in run.logged[1:]] == [0.0, 0.0]  # the only one has nothing to compare with
    assert len([line for line in run.said if "the model said nothing" in line]) == 1
    assert any(line.startswith("in 3 of 4 rollouts in step 1 the model said nothing") for line in run.said)


def test_going_on_from_a_checkpoint_is_exact(train: Train, model: str, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "batch_size": 4, "gradient_accumulation": 1, "save_steps": 2, "save_limit": 4}
    whole, rest = Engine(model), Engine(model)
    train(whole, tasks=3, **settings, output="whole")
    for path in (tmp_path / "work").glob("checkpoint-[34]"):
        path.rename(tmp_path / f"kept-{path.name}")
    run = train(rest, tasks=3, **settings, output="rest")
    assert rest.steps == [3, 4]
    # the fourth step is in the second pass over the tasks
    assert [i["task"] for i in rest.scored] == [i["task"] for i in whole.scored[8:]]
    assert [i["completion_ids"] for i in rest.scored] == [i["completion_ids"] for i in whole.scored[8:]]
    one, two = weights(tmp_path / "whole"), weights(run.job.output)
    assert all((one[name] == two[name]).all() for name in one)


def test_all_rollouts_failing_ends_it(train: Train, model: str) -> None:
    engine = Engine(model, single_turn=False, fails=lambda _: True)
    with pytest.raises(TrainingError, match=r"All 4 rollouts of step 1 failed: 4 timeout"):
        train(engine, max_steps=1, batch_size=4, gradient_accumulation=1)


def test_outputs_that_are_no_numbers_end_it(train: Train, model: str) -> None:
    with pytest.raises(TrainingError, match=r"The loss is nan after step 1\. Lower"):
        train(Engine(model), max_steps=3, learning_rate=1e30, batch_size=4, options={"max_grad_norm": 0})


@pytest.mark.parametrize(
    ("engine", "settings", "message"),
    [
        ({"group_size": 1}, {}, "group of 1 has nothing to compare"),
        ({"sampling": {"temperature": 0, "max_tokens": 8}}, {}, "temperature is 0"),
        ({"sampling": {"max_tokens": None}}, {}, "max_tokens is not set"),
        ({"sampling": {"max_tokens": 4096}}, {}, "no room for a prompt"),
        ({"sampling": {"max_tokens": 8, "stop": ["x"]}}, {}, r"sampling\.stop"),
        ({"single_turn": False}, {"rollout": "trainer"}, "would not run this recipe's agent"),
        ({}, {"generation": "vllm"}, "generation: vllm cannot be used"),
        ({}, {"max_prompt_tokens": 3}, r"All of the 4 tasks have prompts of more than 3 tokens \(the shortest"),
        ({}, {"options": {"num_generations": 4}}, r"options\.num_generations: use loop\.group_size"),
    ],
)
def test_what_cannot_work_is_refused(
    train: Train, model: str, engine: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((TrainingError, SettingError), match=message):
        train(Engine(model, **engine), **settings)


def test_long_prompts_are_left_out() -> None:
    said: list[str] = []
    prompts = [Prompt("a", [{"role": "user", "content": "xx"}]), Prompt("b", [{"role": "user", "content": "xxxx"}])]
    kept = short_enough(prompts, lambda messages: [0] * len(messages[0]["content"]), 3, said.append)
    assert kept == prompts[:1]
    assert said == ["1 of 2 tasks left out: more than 3 tokens in the prompt (the longest has 4)"]


def test_the_order_of_tasks_goes_on_the_same() -> None:
    assert order(5, 12, seed=1)[:7] == order(5, 7, seed=1) != order(5, 7, seed=2)
    assert sorted(order(5, 12, seed=1)[5:10]) == list(range(5))


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        ({}, Plan(steps=25, prompts=100, period=1)),
        ({"steps_per_generation": 8}, Plan(steps=24, prompts=96, period=2)),
        ({"num_iterations": 3}, Plan(steps=75, prompts=100, period=3)),
    ],
)
def test_the_length_of_a_training(options: dict[str, Any], plan: Plan) -> None:
    batch = Batch(batch_size=8, accumulation=4, group_size=8)  # four prompts a step
    assert Plan.of(batch, options, 100, 1.0, -1) == plan
    assert Plan.of(batch, options, 3, 1.0, -1).steps == 1
    assert Plan.of(batch, options, 100, 1.0, 7).steps == 7
    with pytest.raises(TrainingError, match="make it a multiple"):
        Plan.of(batch, {"steps_per_generation": 6}, 100, 1.0, -1)


def test_rewards_without_variance_are_named_once(model: str, tmp_path: Path) -> None:
    said: list[str] = []
    job = TrainingJob(model, None, tmp_path, tmp_path, 0, lambda *_: None, say=said.append)
    watch = variance_watch(job, Engine(model))
    logs = {"frac_reward_zero_std": 1.0, "rewards/low/std": 0.1, "rewards/even/std": 0.0}
    for figures in [*[logs] * 5, {**logs, "frac_reward_zero_std": 0.0}, *[logs] * 12, {"train_runtime": 1.0}]:
        watch.on_log(None, None, None, logs=figures)
    assert len(said) == 1 and "for 10 steps" in said[0] and "(constant: even)" in said[0]


def to_vllm(model: Any) -> Any:
    """trl's side of vLLM, without vLLM: what hands out the weights."""
    from trl.generation.vllm_generation import VLLMGeneration

    side = object.__new__(VLLMGeneration)
    side.model = model
    side._dist = SimpleNamespace(is_fsdp=False, gather_params=lambda _: nullcontext())
    return side


ADAPTERS = {
    "plain": {},
    "dora": {"use_dora": True},
    "bias": {"lora_bias": True},
    "saved": {"modules_to_save": ["embed_tokens"]},
    "some": {"target_modules": ["q_proj", "down_proj"]},
}


def with_adapter(base: Any, **settings: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    trained = get_peft_model(base, LoraConfig(**{"target_modules": "all-linear", "lora_alpha": 64, **settings}))
    torch.manual_seed(1)
    for name, parameter in trained.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += torch.randn_like(parameter) * 0.1
    return trained


def sent_to_vllm(trained: Any) -> dict[str, Any]:
    """By guerdon, and looked at only after the last, as a server's packed transfer does."""
    side = to_vllm(trained)
    merge_into_copies(SimpleNamespace(vllm_generation=side))
    for _ in range(3):
        sent = list(side._iter_named_params())
    return dict(sent)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_vllm_gets_the_adapter_and_the_base_stays(model: str, adapter: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, attention_bias=True, mlp_bias=True)
    plain = {name: parameter.clone() for name, parameter in base.named_parameters()}
    trained = with_adapter(base, **adapter)
    before = {name: parameter.clone() for name, parameter in trained.named_parameters()}
    sent = sent_to_vllm(trained)
    assert all(torch.equal(parameter, before[name]) for name, parameter in trained.named_parameters())
    trls = {name: tensor.clone() for name, tensor in to_vllm(trained)._iter_named_params()}
    torch.testing.assert_close(sent, trls, rtol=2**-6, atol=2**-9)  # two roundings of bf16 apart
    changed = [name for name in sent if not torch.equal(sent[name], plain[name])]
    assert len([name for name in changed if name.endswith("proj.weight")]) == (4 if "target_modules" in adapter else 14)


@pytest.mark.parametrize(
    "adapter", [ADAPTERS["plain"], ADAPTERS["dora"], ADAPTERS["some"]], ids=["plain", "dora", "some"]
)
def test_vllm_gets_plain_weights_of_a_model_in_four_bits(tmp_path: Path, adapter: dict[str, Any]) -> None:
    pytest.importorskip("bitsandbytes")
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = save_model(tmp_path, byte_tokenizer(), hidden_size=64)  # blocks of 64
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_quant_storage=torch.bfloat16)
    loaded = AutoModelForCausalLM.from_pretrained(model, quantization_config=bits, dtype=torch.float32)
    trained = with_adapter(loaded, **adapter)
    before = {name: parameter.data.clone().view(torch.uint8) for name, parameter in trained.named_parameters()}
    sent = sent_to_vllm(trained)
    assert all(torch.equal(now.data.view(torch.uint8), before[name]) for name, now in trained.named_parameters())
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.arange(40)[None]
    untrained = plain(ids).logits
    plain.load_state_dict(sent, strict=False)
    now = trained(ids).logits.norm()
    assert (plain(ids).logits - trained(ids).logits).norm() < 0.02 * now  # bitsandbytes' own rounding
    assert (untrained - trained(ids).logits).norm() > 0.5 * now


def test_a_model_that_is_stored_in_four_bits_is_refused_for_vllm(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    plain = save_model(tmp_path / "plain", byte_tokenizer(), hidden_size=64)
    loaded = AutoModelForCausalLM.from_pretrained(plain, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    refuse_stored_bits(loaded, "vllm")
    loaded.save_pretrained(tmp_path / "bits")
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "bits")
    refuse_stored_bits(stored, "transformers")
    with pytest.raises(TrainingError, match=r"stored quantized.*tuning: qlora"):
        refuse_stored_bits(stored, "vllm-server")


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys")
def test_vllm_gets_the_experts_of_a_mixture(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4}
    torch.manual_seed(0)
    made = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=64, num_experts_per_tok=2, **sizes, **heads))
    made.save_pretrained(tmp_path)
    trained = with_adapter(made, lora_alpha=8)
    sent = sent_to_vllm(trained)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    plain.load_state_dict(sent)
    ids = torch.arange(20)[None]
    torch.testing.assert_close(plain(ids).logits, trained(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_one_end_of_tied_embeddings_is_refused(model: str) -> None:
    from transformers import AutoModelForCausalLM

    tied = AutoModelForCausalLM.from_pretrained(model, tie_word_embeddings=True)
    side = to_vllm(with_adapter(tied, modules_to_save=["lm_head"]))
    with pytest.raises(TrainingError, match=r"embeddings are one(.|\n)*lm_head"):
        merge_into_copies(SimpleNamespace(vllm_generation=side))


def test_what_vllm_is_told_of_the_sampling() -> None:
    said: list[str] = []

    def values(how: str, options: dict[str, Any] | None = None, **sampling: float) -> dict[str, Any]:
        return vllm_values(how, None, 64, {"top_p": 1.0, "top_k": 0, **sampling}, options or {}, said.append)

    plain = {"use_vllm": True, "vllm_max_model_length": 64, "vllm_mode": "colocate"}
    assert values("vllm") == plain and values("transformers", top_p=0.9) == {"use_vllm": False} and not said
    off = {"vllm_importance_sampling_correction": False}
    assert values("vllm", top_p=0.9) == values("vllm", top_k=5) == values("vllm", {"min_p": 0.1}) == plain | off
    assert len(said) == 3 and values("vllm", {"vllm_importance_sampling_correction": True}, top_p=0.9) == plain
    engine = Engine("m", sampling={"stop": ["x"]})
    assert stop_values("vllm-server", engine, 7) == {"stop": ["x"], "stop_token_ids": [7]}
    assert stop_values("vllm", Engine("m"), 7) == {"stop_token_ids": [7]} and stop_values("agent", engine, 7) == {}


def test_weights_that_no_adapter_changes_are_trls_to_send(model: str) -> None:
    from transformers import AutoModelForCausalLM

    side = to_vllm(AutoModelForCausalLM.from_pretrained(model))
    merge_into_copies(SimpleNamespace(vllm_generation=side))
    merge_into_copies(SimpleNamespace())
    assert "_iter_named_params" not in vars(side)


def test_rollouts_as_rows() -> None:
    whole = {"prompt_ids": [1, 2], "completion_ids": [3, 4, 5], "mask": [1, 0, 1], "logprobs": [-1.0, 0.0, None]}
    made = row({**whole, "scores": {"a": 1.0}}, 4, filler=9)
    assert made == {
        "prompt_ids": [1, 2],
        "completion_ids": [3, 4],
        "env_mask": [1, 0],
        "logprobs": [-1.0, 0.0],
        "scores": {"a": 1.0},
        "failed": False,
        "cut": True,
    }
    assert row(whole, 5, 9)["logprobs"] == [-1.0, 0.0, 0.0] and not row(whole, 5, 9)["cut"]
    too_long = row({**whole, "scores": {"a": 1.0}}, 2, 9)
    assert (too_long["env_mask"], too_long["scores"], too_long["cut"]) == ([0], {"a": 1.0}, True)
    failed = row({"prompt_ids": [], "completion_ids": [], "failure": "timeout"}, 9, 9)
    assert (failed["completion_ids"], failed["env_mask"], failed["scores"]) == ([9], [0], {})


TWO = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_grpo import QUICK, Engine
from guerdon.training import TrainingJob
from guerdon_trainers.generating import refuse_stored_bits, stop_values, vllm_values
from guerdon_trainers.grpo import grpo
from guerdon_trainers.merged import merge_into_copies

class Closed:
    def __getattr__(self, name):
        raise AssertionError(f"asked in rank 1: {name}")

rank, folder, model = int(os.environ["RANK"]), Path(sys.argv[1]), sys.argv[2]
for name, single_turn in ("trainer", True), ("agent", False):
    engine = Engine(model, single_turn=single_turn)
    if rank:
        engine.score = engine.generate = Closed()
    logged = []
    log = (lambda step, total, metrics: logged.append(metrics)) if not rank else (lambda *_: None)
    job = TrainingJob(model, None, folder / "tasks.jsonl", folder / name, 7, log, folder / f"work-{name}",
                      rollouts=engine, main=not rank, world=2)
    grpo(job, **QUICK, max_steps=2, batch_size=2, gradient_accumulation=1)
    if not rank:
        (folder / f"{name}.json").write_text(json.dumps([engine.steps, engine.scored, logged[1:]]))
"""


def test_two_processes_ask_through_the_main_one(model: str, tmp_path: Path) -> None:
    rows = [{"task": f"t{i}", "prompt": [{"role": "user", "content": f"t{i}"}]} for i in range(4)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alike = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    alike |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path), model, str(Path(__file__).parent)],
            env={**os.environ, **alike, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        out = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(out)

    steps, scored, logged = json.loads((tmp_path / "trainer.json").read_text())
    assert steps == [1, 2]
    # one group of four a step, two of them from each process; each its own
    assert [len({item["task"] for item in scored[i : i + 4]}) for i in (0, 4)] == [1, 1]
    assert len({tuple(item["completion_ids"]) for item in scored}) == 8
    assert logged[0]["rewards/low/mean"] == pytest.approx(sum(low(item) for item in scored[:4]) / 4, abs=1e-5)

    steps, _, logged = json.loads((tmp_path / "agent.json").read_text())
    assert steps == [1, 2]
    assert logged[0]["sampling_logp_difference"] < 1e-3 and logged[0]["grad_norm"] > 0
    assert weights(tmp_path / "agent")


def low(item: Mapping[str, Any]) -> float:
    return sum(i < 128 for i in item["completion_ids"]) / len(item["completion_ids"])
