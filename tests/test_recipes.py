"""The packaged recipes: their values are those of the documents that they are named after, and they run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Ran, guerdon, last_run, trajectories
from tiny import byte_tokenizer, save_model

import guerdon_trainers
from guerdon.errors import RecipeError
from guerdon.launch import load_recipe
from guerdon.loading import parse_recipe
from guerdon.packaged import packaged_recipes
from guerdon.plugins import Plugins
from guerdon.recipe import Recipe, Validation
from guerdon.registry import Registry
from guerdon.resolve import resolve
from guerdon.settings import settings_model
from guerdon_backends.vllm_server import vllm

RECIPES = Path(guerdon_trainers.__file__).parent / "recipes"
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

LOCAL = {
    "gsm-hard-loop": ["tasks={path: hard.jsonl}", "eval.holdout=2", "backend=auto"],  # vllm is for a GPU
    "gsm8k-loop": ["tasks={path: gsm8k.jsonl}", "eval.tasks={path: gsm8k.jsonl, limit: 2}"],
    "gsm8k-grpo": ["tasks={path: gsm8k.jsonl}", "eval.tasks={path: gsm8k.jsonl, limit: 2}"],
    "verl-sft": [],
    "open-r1-sft": ["data={path: openr1.jsonl, fields: {messages: messages}}"],
    "qwen3-8b-sft": [
        "data.mix=[{path: math.jsonl, fields: {prompt: problem, response: generated_solution}, weight: 0.75}, "
        "{path: chat.jsonl, weight: 0.25}]"
    ],
}
"""The same data as files here."""

CPU = ["options.optim=adamw_torch", "threads=1", "tuning=lora", "lora_rank=4", "batch_size=2", "max_steps=2"]
SHRUNK = {
    "gsm-hard-loop": [*CPU, "gradient_accumulation=1", "max_length=512"],
    "gsm8k-loop": [*CPU, "gradient_accumulation=1", "max_length=512"],
    "gsm8k-grpo": [*CPU, "gradient_accumulation=1", "max_length=512"],
    "verl-sft": ["threads=1", "max_steps=4"],
    "open-r1-sft": "threads=1 batch_size=2 max_steps=2 max_length=512 report_to=[] options.model_init_kwargs=null "
    "options.use_liger_kernel=false options.logging_steps=1".split(),
    "qwen3-8b-sft": [*CPU, "gradient_accumulation=1", "max_length=512"],
}
"""Settings of the trainer, for a CPU and a few seconds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes' data in small."""
    folder = tmp_path_factory.mktemp("recipes")

    def lines(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    sums = [(f"What is {i} plus 4?", i + 4) for i in range(12)]
    lines("hard.jsonl", [{"code": "def solution(): ...", "input": q, "target": float(a)} for q, a in sums[:6]])
    lines("gsm8k.jsonl", [{"question": q, "answer": f"It is <<{a}={a}>>{a}.\n#### {a}"} for q, a in sums[:6]])
    talk = [[{"role": "user", "content": q}, {"role": "assistant", "content": str(a)}] for q, a in sums]
    lines("openr1.jsonl", [{"problem": m[0]["content"], "solution": "so", "messages": m} for m in talk])
    lines("math.jsonl", [{"problem": q, "generated_solution": str(a), "expected_answer": str(a)} for q, a in sums])
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    lines("chat.jsonl", [{"conversations": turns, "source": "x", "score": 5.0}] * 12)
    (folder / "data").mkdir()
    (folder / "data" / "example_sft.json").write_text(
        json.dumps([{"prompt": q, "response": str(a)} for q, a in sums], indent=2)
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """With a chat template that has tools."""
    pytest.importorskip("torch")
    pytest.importorskip("trl")
    from guerdon_backends.models import CHAT_TEMPLATE

    tokenizer = byte_tokenizer("<|im_end|>", "<|im_start|>", template=CHAT_TEMPLATE.read_text())
    sizes = {"num_hidden_layers": 1, "max_position_embeddings": 8192}
    return save_model(tmp_path_factory.mktemp("tiny"), tokenizer, **sizes)


def plan(name: str, *overrides: str) -> tuple[Recipe, dict[str, Any]]:
    """A packaged recipe, and its trainer's settings."""
    resolved = resolve(*load_recipe(name, overrides))
    assert resolved.trainer
    return resolved.recipe, dict(resolved.trainer.settings)


def has(settings: dict[str, Any], **wanted: Any) -> None:
    options = wanted.pop("options", {})
    assert {name: settings[name] for name in wanted} == wanted
    assert {name: settings["options"].get(name) for name in options} == options


def test_every_recipe_is_registered_and_says_in_its_first_line_what_it_is() -> None:
    assert set(packaged_recipes()) >= {path.stem for path in RECIPES.glob("*.yaml")} == {*LOCAL, "quickstart"}
    for path in RECIPES.glob("*.yaml"):
        assert path.read_text().startswith("# ") and max(map(len, path.read_text().splitlines())) <= 120


def test_the_page_on_coverage_names_tests_and_recipes_that_there_are() -> None:
    tests = Path(__file__).parent
    text = (tests.parent / "docs" / "coverage.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    assert len(named) > 50
    assert [(f, n) for f, n in named if f"def {n}(" not in (tests / f).read_text()] == []
    assert all(f"`{name}`" in text for name in LOCAL)


# -- their values -----------------------------------------------------------------------------------------------------

UNSLOTH = {"lora_rank": 32, "lora_alpha": 32, "lora_targets": SEVEN, "tuning": "qlora", "weight_decay": 0.01}
UNSLOTH |= {"batch_size": 2, "gradient_accumulation": 4, "warmup": 5, "learning_rate": 2e-4, "schedule": "linear"}
UNSLOTH |= {"lora_options": {"lora_dropout": 0.0, "bias": "none", "use_rslora": False}}
UNSLOTH |= {"options": {"optim": "adamw_8bit"}}


def test_agent_lightnings_unsloth_example() -> None:
    recipe, settings = plan("gsm-hard-loop", "backend=auto")
    has(settings, **UNSLOTH, max_steps=60, max_length=4096)
    raw = yaml.safe_load((RECIPES / "gsm-hard-loop.yaml").read_text())
    flags = {"gpu_memory": 0.7, "max_length": 32768, "quantization": "bitsandbytes", "tool_parser": "hermes"}
    assert raw["backend"] == {"vllm": flags | {"max_lora_rank": 32}}
    assert set(raw["backend"]["vllm"]) <= set(settings_model(vllm).model_fields)
    assert (recipe.model, recipe.seed, recipe.agent.ref) == ("unsloth/Qwen3-4B-Instruct-2507", 3407, "math")
    assert recipe.tasks and recipe.tasks.dataset == "reasoning-machines/gsm-hard"
    assert recipe.tasks.limit == 128 and recipe.eval and recipe.eval.holdout == 64  # which leaves the example's 64
    assert (recipe.loop.iterations, recipe.loop.keep_top) == (2, 0.5)
    assert (recipe.loop.group_size, recipe.loop.min_reward, recipe.sampling.temperature) == (4, 1.0, 1.0)  # mended
    assert [(r.name, r.settings) for r in recipe.rewards] == [("numeric", {"how": ["hashes"]})]


PROMPT = """
Respond in the following format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>
"""


def test_the_unsloth_grpo_tutorial() -> None:
    recipe, settings = plan("gsm8k-grpo")
    has(
        settings,
        tuning="qlora",
        lora_rank=32,
        lora_alpha=32,
        lora_targets=SEVEN,
        learning_rate=5e-6,
        weight_decay=0.1,
        warmup=0.1,
        schedule="cosine",
        max_steps=250,
        save_steps=250,
        max_prompt_tokens=256,
        max_length=1024,
        options={"optim": "paged_adamw_8bit", "adam_beta1": 0.9, "adam_beta2": 0.99, "max_grad_norm": 0.1}
        | {"logging_steps": 1, "vllm_gpu_memory_utilization": 0.6},
    )
    assert (recipe.model, recipe.seed, recipe.loop.group_size) == ("google/gemma-3-1b-it", 3407, 6)
    assert recipe.sampling.max_tokens == 1024 - 256
    assert recipe.agent.settings == {"system": PROMPT}
    assert recipe.tasks and (recipe.tasks.dataset, recipe.tasks.subset) == ("openai/gsm8k", "main")
    names = ["xmlcount", "soft_format", "strict_format", "integer", "correctness"]
    assert [(r.name, r.weight) for r in recipe.rewards] == [(name, 1.0) for name in names]


def test_the_verl_style_script_and_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, settings = plan("verl-sft")
    script = {"tuning": "full", "max_length": 2048, "global_batch": 4, "batch_size": 1, "learning_rate": 2e-5}
    script |= {"epochs": 3.0, "warmup": 0.1, "weight_decay": 0.01, "lora_rank": 8, "lora_alpha": 16}
    has(settings, **script, gradient_checkpointing=True, schedule="cosine", options={"max_grad_norm": 1.0})
    assert recipe.model == "Qwen/Qwen2.5-0.5B" and recipe.data and recipe.data.path == "./data/example_sft.json"
    assert (recipe.data.validation, recipe.launch.world) == (None, 1)

    given = {"MODEL_PATH": "Qwen/Qwen2.5-7B", "TRAIN_DATA": "mine.json", "MAX_LENGTH": "512", "BATCH_SIZE": "64"}
    given |= {"MICRO_BATCH_SIZE": "2", "LEARNING_RATE": "1e-5", "NUM_EPOCHS": "5", "WARMUP_RATIO": "0.05"}
    given |= {"WEIGHT_DECAY": "0", "TUNING": "lora", "LORA_RANK": "16", "LORA_ALPHA": "32", "STRATEGY": "zero3"}
    given |= {"N_GPUS": "8", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "192.168.1.1"}
    given |= {"VAL_DATA": "held.json"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    recipe, settings = plan("verl-sft")
    has(settings, max_length=512, global_batch=64, batch_size=2, learning_rate=1e-5, epochs=5.0, warmup=0.05)
    has(settings, weight_decay=0.0, tuning="lora", lora_rank=16, lora_alpha=32)
    assert recipe.model == "Qwen/Qwen2.5-7B" and recipe.data and recipe.data.path == "mine.json"
    assert isinstance(recipe.data.validation, Validation) and recipe.data.validation.path == "held.json"
    launch = recipe.launch
    assert (launch.world, launch.node_rank, launch.main_address, launch.strategy) == (16, 1, "192.168.1.1", "zero3")
    monkeypatch.setenv("STRATEGY", "megatron")
    with pytest.raises(RecipeError, match=r"launch\.strategy: megatron is not for guerdon: take verl"):
        plan("verl-sft")


def test_open_r1s_walk_through() -> None:
    recipe, settings = plan("open-r1-sft")
    options = {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "logging_steps": 5, "log_level": "info"}
    options |= {"use_liger_kernel": True, "per_device_eval_batch_size": 16}
    options |= {"model_init_kwargs": {"dtype": "bfloat16", "attn_implementation": "flash_attention_2"}}
    has(settings, tuning="full", max_length=16384, packing=False, batch_size=16, gradient_accumulation=1)
    has(settings, epochs=1.0, max_steps=-1, learning_rate=5e-5, warmup=0.05, schedule="cosine_with_min_lr")
    has(settings, gradient_checkpointing=True, save_steps=100, save_limit=1, report_to=["wandb"], options=options)
    assert (recipe.model, recipe.seed) == ("Qwen/Qwen2.5-1.5B-Instruct", 42)
    assert recipe.data and recipe.data.dataset == "open-r1/OpenR1-Math-220k"
    assert (recipe.launch.gpus, recipe.launch.strategy) == (8, "zero3")


def test_the_qwen3_8b_tutorial() -> None:
    recipe, settings = plan("qwen3-8b-sft")
    has(settings, **UNSLOTH, max_steps=30, max_length=2048, learn="assistant")
    assert (recipe.model, recipe.seed) == ("Qwen/Qwen3-8B", 3407)
    assert recipe.data and recipe.data.mix and recipe.data.shuffle == 42
    assert [part.weight for part in recipe.data.mix] == [0.75, 0.25]
    assert recipe.data.mix[0].fields == {"prompt": "problem", "response": "generated_solution"}


def test_the_documents_own_names_are_translated_or_said_where_they_are() -> None:
    def settings(trainer: str, *given: str) -> dict[str, Any]:
        text = "model: m\ntasks: {path: t.jsonl}\nrewards: [numeric]\n"
        overrides = [f"trainer={trainer}", *(f"trainer.{trainer}.{each}" for each in given)]
        resolved = resolve(parse_recipe(text, overrides, source="r", folder=Path()), Registry(Plugins()))
        assert resolved.trainer and len(resolved.notes) == len(given)
        return dict(resolved.trainer.settings)

    verl = settings("sft", *"lr=1e-5 micro_batch_size=1 train_batch_size=8 num_train_epochs=5 logger=[console]".split())
    has(verl, learning_rate=1e-5, batch_size=1, global_batch=8, epochs=5.0, report_to=["console"])
    trl = settings("sft", "warmup_ratio=0.1", "max_seq_length=99", "lr_scheduler_type=cosine")
    has(trl, warmup=0.1, max_length=99, schedule="cosine")
    has(settings("grpo", "max_prompt_length=256", "lora_r=8"), max_prompt_tokens=256, lora_rank=8)
    for trainer, name, now in (
        ("sft", "overwrite_output_dir", "each run has a folder of its own"),
        ("sft", "load_in_4bit", "`tuning: qlora`"),
        ("sft", "use_lora", "`tuning: lora`"),
        ("sft", "attn_implementation", "`options: {model_init_kwargs: {attn_implementation: ...}}`"),
        ("sft", "hub_model_id", "`guerdon export RUN --push user/name`"),
        ("grpo", "num_generations", "loop.group_size"),
        ("grpo", "max_completion_length", "sampling.max_tokens"),
    ):
        with pytest.raises(RecipeError, match=re.escape(now)):
            settings(trainer, f"{name}=1")


# -- they run ---------------------------------------------------------------------------------------------------------

SAID = {
    "gsm-hard-loop": "global batch 8 = 2 rows x 4 passes",
    "gsm8k-loop": "global batch 32 = 8 rows x 4 passes",
    "gsm8k-grpo": "global batch 6 = 6 rows x 1 pass = 1 prompt x 6 attempts",
    "verl-sft": "global batch 4 = 1 row x 4 passes; 12 rows: 3 steps an epoch, 9 steps in all",
    "open-r1-sft": "global batch 128 = 16 rows x 1 pass x 8 processes",
    "qwen3-8b-sft": "global batch 8 = 2 rows x 4 passes",
}


@pytest.mark.parametrize("name", LOCAL)
def test_it_passes_check(name: str, folder: Path) -> None:
    told = guerdon(folder, "check", name, *LOCAL[name], "--json").json
    assert told["ok"] is True
    assert any(note.startswith(SAID[name]) for note in told["notes"]), told["notes"]


def test_a_strategy_for_gpus_is_noted_without_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for strategy, words in (
        ("fsdp", "is run as its successor, fsdp2"),
        ("zero3", "it could not run: launch.strategy zero3"),
    ):
        told = guerdon(folder, "check", "verl-sft", f"launch.strategy={strategy}", "--gpus", "2", "--json").json
        assert any(words in note for note in told["notes"]), told["notes"]


def shrunk(name: str, folder: Path, model: str, *overrides: str) -> Ran:
    trainer = "grpo" if name == "gsm8k-grpo" else "sft"
    settings = [f"trainer.{trainer}.{each}" for each in SHRUNK[name]]
    return guerdon(folder, "run", name, f"model={model}", *LOCAL[name], *settings, *overrides)


RATES = {"verl-sft": [0.0, 2e-5, 1.5e-5, 0.5e-5], "open-r1-sft": [0.0, 5e-5], "qwen3-8b-sft": [0.0, 4e-5]}
"""Warm-up is a tenth of the steps and then a cosine; a twentieth; five steps."""


@pytest.mark.model
@pytest.mark.parametrize("name", RATES)
def test_it_trains_on_rows(name: str, folder: Path, model: str) -> None:
    said = shrunk(name, folder, model, "launch={}").out
    with last_run(folder) as run:
        stage = run.stages()["train-data"]
        steps = [m for m in run.metrics() if "loss" in m]
        files = {path.name for path in (run.folder / "checkpoints" / "data").iterdir()}
    assert [step["learning_rate"] for step in steps] == pytest.approx(RATES[name])
    assert ("adapter_config.json" in files) == (name == "qwen3-8b-sft")
    assert "tokenizer.json" in files and {"adapter_model.safetensors", "model.safetensors"} & files
    if name == "qwen3-8b-sft":
        assert stage["rows"] == 16 and "12 of math.jsonl (75.0%), 4 of chat.jsonl (25.0%)" in said


@pytest.mark.model
def test_the_five_rewards_are_each_logged(folder: Path, model: str) -> None:
    shrunk("gsm8k-grpo", folder, model, "eval=null", "sampling.max_tokens=16")
    names = ["xmlcount", "soft_format", "strict_format", "integer", "correctness"]
    found = trajectories(folder, "train")
    assert len(found) == 2 * 6 and all(list(t.scores) == names for t in found)
    first = found[0].turns[0].prompt[0]
    assert (first["role"], first["content"]) == ("system", PROMPT)
    with last_run(folder) as run:
        steps = [m for m in run.metrics() if m["step"] > 0 and "reward" in m]
        assert list(run.stages()["rollout-grpo"]["rewards"]) == names
        assert (run.folder / "checkpoints" / "grpo" / "adapter_model.safetensors").exists()
    assert len(steps) == 2 and all(f"rewards/{name}/mean" in m for m in steps for name in names)


HALF_RIGHT = """\
import re
from contextlib import asynccontextmanager

class HalfRight:
    model, count = "half-right", 0

    async def complete(self, body, task):
        self.count += 1
        a, b = map(int, re.findall(r"\\d+", body["messages"][-1]["content"]))
        text = f"Attempt {self.count}. ### {a + b if self.count % 2 else 0} ###"
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}

    async def load_adapter(self, path):
        self.count = 1

@asynccontextmanager
async def backend(model):
    yield HalfRight()
"""


def half_right(folder: Path) -> str:
    (folder / "half_right.py").write_text(HALF_RIGHT)
    return "backend=./half_right.py:backend"


@pytest.mark.model
def test_the_loop_trains_on_the_better_half_of_what_was_right(folder: Path, model: str) -> None:
    pytest.importorskip("agents")
    said = shrunk("gsm-hard-loop", folder, model, half_right(folder), "loop.iterations=1").out
    found = trajectories(folder, "train")
    assert len(found) == 4 * 4 and {t.agent for t in found} == {"math"} and "calculate" in str(found[0].tools)
    assert "Train on 4 rows from 4 of 16 trajectories" in said
    assert "  16 rollouts: 8 earn >= 1, best half: 4 trajectories, 4 rows" in said
    assert "2 held-out tasks, before and after" in said


@pytest.mark.model
def test_two_iterations_with_a_server_whose_adapter_is_swapped(folder: Path, model: str) -> None:
    """For real, in small: rollouts with tools, trainings, evaluations."""
    pytest.importorskip("agents")
    (folder / "any.py").write_text("def anything(completion): return 1.0\n")
    loop = [f"loop.{each}" for each in ("warmup=null", "tasks=2", "group_size=2", "per_task=1", "iterations=2")]
    small = ["backend={transformers: {threads: 1}}", "sampling.max_tokens=8", "agent.math.max_turns=2"]
    said = shrunk("gsm8k-loop", folder, model, "rewards=[./any.py:anything]", *loop, *small).out
    with last_run(folder) as run:
        stages = run.stages()
        rows = (run.folder / "checkpoints" / "iteration-2.jsonl").read_text().splitlines()
        turns = [turn for trajectory in run.trajectories() for turn in trajectory.turns]
    assert all(t.reply_ids and not t.logprobs for t in turns), "nothing here learns from logprobs, which cost"
    names = ["iteration-1", "iteration-2"]
    assert [stages[f"train-{name}"]["rows"] for name in names] == [2, 2]
    assert all("input_ids" in json.loads(row) for row in rows)
    assert "4 rollouts: 4 earn >= 1, 2 over per_task: 2 trajectories, 2 rows" in said
    assert [n for n, done in stages.items() if "serve" in done.get("seconds", {})] == ["eval-before"], "one server"
    assert all(stages[f"eval-{name}"]["seconds"]["swap"] > 0 for name in names)
    assert stages["best"] == {"checkpoint": "iteration-1", "reward": 1.0, "rewards": dict.fromkeys(names, 1.0)}
