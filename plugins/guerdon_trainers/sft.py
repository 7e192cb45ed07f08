"""Supervised fine-tuning on trl's SFTTrainer: all of the model, a LoRA adapter, or one over a base in four bits.

trl is configured, never subclassed. The rows reach it as token ids and labels, the same with either backend.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from guerdon.errors import TrainingError, counted
from guerdon.training import TrainingJob
from guerdon.traits import traits
from guerdon_trainers.arguments import ELSEWHERE, RENAMED, common, config
from guerdon_trainers.backend import Asked, choose, guarded, imports, prepare
from guerdon_trainers.batches import solve
from guerdon_trainers.beginning import Beginning
from guerdon_trainers.model import Tuning, load, load_tokenizer, lora_values, settle
from guerdon_trainers.reporter import kept_state, last_checkpoint, reporter, save
from guerdon_trainers.templates import settle_template
from guerdon_trainers.token_file import TokenSet, token_set

OURS = {
    "max_length": "max_length",
    "packing": "packing",
    "dataset_text_field": "the data's `fields`",
    "assistant_only_loss": "learn: assistant",
    "completion_only_loss": "learn: assistant",
    "eval_strategy": "the data's `validation`, and eval_steps",
    "eval_steps": "eval_steps",
    "do_eval": "the data's `validation`",
    "load_best_model_at_end": "early_stop",
    "dataset_kwargs": "nothing: rows reach trl as tokens",
}
"""SFTConfig's names that `options` may not hold, and what to use."""

HERE = {
    "eval_strategy": "`validation` of the recipe's data, and `eval_steps`",
    "do_eval": "`validation` of the recipe's data",
    "dataset_text_field": "`fields` of the recipe's data: {text: ...}",
    "assistant_only_loss": "`learn: assistant`, the default",
    "completion_only_loss": "`learn: assistant`, the default",
    "per_device_eval_batch_size": "`options: {per_device_eval_batch_size: ...}`",
}


@traits(
    renamed=RENAMED,
    elsewhere={**ELSEWHERE, **HERE},
    preflight="guerdon_trainers.preflight:sft",
    preview="guerdon_trainers.preview:preview",
    launcher="guerdon_trainers.launcher:launcher",
    warm="guerdon_trainers.backend:warm",
    advice="guerdon_trainers.failures:explain",
)
def sft(
    job: TrainingJob,
    *,
    backend: Asked = "auto",
    tuning: Tuning = "lora",
    learning_rate: PositiveFloat = 2e-4,
    epochs: PositiveFloat = 1.0,
    max_steps: int = -1,
    batch_size: PositiveInt = 2,
    gradient_accumulation: PositiveInt = 4,
    global_batch: PositiveInt | None = None,
    warmup: NonNegativeFloat = 0.03,
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup", "cosine_with_min_lr"] = "linear",
    weight_decay: float = 0.01,
    max_length: PositiveInt = 4096,
    packing: bool = False,
    learn: Literal["assistant", "all"] = "assistant",
    chat_template: str = "auto",
    lora_rank: PositiveInt = 32,
    lora_alpha: PositiveInt = 32,
    lora_targets: str | list[str] = "all-linear",
    lora_options: dict[str, Any] | None = None,
    gradient_checkpointing: bool | Literal["unsloth"] | None = None,
    save_steps: NonNegativeInt = 200,
    save_limit: PositiveInt = 1,
    eval_steps: PositiveInt | None = None,
    early_stop: PositiveInt | None = None,
    resume_from: str | None = None,
    report_to: list[str] | None = None,
    threads: PositiveInt | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Supervised fine-tuning on demonstrations, or on the best trajectories: LoRA, QLoRA or all of the model.

    Defaults follow Agent Lightning's Unsloth example. Weights are in bf16 on a GPU that has it and in fp16 on others;
    in fp32 on a CPU, and where all of the model is tuned without bf16. Raises `TrainingError` when there is nothing to
    learn from, a setting cannot be honoured, the loss is not a number, or memory runs out.

    Args:
        backend: Unsloth, transformers with peft, or Unsloth where it can be had.
        tuning: A LoRA adapter, one over a base in four bits (qlora), or all of the model's weights.
        learning_rate: Peak learning rate; for tuning full, 2e-5 is usual.
        epochs: Times that all rows are seen; ignored when max_steps is set.
        max_steps: Optimizer steps; -1 for whole epochs.
        batch_size: Rows per device and forward pass.
        gradient_accumulation: Forward passes per optimizer step.
        global_batch: Rows per optimizer step over all devices; gradient_accumulation then follows from it.
        warmup: Steps of warm-up; below 1, their share of all steps.
        schedule: Course of the learning rate after warm-up; cosine_with_min_lr ends at a tenth of the peak.
        weight_decay: AdamW's weight decay.
        max_length: Longest row in tokens; the end of a longer one is cut off.
        packing: Join short rows up to max_length.
        learn: Learn the assistant's messages (the completions), or all of each row.
        chat_template: The model's own, or ChatML where it has none (auto); chatml; or a template's file.
        lora_rank: Rank of the adapter.
        lora_alpha: Scale of the adapter, mostly once or twice its rank.
        lora_targets: Names of the layers that get an adapter, or "all-linear".
        lora_options: Anything else of peft's LoraConfig, by its own name (lora_dropout, use_rslora).
        gradient_checkpointing: Less memory for more time; by default on a GPU only. "unsloth" is Unsloth's own kind.
        save_steps: Steps between checkpoints that an interrupted training goes on from; 0 for none.
        save_limit: Checkpoints kept.
        eval_steps: Steps between evaluations on the validation rows, where there are any; by default save_steps.
        early_stop: Stop after so many evaluations without a lower loss, and keep the best weights.
        resume_from: A checkpoint's folder, name or number; by default the newest of the same, interrupted run.
        report_to: Also report to wandb, trackio, tensorboard; the console always shows the figures.
        threads: CPU threads for torch; by default torch decides.
        options: Anything else of trl's SFTConfig, by its own name; model_init_kwargs go to from_pretrained.
    """
    beginning = Beginning()
    options = options or {}
    init = options.get("model_init_kwargs") or {}
    name, why = choose(backend, checkpointing=gradient_checkpointing, world=job.world)
    job.say(f"backend {name}: {why}")
    batch = solve(batch_size=batch_size, accumulation=gradient_accumulation, global_batch=global_batch, world=job.world)
    prepare(job, name, threads=threads)
    with guarded():
        imports()
        from trl import SFTConfig

        beginning.past("imports")
        values = common(
            job,
            batch,
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=max_steps,
            warmup=warmup,
            schedule=schedule,
            weight_decay=weight_decay,
            gradient_checkpointing=gradient_checkpointing,
            save_steps=save_steps,
            save_limit=save_limit,
            report_to=report_to or [],
            options=options,
        )
        values |= _evaluation(job, eval_steps, save_steps, early_stop)
        values |= {
            "max_length": max_length,
            "packing": packing,
            "eval_packing": False,
            "loss_type": "nll",
            # packing is the one thing left for trl to do to the rows
            "dataset_kwargs": {"skip_prepare_dataset": not packing},
        }
        args = config(SFTConfig, values, options, ours=OURS, where="trainer.sft.options")
        checkpoint = last_checkpoint(job, resume_from)
        tokenizer = load_tokenizer(job, init)
        template = settle_template(tokenizer, chat_template, job.say).training

        def tokens(file: Path) -> TokenSet:
            return token_set(tokenizer, file, max_length, folder=job.work, learn=learn, template=template)

        with args.main_process_first(desc="tokens"):
            rows, held_back = tokens(job.rows), tokens(job.validation) if job.validation else None
        _say_rows(job, rows, max_length)
        beginning.past("rows")
        attention = str(init.get("attn_implementation"))
        if packing and name == "transformers" and "flash" not in attention and "flex" not in attention:
            job.say("packing without flash attention: rows are kept apart by a mask, which costs time and memory")
        lora = lora_values(lora_rank, lora_alpha, lora_targets, lora_options)
        model, _, adapter = load(
            job,
            name,
            tuning,
            lora,
            config=args,
            max_length=max_length,
            init=init,
            tokenizer=tokenizer,
            gradient_checkpointing=gradient_checkpointing,
        )
        beginning.past("model")
        _check_vocabulary(model, rows, held_back)
        _train(job, args, model, adapter, tokenizer, rows, held_back, early_stop, checkpoint, beginning)


def _evaluation(job: TrainingJob, eval_steps: int | None, save_steps: int, patience: int | None) -> dict[str, Any]:
    if not job.validation:
        if patience:
            raise TrainingError("early_stop needs rows to evaluate on: set `validation` in the recipe's data.")
        return {}
    every = eval_steps or save_steps or 200
    values: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": every}
    if patience:  # the best can only be kept where it was saved
        best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": False}
        values |= {**best, "save_strategy": "steps", "save_steps": every}
    return values


def _say_rows(job: TrainingJob, rows: TokenSet, max_length: int) -> None:
    counts = rows.counts
    dropped = f", {counts.dropped} left out, which have nothing to learn" if counts.dropped else ""
    cut = f"; {counts.cut} of all {counts.rows + counts.dropped} cut at max_length {max_length}" if counts.cut else ""
    job.say(f"{counted(counts.rows, 'row')} to learn from{dropped}{cut}; {counts.trained} of {counts.tokens} tokens")


def _check_vocabulary(model: Any, *sets: TokenSet | None) -> None:
    """On a GPU a token id beyond the vocabulary ends in an assertion that names nothing."""
    size = model.config.get_text_config().vocab_size
    largest = max(one.counts.largest for one in sets if one)
    if largest >= size:
        raise TrainingError(
            f"The rows hold the token id {largest}, but the model's vocabulary ends at {size - 1}: another tokenizer "
            "made them. Make them with the model's own, or give texts or messages."
        )


def _train(
    job: TrainingJob,
    args: Any,
    model: Any,
    adapter: Any,
    tokenizer: Any,
    rows: TokenSet,
    held_back: TokenSet | None,
    patience: int | None,
    checkpoint: str | None,
    beginning: Beginning,
) -> None:
    from transformers import PrinterCallback
    from trl import SFTTrainer

    counts = rows.counts
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=rows.dataset,
        eval_dataset=held_back.dataset if held_back else None,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[
            reporter(job, {"rows": counts.rows, "rows_cut": counts.cut, "rows_dropped": counts.dropped}),
            *([_early_stop(patience, checkpoint)] if patience else []),
            beginning.callback(),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    settle(trainer)
    beginning.past("trainer")
    trainer.train(resume_from_checkpoint=checkpoint)
    state = trainer.state
    if patience and state.best_metric is not None:  # None where it was never evaluated
        early = f"stopped early at step {state.global_step}; " if state.global_step < state.max_steps else ""
        best = f"of step {state.best_global_step}, eval_loss {state.best_metric:.4g}"
        job.say(f"{early}the best weights are kept: {best}")
    save(trainer, tokenizer, job)


def _early_stop(patience: int, checkpoint: str | None) -> Any:
    """It goes on counting where the checkpoint's was; transformers can bring it back, but with the patience of then."""
    from transformers import EarlyStoppingCallback

    callback = EarlyStoppingCallback(patience)
    if checkpoint:
        state = json.loads(Path(checkpoint, "trainer_state.json").read_text())
        kept = kept_state(state["stateful_callbacks"], "EarlyStoppingCallback")
        callback.early_stopping_patience_counter = kept.get("early_stopping_patience_counter", 0)
    return callback
