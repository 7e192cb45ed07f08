"""Before a training: batches, memory, the model's files, the rewards. After a failed one: what its log says."""

import asyncio
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from command import guerdon, write_recipe
from hypothesis import given
from hypothesis import strategies as st

from guerdon.loading import read_recipe
from guerdon.plugins import Plugins
from guerdon.recipe import Launch
from guerdon.registry import Registry
from guerdon.resolve import resolve
from guerdon.reward_check import check_rewards
from guerdon.settings import SettingError, validate
from guerdon.task import Task
from guerdon.training import Facts
from guerdon_trainers import preflight
from guerdon_trainers.batches import solve
from guerdon_trainers.failures import explain, savings
from guerdon_trainers.grpo import grpo
from guerdon_trainers.memory import Model, estimate, read_config, read_model
from guerdon_trainers.option_names import GRPO as GRPO_CONFIG
from guerdon_trainers.option_names import LORA, SFT, option_names
from guerdon_trainers.sft import sft

LLAMA = {"model_type": "llama", "tie_word_embeddings": True}
CONFIGS: dict[str, tuple[int, dict[str, Any]]] = {
    "SmolLM2-135M": (
        134_515_008,
        {**LLAMA, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
        | {"num_key_value_heads": 3, "vocab_size": 49152},
    ),
    "Qwen2.5-0.5B": (
        494_032_768,
        {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    ),
    "Qwen2.5-1.5B": (
        1_543_714_304,
        {"model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
        | {"num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    ),
    "Qwen3-8B": (
        8_190_735_360,
        {"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
        | {"tie_word_embeddings": False},
    ),
    "gemma-3-1b": (
        999_885_952,
        {"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26}
        | {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144},
    ),
    "Qwen3-30B-A3B": (
        30_532_122_624,
        {"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768}
        | {"num_experts": 128, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4}
        | {"head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False},
    ),
}


def sizes(name: str) -> Model:
    model = read_model(CONFIGS[name][1])
    assert model
    return model


# Batches


@pytest.mark.parametrize(
    ("asked", "batch"),
    [
        ({"batch_size": 1, "accumulation": 9, "global_batch": 4}, (1, 4)),
        ({"batch_size": 4, "accumulation": 1, "global_batch": 4, "world": 2}, (2, 1)),
        ({"batch_size": 1, "accumulation": 1, "group_size": 6}, (1, 6)),
        ({"batch_size": 5, "accumulation": 1, "group_size": 6}, (3, 2)),
        ({"batch_size": 2, "accumulation": 4, "group_size": 8, "world": 4}, (2, 4)),
        ({"batch_size": 1, "accumulation": 1, "group_size": 4, "world": 3}, (1, 4)),
    ],
)
def test_the_batch_that_is_meant(asked: dict[str, int], batch: tuple[int, int]) -> None:
    made = solve(**asked)
    assert (made.batch_size, made.accumulation) == batch
    changed = made.batch_size != asked["batch_size"] or (
        "global_batch" not in asked and made.accumulation != asked["accumulation"]
    )
    assert bool(made.mended) == changed


@given(
    st.integers(1, 32),
    st.integers(1, 16),
    st.none() | st.integers(1, 200),
    st.integers(1, 9),
    st.none() | st.integers(2, 12),
)
def test_a_batch_is_legal_or_refused(rows: int, passes: int, wanted: int | None, world: int, group: int | None) -> None:
    def made(global_batch: int | None) -> Any:
        return solve(batch_size=rows, accumulation=passes, global_batch=global_batch, world=world, group_size=group)

    try:
        batch = made(wanted)
    except SettingError as error:
        assert wanted
        nearest = [int(word) for word in str(error).partition("take ")[2].split() if word.isdigit()]
        assert nearest and all(made(near).total == near for near in nearest)
        return
    assert batch.batch_size <= rows, "more rows a pass cost memory"
    assert batch.total == batch.batch_size * batch.accumulation * world
    assert batch.total == wanted if wanted else batch.total >= rows * passes * world
    assert batch.total % (group or 1) == 0
    assert batch.eval_batch_size * world % (group or 1) == 0


def test_a_batch_in_words() -> None:
    assert str(solve(batch_size=2, accumulation=4, world=2)) == "global batch 16 = 2 rows x 4 passes x 2 processes"
    grouped = solve(batch_size=1, accumulation=1, group_size=6)
    assert str(grouped) == "global batch 6 = 1 row x 6 passes = 1 prompt x 6 attempts"
    assert grouped.mended == "gradient_accumulation is 6 instead of 1, for whole groups of 6 attempts in a step"


# Memory


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_counted_from_the_config(name: str, tmp_path: Path) -> None:
    count, config = CONFIGS[name]
    (tmp_path / "config.json").write_text(json.dumps({"text_config": config} if "gemma" in name else config))
    read = read_config(str(tmp_path))
    assert read and (model := read_model(read)) and model.parameters == count


def test_the_adapter_of_qwen3_8b() -> None:
    assert sizes("Qwen3-8B").adapter(32) == 87_293_952  # as peft prints it
    assert sizes("Qwen3-8B").adapter(16, ["q_proj"]) == 36 * 16 * (4096 + 4096)


def test_memory_by_tuning_and_strategy() -> None:
    model = sizes("Qwen3-8B")
    full, lora, qlora = (estimate(model, tuning=t, tokens=4096) for t in ("full", "lora", "qlora"))
    assert full.total > 60 > 24 > lora.total > 16 > qlora.total
    assert estimate(model, tokens=4096, checkpointing=False).activations > 5 * lora.activations
    assert estimate(model, tuning="full", optimizer="adamw_8bit", tokens=4096).optimizer < full.optimizer
    two, three, shards = (
        estimate(model, tuning="full", tokens=4096, world=8, strategy=s) for s in ("zero2", "zero3", "fsdp2")
    )
    assert two.weights == full.weights and two.gradients == full.gradients / 8
    assert three.weights == shards.weights == full.weights / 8
    assert estimate(model, tuning="full", tokens=4096, world=8).total == full.total, "ddp splits nothing"
    assert "weights 16.4 + gradients 16.4" in str(full)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_activations_are_estimated_above_what_autograd_keeps(tuning: str) -> None:
    """Of a small Llama with padded rows, in bf16; measured by the tensors that it saves."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = {**CONFIGS["SmolLM2-135M"][1], "num_hidden_layers": 4, "vocab_size": 64}
    config |= {"hidden_size": 144, "intermediate_size": 384, "pad_token_id": 0}
    decoder: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).to(torch.bfloat16).train()
    if tuning == "lora":
        decoder = peft.get_peft_model(decoder, peft.LoraConfig(r=4, target_modules="all-linear"))
    known, kept = {each.data_ptr() for each in decoder.parameters()}, dict[int, Any]()

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # held, so that no other has its address
        return tensor

    ids = torch.randint(1, 64, (2, 128))
    mask = (torch.arange(128) >= torch.tensor([[0], [40]])).long()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        decoder(input_ids=ids, attention_mask=mask, logits_to_keep=1)
    measured = sum(storage.nbytes() for storage in kept.values()) / 1e9
    read = read_model(config)
    assert read
    estimated = estimate(read, tuning=tuning, lora_rank=4, tokens=256, checkpointing=False).activations
    assert measured < estimated < 1.8 * measured


# Preflight


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["SmolLM2-135M"][1]))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 64)
    return folder


def run(trainer: Any, model: Path | str, settings: Mapping[str, Any], **facts: Any) -> list[str]:
    complete = validate(trainer.__name__, trainer, settings)
    facts = {"launch": Launch.model_validate({}), **facts}
    return list(getattr(preflight, trainer.__name__)(complete, Facts(str(model), **facts)))


def refusal(trainer: Any, model: Path | str, settings: Mapping[str, Any], **facts: Any) -> SettingError:
    with pytest.raises(SettingError) as raised:
        run(trainer, model, settings, **facts)
    return raised.value


GRPO: dict[str, Any] = {
    "group_size": 6,
    "rewards": (("numeric", 1.0),),
    "sampling": {"temperature": 1.0, "max_tokens": 100},
    "single_turn": True,
}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("N_GPUS", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_notes_on_sft(model: Path) -> None:
    backend, batch, memory = run(sft, model, {"global_batch": 16, "epochs": 2}, rows=100, checking=True)
    assert backend.startswith("backend transformers: ")
    assert batch == "global batch 16 = 2 rows x 8 passes; 100 rows: 7 steps an epoch, 14 steps in all"
    assert memory.startswith("memory, roughly, were all rows as long as max_length: ") and "weights 0.5" in memory


def test_notes_on_grpo(model: Path) -> None:
    notes = run(grpo, model, {"batch_size": 1, "gradient_accumulation": 1, "max_steps": 250}, rows=50, **GRPO)
    assert "gradient_accumulation is 6 instead of 1, for whole groups of 6 attempts in a step" in notes
    assert any(n.endswith("1 prompt x 6 attempts; 50 tasks: 50 steps an epoch, 250 steps in all") for n in notes)
    assert not any("stays awake" in note for note in notes)
    assert any("needs memory beside that" in note for note in run(grpo, model, {}, **{**GRPO, "single_turn": False}))


def test_a_model_that_is_not_here_has_no_estimate() -> None:
    assert any("memory: no estimate for nobody/nothing" in note for note in run(sft, "nobody/nothing", {}))


@pytest.mark.parametrize(
    ("trainer", "settings", "facts", "path", "words"),
    [
        (sft, {"global_batch": 7}, {"launch": Launch(gpus=2)}, ("global_batch",), "take 6 or 8"),
        (sft, {"early_stop": 2}, {}, ("early_stop",), "data.validation"),
        (sft, {"backend": "unsloth"}, {}, ("backend",), "unsloth"),
        (
            sft,
            {"backend": "transformers", "gradient_checkpointing": "unsloth"},
            {},
            ("gradient_checkpointing",),
            "Set it to true",
        ),
        (sft, {}, {"launch": Launch(gpus=2, strategy="zero3")}, ("launch", "strategy"), "is for GPUs"),
        (sft, {}, {"launch": Launch(nodes=2)}, ("launch", "main_address"), "MASTER_ADDR"),
        (grpo, {}, {"group_size": 1}, ("loop", "group_size"), "2 or more"),
        (grpo, {}, {"sampling": {"temperature": 0}}, ("sampling", "temperature"), "all be the same"),
        (grpo, {}, {"rewards": ()}, ("rewards",), "no rewards"),
        (grpo, {"rollout": "trainer"}, {"single_turn": False}, ("rollout",), "auto or agent"),
        (grpo, {"global_batch": 8}, {}, ("global_batch",), "6 or 12"),
        (grpo, {"max_length": 100}, {}, ("sampling", "max_tokens"), "no room for a prompt"),
        (grpo, {}, {"sampling": {}}, ("sampling", "max_tokens"), "answers need a bound"),
        (grpo, {"options": {"num_generations": 4}}, {}, ("options", "num_generations"), "use loop.group_size"),
        (sft, {"options": {"learning_rate": 2}}, {}, ("options", "learning_rate"), "use learning_rate instead"),
        (sft, {"options": {"packing": True}}, {}, ("options", "packing"), "use packing instead"),
        (sft, {"lora_options": {"r": 8}}, {}, ("lora_options", "r"), "use lora_rank instead"),
        (sft, {"learning_rate": math.inf}, {}, ("learning_rate",), "finite"),
        (sft, {"epochs": math.inf}, {}, ("epochs",), "finite"),
        (sft, {"chat_template": "/nowhere/mine.jinja"}, {"checking": True}, ("chat_template",), "/nowhere/mine.jinja"),
        (sft, {"report_to": ["wandbb"]}, {"checking": True}, ("report_to",), "Did you mean 'wandb'?"),
    ],
)
def test_what_cannot_work(
    model: Path, trainer: Any, settings: dict[str, Any], facts: dict[str, Any], path: tuple[str, ...], words: str
) -> None:
    error = refusal(trainer, model, settings, **({**GRPO, **facts} if trainer is grpo else facts))
    assert error.path == path and words in str(error)


LACKED: dict[tuple[str, ...], tuple[dict[str, Any], str]] = {
    ("resume_from",): ({"resume_from": "/nowhere/checkpoint-1"}, "no folder /nowhere/checkpoint-1"),
    ("report_to",): ({"report_to": ["console", "wandb"]}, "pip install wandb"),
    ("tuning",): ({"tuning": "qlora"}, "needs bitsandbytes"),
    ("options", "model_init_kwargs", "attn_implementation"): (
        {"options": {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}},
        "pip install kernels, which fetches it built, or flash-attn itself",
    ),
}


@pytest.mark.parametrize("path", LACKED)
def test_what_this_machine_lacks_is_an_error_where_it_would_run(
    model: Path, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    for package in ("bitsandbytes", "wandb", "flash_attn", "kernels"):
        monkeypatch.setitem(sys.modules, package, None)
    settings, words = LACKED[path]
    error = refusal(sft, model, settings)
    assert error.path == path and words in str(error)
    note, *_ = run(sft, model, settings, checking=True)
    assert note.startswith("on this machine it could not run: ") and words in note


def test_a_template_is_looked_for_from_the_recipes_folder(model: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "recipes").mkdir()
    write_recipe(folder, "", model=str(model), backend="transformers", trainer={"sft": {"chat_template": "mine.jinja"}})
    said = guerdon(tmp_path, "check", "recipes/recipe.yaml", code=1).err
    assert "trainer.sft.chat_template: " in said and f"there is no file {folder / 'mine.jinja'}" in said
    (folder / "mine.jinja").write_text("{{ messages }}")
    guerdon(tmp_path, "check", "recipes/recipe.yaml")


def test_options_that_the_libraries_do_not_have(model: Path) -> None:
    trl, peft = pytest.importorskip("trl"), pytest.importorskip("peft")
    for target, cls in ((SFT, trl.SFTConfig), (GRPO_CONFIG, trl.GRPOConfig), (LORA, peft.LoraConfig)):
        assert option_names(target) == {field.name for field in dataclasses.fields(cls) if field.init}
    for trainer, facts, owner in ((sft, {}, "SFTConfig"), (grpo, GRPO, "GRPOConfig")):
        error = refusal(trainer, model, {"options": {"lerning_rate": 2}}, **facts)
        assert error.path == ("options", "lerning_rate")
        assert f"trl's {owner} has no such option. Did you mean 'learning_rate'?" in str(error)
    assert "peft's LoraConfig has no" in str(refusal(sft, model, {"lora_options": {"lora_droput": 0.1}}))
    assert run(sft, model, {"options": {"max_grad_norm": 2}, "lora_options": {"lora_dropout": 0.1}})


def test_all_that_transformers_reports_to_is_known() -> None:
    pytest.importorskip("transformers")
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(INTEGRATION_TO_CALLBACK) <= set(preflight.REPORTS)


def test_files_that_a_model_lacks_are_named(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (model / shards["a"]).write_bytes(b"\0" * 64)
    assert f"lacks tokenizer.json, {shards['b']}:" in str(refusal(sft, model, {}))
    (model / "model.safetensors.index.json").unlink()
    (model / "tokenizer.json").write_text("{}")
    (model / shards["a"]).unlink()
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "lacks model.safetensors:" in str(refusal(sft, model, {}))


def test_an_adapter_in_the_models_place(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base", "r": 8}')
    assert "set model: some/base and adapter:" in str(refusal(sft, model, {}))


def test_an_adapter_to_go_on_from(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    assert "lacks adapter_config.json and adapter_model.safetensors" in str(refusal(sft, model, {}, adapter=adapter))
    (adapter / "adapter_config.json").write_text('{"r": 8}')
    (adapter / "adapter_model.safetensors").write_bytes(b"\0" * 64)
    assert refusal(sft, model, {}, adapter=adapter).path == ("lora_rank",)
    assert refusal(sft, model, {"tuning": "full"}, adapter=adapter).path == ("tuning",)
    assert run(sft, model, {"lora_rank": 8}, adapter=adapter)


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    """On `model`, of rank 8 on two layers."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    has = {"r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "lora_dropout": 0.0}
    (folder / "adapter_config.json").write_text(json.dumps({**has, "base_model_name_or_path": str(model)}))
    (folder / "adapter_model.safetensors").write_bytes(b"\0" * 64)
    return folder


ITS: dict[str, Any] = {"lora_rank": 8, "lora_alpha": 16}


def test_an_adapter_keeps_its_shape(model: Path, adapter: Path) -> None:
    assert refusal(sft, model, {"lora_rank": 8}, adapter=adapter).path == ("lora_alpha",)
    error = refusal(sft, model, {**ITS, "lora_targets": ["q_proj", "k_proj"]}, adapter=adapter)
    assert error.path == ("lora_targets",) and "has ['q_proj', 'v_proj']: set it to that" in str(error)
    same = {**ITS, "lora_targets": ["q_proj", "v_proj"], "lora_options": {"lora_dropout": 0.0}}
    assert run(sft, model, same, adapter=adapter) == run(sft, model, {**ITS, "lora_targets": same["lora_targets"]})
    note, *_ = run(sft, model, {**ITS, "lora_options": {"lora_dropout": 0.1}}, adapter=adapter)
    assert note == f"lora_options.lora_dropout is 0.1, but the adapter {adapter} keeps what it has, 0.0"


@pytest.mark.parametrize(
    ("base", "other"),
    [
        ("", False),
        ("MODEL", False),
        ("nobody/Model", False),
        ("/elsewhere/model", False),
        ("/cache/models--nobody--model/snapshots/0123456789abcdef", False),
        ("nobody/nothing", True),
        ("/cache/models--nobody--nothing/snapshots/0123456789abcdef", True),
        ("ANOTHER", True),
    ],
)
def test_an_adapter_of_another_base_is_noted(model: Path, adapter: Path, base: str, other: bool) -> None:
    (another := adapter.parent / "another" / "model").mkdir(parents=True)  # of the same name
    base = {"MODEL": str(model), "ANOTHER": str(another)}.get(base, base)
    has = {"r": 8, "lora_alpha": 16, "base_model_name_or_path": base}
    (adapter / "adapter_config.json").write_text(json.dumps(has))
    said = any(f"was trained on {base}, and the model is {model}" in n for n in run(sft, model, ITS, adapter=adapter))
    assert said == other


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give this machine GPUs, through a stand-in for the program nvidia-smi: lines as it would print them."""

    def give(*lines: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        preflight.cards.cache_clear()

    yield give
    preflight.cards.cache_clear()


def test_a_card_too_small_is_told_with_what_helps(model: Path, cards: Callable[..., None]) -> None:
    cards("0, GPU-1, Tesla T4, 15360, 7.5", "1, GPU-2, Tesla T4, [N/A], 7.5")
    (model / "config.json").write_text(json.dumps(CONFIGS["Qwen3-8B"][1]))
    *_, memory = run(sft, model, {"backend": "transformers"})
    assert "Tesla T4 has 16.1 GB, which is too little" in memory and "tuning: qlora" in memory
    *_, memory = run(sft, model, {"backend": "transformers", "tuning": "qlora", "max_length": 1024}, checking=True)
    assert memory.endswith("Tesla T4 has 16.1 GB")
    assert preflight.precision() == "fp16"
    error = refusal(sft, model, {}, launch=Launch(gpus=3))
    assert error.path == ("launch", "gpus") and "this machine has 2 (Tesla T4)" in str(error)


def test_a_server_that_rolls_out_beside_the_training_is_counted(model: Path, cards: Callable[..., None]) -> None:
    """On an H100 with a server of 0.3, 8 rows of 1,536 tokens were trained on, and 32 ran out of memory."""
    cards("0, GPU-1, NVIDIA H100, 81559, 9.0")
    settings = {"max_length": 1536, "lora_rank": 64, "gradient_checkpointing": False, "backend": "transformers"}
    facts = {**GRPO, "group_size": 8, "single_turn": False, "server_share": 0.3}

    def notes(rows: int, trainer: Any = grpo, **others: Any) -> list[str]:
        return run(trainer, model, {**settings, "batch_size": rows, "gradient_accumulation": 4}, **{**facts, **others})

    *_, memory, server = notes(32)
    assert " + server 26.7 + libraries 1.0; NVIDIA H100 has 85.5 GB, which is too little. What helps: batch_" in memory
    assert "backend: {vllm: {gpu_memory: ...}} below 0.3, for the vLLM server" in memory
    assert "gradient_checkpointing: true" in memory
    assert "vllm_gpu_memory_utilization" not in memory, "the trainer does not generate"
    assert server.endswith("stays awake: 0.3 of the card (its gpu_memory), 26.7 GB, counted in")
    assert notes(8)[-2].endswith("+ server 26.7 + libraries 1.0; NVIDIA H100 has 85.5 GB")
    for asleep in (notes(32, sft), notes(32, single_turn=True)):
        assert "server" not in asleep[-1] and asleep[-1].endswith("NVIDIA H100 has 85.5 GB")
    assert notes(32, single_turn=True, server_share=0.9) == notes(32, single_turn=True)
    assert "needs memory beside that" in notes(32, server_share=0.0)[-1]


def test_what_is_told_of_the_server_is_what_the_backend_is_given(model: Path, tmp_path: Path) -> None:
    def checked(backend: Any) -> str:
        several = {"loop": {"group_size": 4}, "trainer": "grpo", "agent": "tool"}
        write_recipe(tmp_path, "", model=str(model), backend=backend, **several)
        return guerdon(tmp_path, "check", "recipe.yaml").out

    assert "stays awake: 0.3 of the card (its gpu_memory), which is not counted in" in checked(
        {"vllm": {"gpu_memory": 0.3}}
    )
    assert "stays awake: 0.7 of the card" in checked("vllm")
    for unknown in ({"vllm": {"url": "http://127.0.0.1:9"}}, "transformers"):
        assert "if it is on the same card" in checked(unknown)


def test_preflight_is_light() -> None:
    code = "import guerdon_trainers.preflight, sys; print({'torch', 'transformers', 'trl'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# Rewards

REWARDS = """
def broken(completion): return 1 / len(completion)
def same(completion): return 0.5
def backwards(completion): return 0.0 if completion else 1.0
def picky(completion): return 1.0 if completion.endswith("</x>") else 0.0 if completion else -1.0
def silent(completion): return None
def brake(completion): return float(len(completion))
def spread(completions): return [float(i) for i, _ in enumerate(completions)]
"""


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        (["numeric", "correctness", "integer", "xml_format", "length"], []),
        ([{"xml_format": {"style": "soft", "compat": True}}], []),
        (["./r.py:spread", {"./r.py:brake": {"weight": -0.1}}], []),
        (["./r.py:broken"], ["fails on an empty completion: raised: ZeroDivisionError"]),
        (["./r.py:same", "numeric"], ["'same' gives 0.5 to everything tried"]),
        (["./r.py:silent"], ["'silent' does not apply to anything"]),
        (["./r.py:backwards"], ["'backwards' gives a right answer less than an empty completion: at most 0, and 1"]),
        (["./r.py:picky"], ["'picky' gives a right answer nothing"]),
        (["numeric", {"./r.py:backwards": {"weight": 5}}], ["'backwards' gives a right answer less"]),
        ([{"./r.py:brake": {"weight": -1}}], ["all rewards together give a right answer"]),
    ],
)
def test_rewards_on_right_and_wrong_answers(tmp_path: Path, rewards: list[Any], words: list[str]) -> None:
    notes = reward_notes(tmp_path, rewards, [Task("a", "1 + 1?", "2"), Task("b", "2 + 1?", "3")])
    assert len(notes) == len(words) and all(word in note for word, note in zip(words, notes, strict=True)), notes


def test_rewards_without_a_reference(tmp_path: Path) -> None:
    assert reward_notes(tmp_path, ["length"], [Task("a", "Say something.")]) == [
        "the tasks have no `answer`: the rewards were tried on wrong completions only"
    ]


def reward_notes(folder: Path, rewards: list[Any], tasks: list[Task]) -> list[str]:
    (folder / "r.py").write_text(REWARDS)
    (folder / "recipe.yaml").write_text(
        json.dumps({"model": "some/model", "tasks": {"path": "tasks.jsonl"}, "rewards": rewards})
    )
    loaded = read_recipe(folder / "recipe.yaml", ())
    return asyncio.run(check_rewards(resolve(loaded, Registry(Plugins(), loaded.folder)), tasks))


# Failures

SETTINGS = {"batch_size": 4, "gradient_accumulation": 2, "max_length": 2048, "lora_rank": 32, "learning_rate": 2e-4}

LOGS = {
    "the GPU's memory ran out": [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        "14.74 GiB of which 1.12 GiB is free.",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
    "vLLM found too little GPU memory": [
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
        "ValueError: Free memory on device (20.1/79.11 GiB) on startup is less than desired GPU memory utilization "
        "(0.9, 71.2 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
    ],
    "the disk is full": [
        "OSError: [Errno 28] No space left on device",
        "safetensors_rust.SafetensorError: Error while serializing: I/O error: Os { code: 28, kind: StorageFull, ... }",
    ],
    "/dev/shm is full": [
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
        "RuntimeError: unable to write to file </torch_1234_567_0>: No space left on device (28)",
    ],
    "the machine's memory ran out": [
        "MemoryError",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 9437184 bytes. Error code 12 (Cannot allocate memory)",
        "torch.distributed.elastic.multiprocessing.api:failed (exitcode: -9) local_rank: 0 (pid: 4242)",
    ],
    "CUDA could not be started": [
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 999: CUDA unknown error - this may be due to "
        "an incorrectly set up environment",
        "NotImplementedError: Unsloth cannot find any torch accelerator? You need a GPU.",
        "ValueError: Your setup doesn't support bf16/gpu.",
    ],
    "a compiled extension does not fit": [
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "ImportError: flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEi",
        "RuntimeError: operator torchvision::nms does not exist",
    ],
    "an index was out of range": [
        "RuntimeError: CUDA error: device-side assert triggered",
        "IndexError: index out of range in self",
    ],
    "the training diverged": ["TrainingError: The loss is nan at step 3."],
    "the launch's port is taken": [
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
    ],
    "the processes lost each other": [
        "[rank1]:[E ProcessGroupNCCL.cpp:685] [Rank 1] Watchdog caught collective operation timeout: "
        "WorkNCCL(SeqNum=27, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600021 milliseconds before timing out.",
        "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242",
    ],
    "the chat template does not take these rows": [
        "ValueError: Cannot use chat template functions because tokenizer.chat_template is not set",
        "jinja2.exceptions.TemplateError: Conversation roles must alternate user/assistant/user/assistant/...",
    ],
    "the tokenizer could not be used": [
        "OSError: Can't load tokenizer for './model'. If you were trying to load it from the hub, make sure you don't",
        "ValueError: Asking to pad but the tokenizer does not have a padding token.",
    ],
    "the model could not be got": [
        "OSError: You are trying to access a gated repo.",
        "OSError: nobody/nothing is not a local folder and is not a valid model identifier listed on the hub",
    ],
}


@pytest.mark.parametrize(("cause", "line"), [(cause, line) for cause, lines in LOGS.items() for line in lines])
def test_the_cause_is_read_from_the_log(cause: str, line: str) -> None:
    log = f'  | Traceback (most recent call last):\n  |   File "x.py", line 3, in step\n  | {line}\n  | the end'
    said = explain(log, 1, SETTINGS)
    assert said.startswith(f"What happened: {cause} ({line[:100]}") and said.count("\n  - ") >= 1


def test_the_cause_is_read_from_the_exit_code_and_the_deadline() -> None:
    assert "the machine had no memory left" in explain("", -9, SETTINGS)
    assert "segmentation fault" in explain("", -11, SETTINGS)
    late = explain("", None, SETTINGS, timeout=600)
    assert "not done after 600 s (loop.train_timeout)" in late and "nvidia-smi" in late
    assert explain("KeyError: 'x'", 1, SETTINGS) == ""


def test_what_saves_memory_goes_by_the_settings() -> None:
    full = savings(validate("grpo", grpo, {"tuning": "full", "batch_size": 4, "gradient_accumulation": 2}))
    assert full[0].startswith("batch_size 1 instead of 4 and gradient_accumulation 8")
    order = ["batch_size", "gpu_memory: ...", "max_length", "tuning: lora", "tuning: qlora", "gradient_check"]
    order += ["sampling.max_tok", "vllm_gpu"]
    places = [next(i for i, step in enumerate(full) if word in step) for word in order]
    assert places == sorted(places)
    small = validate("sft", sft, {"tuning": "qlora", "batch_size": 1, "max_length": 256, "lora_rank": 8})
    assert savings({**small, "backend": "transformers"}) == [savings({})[-1]]


def test_the_words_of_the_installed_torch_are_known() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    assert "the machine's memory ran out" in explain(str(raised.value), 1, SETTINGS)
