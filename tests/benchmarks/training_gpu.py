"""On a GPU: step time, tokens a second and peak memory of guerdon's trainers beside the tutorials' bare scripts.

    python tests/benchmarks/training_gpu.py sft transformers gsm8k_train.jsonl [--model DIR] [--steps 40]
    python tests/benchmarks/training_gpu.py grpo unsloth gsm8k_train.jsonl

Each side runs in a process of its own, guerdon's as `guerdon run`. A step's time is that between two logs; the first
ones, in which kernels are compiled, are left out. Same model, rows, batch, LoRA, optimizer and precision on both sides.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

SEED, RANK, LENGTH = 3407, 32, 512
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SFT = {"rows": 16, "passes": 2, "rate": 2e-4}
GRPO = {"completions": 64, "group": 8, "tokens": 200, "rate": 5e-6}
SKIPPED = {"sft": 10, "grpo": 3}
SYSTEM = "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n"


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- guerdon ----------------------------------------------------------------------------------------------------------


def guerdon(kind: str, backend: str, data: Path, model: str, steps: int, folder: Path) -> dict[str, Any]:
    """A run of a recipe; its figures are read from the run's store."""
    common = {
        "backend": backend,
        "tuning": "lora",
        "max_steps": steps,
        "lora_rank": RANK,
        "lora_alpha": RANK,
        "lora_targets": TARGETS,
        "max_length": LENGTH,
        "save_steps": 0,
        "gradient_checkpointing": False,
        "warmup": 0.1,
    }
    recipe: dict[str, Any] = {"model": model, "seed": SEED}
    if kind == "sft":
        recipe["data"] = {"path": str(data), "fields": {"prompt": "question", "response": "answer"}}
        own = {"learning_rate": SFT["rate"], "batch_size": SFT["rows"], "gradient_accumulation": SFT["passes"]}
        recipe["trainer"] = {"sft": {**common, **own}}
    else:
        # the tutorial's, in its order
        recipe["rewards"] = yaml.safe_load(_packaged("gsm8k-grpo"))["rewards"]
        recipe["tasks"] = {"path": str(data), "limit": 2000}
        recipe["agent"] = {"chat": {"system": SYSTEM}}
        recipe["sampling"] = {"temperature": 1.0, "max_tokens": GRPO["tokens"]}
        recipe["loop"] = {"group_size": GRPO["group"], "train_timeout": int(os.environ.get("TIMEOUT", 600))}
        options = {"max_grad_norm": 0.1, "adam_beta2": 0.99, "vllm_gpu_memory_utilization": 0.3}
        own = {"learning_rate": GRPO["rate"], "batch_size": GRPO["completions"], "gradient_accumulation": 1}
        recipe["trainer"] = {"grpo": {**common, **own, "generation": "vllm", "options": options}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    ran = subprocess.run([sys.executable, "-m", "guerdon", "run", "recipe.yaml"], cwd=folder, text=True)
    if ran.returncode:
        for log in folder.glob("runs/*/logs/*.log"):
            print(log.read_text(errors="replace")[-6000:])
        raise SystemExit("guerdon run failed")

    from guerdon.store import Run, list_runs

    run = Run(list_runs(folder / "runs")[-1])
    found = [m for m in run.metrics() if "loss" in m]
    run.close()
    return {
        "at": [m["at"] for m in found],
        "losses": [m["loss"] for m in found],
        "rewards": [m.get("reward") for m in found],
        "tokens": [m.get("tokens_per_second") for m in found],
        "gpu": max((m.get("gpu_memory", 0.0) for m in found), default=0.0),
    }


def _packaged(name: str) -> str:
    from guerdon.packaged import packaged_recipes

    return packaged_recipes()[name].read_text(encoding="utf-8")


# -- the bare scripts -------------------------------------------------------------------------------------------------


def bare(kind: str, backend: str, data: Path, model_name: str, steps: int, folder: Path) -> dict[str, Any]:
    """As the tutorials have them, with today's names."""
    os.chdir(folder)
    if backend == "unsloth":
        import unsloth  # noqa: F401
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        at: list[float] = []  # noqa: RUF012
        logs: list[dict[str, Any]] = []  # noqa: RUF012

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" in logs:
                self.at.append(time.time())
                self.logs.append(dict(logs))

    clock = Clock()
    (_bare_sft if kind == "sft" else _bare_grpo)(backend, read(data), model_name, steps, clock)
    seen = [log.get("num_tokens", 0.0) for log in clock.logs]
    tokens = [None, *((b - a) / (t - s) for a, b, s, t in zip(seen, seen[1:], clock.at, clock.at[1:], strict=False))]
    return {
        "at": clock.at,
        "losses": [log["loss"] for log in clock.logs],
        "rewards": [log.get("reward") for log in clock.logs],
        "tokens": tokens,
        "gpu": torch.cuda.max_memory_reserved() / 2**30,
    }


def _load(backend: str, name: str, *, vllm: bool) -> tuple[Any, Any, Any]:
    import torch

    if backend == "unsloth":
        from unsloth import FastLanguageModel

        inside = {"fast_inference": True, "gpu_memory_utilization": 0.3, "max_lora_rank": RANK} if vllm else {}
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=name, max_seq_length=LENGTH, dtype=torch.bfloat16, load_in_4bit=False, **inside
        )
        model = FastLanguageModel.get_peft_model(
            model,
            r=RANK,
            target_modules=TARGETS,
            lora_alpha=RANK,
            lora_dropout=0,
            bias="none",
            use_gradient_checkpointing=False,
            random_state=SEED,
        )
        return model, tokenizer, None
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lora = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16)
    return model, AutoTokenizer.from_pretrained(name), lora


def _common(steps: int) -> dict[str, Any]:
    return {
        "output_dir": "outputs",
        "max_steps": steps,
        "warmup_steps": 0.1,
        "optim": "adamw_torch_fused",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": SEED,
        "bf16": True,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }


def _bare_sft(backend: str, rows: list[dict[str, str]], name: str, steps: int, clock: Any) -> None:
    model, tokenizer, lora = _load(backend, name, vllm=False)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    made = [
        {
            "prompt": [{"role": "user", "content": r["question"]}],
            "completion": [{"role": "assistant", "content": r["answer"]}],
        }
        for r in rows
    ]
    config = SFTConfig(
        **_common(steps),
        max_length=LENGTH,
        learning_rate=SFT["rate"],
        per_device_train_batch_size=int(SFT["rows"]),
        gradient_accumulation_steps=int(SFT["passes"]),
        weight_decay=0.01,
        lr_scheduler_type="linear",
    )
    SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(made),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[clock],
    ).train()


def _bare_grpo(backend: str, rows: list[dict[str, str]], name: str, steps: int, clock: Any) -> None:
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
    if backend == "transformers":
        os.environ.update(alone)
    model, tokenizer, lora = _load(backend, name, vllm=True)
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    made = [
        {
            "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": r["question"]}],
            "answer": r["answer"].split("####")[1].strip(),
        }
        for r in rows[:2000]
    ]
    config = GRPOConfig(
        **_common(steps),
        learning_rate=GRPO["rate"],
        adam_beta1=0.9,
        adam_beta2=0.99,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        max_grad_norm=0.1,
        per_device_train_batch_size=int(GRPO["completions"]),
        gradient_accumulation_steps=1,
        num_generations=int(GRPO["group"]),
        max_completion_length=int(GRPO["tokens"]),
        temperature=1.0,
        beta=0.0,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_gpu_memory_utilization=0.3,
        vllm_max_model_length=LENGTH,
    )
    GRPOTrainer(
        model=model,
        args=config,
        reward_funcs=[xmlcount, soft, strict, integer, correctness],
        train_dataset=Dataset.from_list(made),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[clock],
    ).train()


def _said(completions: list[Any]) -> list[str]:
    return [c[0]["content"] for c in completions]


def _extracted(completions: list[Any]) -> list[str]:
    return [text.split("<answer>")[-1].split("</answer>")[0].strip() for text in _said(completions)]


def xmlcount(completions: list[Any], **_: Any) -> list[float]:
    return [_count(text) for text in _said(completions)]


def _count(text: str) -> float:
    count = 0.125 * (text.count("<reasoning>\n") == 1) + 0.125 * (text.count("\n</reasoning>\n") == 1)
    if text.count("\n<answer>\n") == 1:
        count += 0.125 - len(text.split("\n</answer>\n")[-1]) * 0.001
    if text.count("\n</answer>") == 1:
        count += 0.125 - (len(text.split("\n</answer>")[-1]) - 1) * 0.001
    return count


def soft(completions: list[Any], **_: Any) -> list[float]:
    pattern = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 * bool(re.match(pattern, text)) for text in _said(completions)]


def strict(completions: list[Any], **_: Any) -> list[float]:
    pattern = r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$"
    return [0.5 * bool(re.match(pattern, text)) for text in _said(completions)]


def integer(completions: list[Any], **_: Any) -> list[float]:
    return [0.5 * text.isdigit() for text in _extracted(completions)]


def correctness(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    return [2.0 * (text == a) for text, a in zip(_extracted(completions), answer, strict=True)]


# -- side by side -----------------------------------------------------------------------------------------------------


def summary(figures: dict[str, Any], skipped: int) -> dict[str, float]:
    times = [b - a for a, b in zip(figures["at"], figures["at"][1:], strict=False)][skipped:]
    tokens = [t for t in figures["tokens"][skipped + 1 :] if t]
    return {
        "s a step": statistics.median(times),
        "mean s": statistics.fmean(times),
        "tokens/s": statistics.median(tokens) if tokens else 0.0,
        "peak GiB": figures["gpu"],
        "first loss": figures["losses"][0],
        "last loss": figures["losses"][-1],
        "last reward": statistics.fmean([r for r in figures["rewards"][-5:] if r is not None] or [0.0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["sft", "grpo"])
    parser.add_argument("backend", choices=["transformers", "unsloth"])
    parser.add_argument("data", type=Path, help="GSM8K's training set as JSONL")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--side", choices=["guerdon", "bare"], help="only this side, as JSON")
    args = parser.parse_args()
    steps = args.steps or {"sft": 60, "grpo": 20}[args.kind]
    if args.side:
        with tempfile.TemporaryDirectory() as folder:
            side = guerdon if args.side == "guerdon" else bare
            made = side(args.kind, args.backend, args.data.resolve(), args.model, steps, Path(folder))
        print("RESULT", json.dumps(made), flush=True)
        return
    found = {}
    for side_name in ("bare", "guerdon"):
        words = [sys.executable, __file__, args.kind, args.backend, str(args.data), "--model", args.model]
        started = time.time()
        ran = subprocess.run(
            [*words, "--steps", str(steps), "--side", side_name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        result = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
        if not result:
            print(ran.stdout[-5000:])
            raise SystemExit(f"{side_name} failed")
        found[side_name] = {
            **summary(json.loads(result[-1].removeprefix("RESULT ")), SKIPPED[args.kind]),
            "s in all": time.time() - started,
        }
    print(f"{args.kind}, {args.backend}, {steps} steps")
    for figure in found["bare"]:
        b, g = found["bare"][figure], found["guerdon"][figure]
        print(f"{figure:12} bare {b:10.4f}  guerdon {g:10.4f}  ratio {g / b if b else 0:.3f}")


if __name__ == "__main__":
    main()
