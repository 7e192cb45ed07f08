"""Group relative policy optimization: the recipe's rewards, on answers of the model as it is.

trl's GRPOTrainer does it; it is configured, never subclassed. It generates the answers itself where the agent only asks
once, else the engine rolls the agent out (`agent_rollouts`). The rewards are the engine's, so that everything is scored
and kept as in any other run.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from guerdon.errors import TrainingError, counted
from guerdon.task import Message
from guerdon.training import Rollouts, TrainingJob
from guerdon.traits import traits
from guerdon_trainers import arguments
from guerdon_trainers.batches import solve
from guerdon_trainers.beginning import Beginning
from guerdon_trainers.generating import (
    Generation,
    choose_generation,
    refuse_stored_bits,
    sampling_values,
    stop_values,
    vllm_environment,
    vllm_values,
)
from guerdon_trainers.prompts import Plan, dataset, order, read_prompts, short_enough
from guerdon_trainers.templates import settle_template
from guerdon_trainers.watches import numbers_only, variance_watch

OURS = {
    "num_generations": "loop.group_size",
    "max_completion_length": "sampling.max_tokens",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "top_k": "sampling.top_k",
    "reward_weights": "the rewards' weights",
    "max_prompt_length": "max_prompt_tokens",
    "use_vllm": "generation",
    "vllm_mode": "generation",
    "vllm_server_base_url": "vllm_url",
    "vllm_max_model_length": "max_length",
    "generation_batch_size": "steps_per_generation",
    "shuffle_dataset": "the recipe's seed",
}
"""GRPOConfig's names that `options` may not hold, and what to use."""

RENAMED = {**arguments.RENAMED, "max_prompt_length": "max_prompt_tokens", "vllm_server_base_url": "vllm_url"}

ELSEWHERE = {
    **arguments.ELSEWHERE,
    "num_generations": "`loop.group_size`",
    "group_size": "`loop.group_size`",
    "max_completion_length": "`sampling.max_tokens`",
    "max_tokens": "`sampling.max_tokens`",
    **{name: f"`sampling.{name}`" for name in ("temperature", "top_p", "top_k", "stop")},
    "reward_weights": "a `weight` of each of the `rewards`",
    "use_vllm": "`generation: vllm`",
    "fast_inference": "`generation: vllm`",
    "gpu_memory_utilization": "`options: {vllm_gpu_memory_utilization: ...}`",
    **{
        name: f"`options: {{{name}: ...}}`"
        for name in (
            *("beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "importance_sampling_level"),
            *("num_iterations", "steps_per_generation", "mask_truncated_completions", "log_completions"),
        )
    },
}

SAID = {
    "beta": 0.0,
    "num_iterations": 1,
    "epsilon": 0.2,
    "loss_type": "dapo",
    "scale_rewards": "group",
    "importance_sampling_level": "token",
    "multi_objective_aggregation": "sum_then_normalize",
    "mask_truncated_completions": False,
    "disable_dropout": False,
    "remove_unused_columns": False,
    "log_completions": False,
    "min_p": None,
    "repetition_penalty": 1.0,
    "vllm_importance_sampling_correction": True,
    "vllm_importance_sampling_mode": "sequence_mask",
    "vllm_importance_sampling_clip_max": 3.0,
    # the other processes wait while the main one has the engine roll out
    "ddp_timeout": 86400,
}
"""trl's defaults, said because Unsloth has others and releases change them; `options` goes over them."""


@traits(
    rolls_out=True,
    renamed=RENAMED,
    elsewhere=ELSEWHERE,
    preflight="guerdon_trainers.preflight:grpo",
    launcher="guerdon_trainers.launcher:launcher",
    advice="guerdon_trainers.failures:explain",
)
def grpo(
    job: TrainingJob,
    *,
    backend: Literal["auto", "transformers", "unsloth"] = "auto",
    tuning: Literal["lora", "qlora", "full"] = "lora",
    rollout: Literal["auto", "trainer", "agent"] = "auto",
    generation: Generation = "auto",
    vllm_url: str | None = None,
    learning_rate: PositiveFloat = 5e-6,
    epochs: PositiveFloat = 1.0,
    max_steps: int = -1,
    batch_size: PositiveInt = 4,
    gradient_accumulation: PositiveInt = 4,
    global_batch: PositiveInt | None = None,
    warmup: NonNegativeFloat = 0.1,
    schedule: Literal["linear", "cosine", "constant", "cosine_with_min_lr"] = "cosine",
    weight_decay: float = 0.1,
    max_length: PositiveInt = 4096,
    max_prompt_tokens: PositiveInt | None = None,
    chat_template: str = "auto",
    lora_rank: PositiveInt = 32,
    lora_alpha: PositiveInt = 32,
    lora_targets: str | list[str] = "all-linear",
    lora_options: dict[str, Any] | None = None,
    gradient_checkpointing: bool | Literal["unsloth"] | None = None,
    save_steps: NonNegativeInt = 200,
    save_limit: PositiveInt = 1,
    resume_from: str | None = None,
    report_to: list[str] | None = None,
    threads: PositiveInt | None = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Group relative policy optimization (GRPO, arXiv:2402.03300) of an adapter or a whole model.

    Group size, sampling and rewards are the recipe's own. Defaults follow the Unsloth GRPO tutorial. Raises
    `TrainingError` when no task fits, a setting cannot be honoured, every rollout fails, or memory runs out.

    Args:
        backend: What trains: transformers, or unsloth, which auto does not take by itself.
        tuning: An adapter, an adapter over a base in four bits, or the whole model.
        rollout: Who generates: the trainer itself (agents that ask once), or the agent; auto takes what is possible.
        generation: How the trainer generates; auto takes vLLM in its process where there is a GPU and the package.
        vllm_url: Address of the server for vllm-server.
        learning_rate: Peak learning rate.
        epochs: Times that all tasks are seen; ignored when max_steps is set.
        max_steps: Optimizer steps; -1 for whole epochs.
        batch_size: Completions per device and forward pass.
        gradient_accumulation: Forward passes per optimizer step.
        global_batch: Completions per optimizer step, of all devices; solves gradient_accumulation.
        warmup: Steps of warm-up; below 1, their share of all steps.
        schedule: Course of the learning rate after warm-up.
        weight_decay: AdamW's weight decay.
        max_length: Longest prompt and completion together, in tokens; agent rollouts are cut at their end.
        max_prompt_tokens: Tasks with longer prompts are left out.
        chat_template: The model's own (auto), chatml, or a template's file.
        lora_rank: Rank of the adapter.
        lora_alpha: Scale of the adapter, mostly once or twice its rank.
        lora_targets: Names of the layers that get an adapter, or "all-linear".
        lora_options: Anything else of peft's LoraConfig, by its own name.
        gradient_checkpointing: Less memory for more time; by default on a GPU only.
        save_steps: Steps between two checkpoints; 0 for none.
        save_limit: Checkpoints that are kept.
        resume_from: A checkpoint to go on from; by default the last one, if the training was interrupted.
        report_to: Where else figures go: wandb, trackio, tensorboard.
        threads: CPU threads for torch; by default torch decides.
        options: Anything else of trl's GRPOConfig, by its own name.
    """
    from guerdon_trainers.backend import choose_for_grpo, guarded, prepare

    beginning = Beginning()
    rollouts, options = job.rollouts, dict(options or {})
    if rollouts is None:
        raise TrainingError("grpo scores what the model answers, so it needs tasks and rewards; rows are for sft.")
    by_agent = _by_agent(rollout, rollouts)
    sampling = sampling_values(rollouts, max_length, by_agent)
    if generation == "vllm-server" and backend == "auto":
        backend = "transformers"
    name, reason = choose_for_grpo(backend, checkpointing=gradient_checkpointing, world=job.world)
    job.say(f"backend {name}: {reason}")
    how = "agent" if by_agent else choose_generation(generation, vllm_url, name, job)
    _say_rollouts(job, rollouts, how, tuning)
    batch = solve(
        batch_size=batch_size,
        accumulation=gradient_accumulation,
        global_batch=global_batch,
        world=job.world,
        group_size=rollouts.group_size,
    )
    if how == "vllm":
        vllm_environment(name, job.world)
    prepare(job, name, threads=threads, grpo=True)
    with guarded():
        from transformers import PrinterCallback
        from trl import GRPOConfig, GRPOTrainer

        from guerdon_trainers.merged import merge_into_copies, plain_vllm
        from guerdon_trainers.model import load, load_tokenizer, lora_values, settle
        from guerdon_trainers.reporter import last_checkpoint, reporter, save

        beginning.past("imports")
        init = options.get("model_init_kwargs")
        lora = lora_values(lora_rank, lora_alpha, lora_targets, lora_options)
        tokenizer = load_tokenizer(job, init)
        settle_template(tokenizer, chat_template, job.say)
        tokens = _renderer(tokenizer, options.get("chat_template_kwargs"))
        room = max_length - (1 if by_agent else sampling["max_completion_length"])
        limit = min(max_prompt_tokens or room, room)
        prompts = short_enough(read_prompts(job.rows), tokens, limit, job.say)
        plan = Plan.of(batch, options, len(prompts), epochs, max_steps)
        saving = plan.aligned(save_steps, job.say)
        values = arguments.common(
            job,
            batch,
            learning_rate=learning_rate,
            epochs=1.0,  # one, as long as `plan` says
            max_steps=plan.steps,
            warmup=warmup,
            schedule=schedule,
            weight_decay=weight_decay,
            gradient_checkpointing=gradient_checkpointing,
            save_steps=saving,
            save_limit=save_limit,
            report_to=report_to or [],
            options=options,
        )
        config = arguments.config(
            GRPOConfig,
            {
                **values,
                **SAID,
                **sampling,
                **vllm_values(how, vllm_url, max_length, sampling, options, job.say),
                "generation_kwargs": stop_values(how, rollouts, tokenizer.eos_token_id)
                | options.pop("generation_kwargs", {})
                or None,
                "num_generations": rollouts.group_size,
                "steps_per_generation": batch.accumulation,
                "reward_weights": [weight for _, weight in rollouts.rewards],
                "shuffle_dataset": False,
            },
            options,
            ours=OURS,
            where="trainer.grpo.options",
        )
        checkpoint = last_checkpoint(job, resume_from)
        beginning.past("tasks")
        model, tokenizer, peft_config = load(
            job,
            name,
            tuning,
            lora,
            config=config,
            max_length=max_length,
            init=init,
            tokenizer=tokenizer,
            gradient_checkpointing=gradient_checkpointing,
            fast_inference=name == "unsloth" and how == "vllm",
            gpu_memory=options.get("vllm_gpu_memory_utilization", 0.5),
        )
        beginning.past("model")
        if tuning == "full" and config.beta:  # trl loads the reference by these
            config.model_init_kwargs = {**(init or {}), "dtype": model.dtype}
        trls = name == "transformers"  # Unsloth's vLLM shares the model's memory
        if trls:
            refuse_stored_bits(model, how)
        functions, roll_out = _rewards(job, rollouts, tokenizer, tokens, max_length, by_agent)
        with plain_vllm() if trls and tuning == "qlora" and how == "vllm" else nullcontext():
            trainer = GRPOTrainer(
                model=model,
                reward_funcs=functions,
                args=config,
                train_dataset=dataset(prompts, order(len(prompts), plan.prompts, job.seed)),
                processing_class=tokenizer,
                peft_config=peft_config,
                rollout_func=roll_out,
                callbacks=[
                    variance_watch(job, rollouts),
                    reporter(job, {"tasks": len(prompts)}),
                    beginning.callback(),
                ],
            )
        trainer.remove_callback(PrinterCallback)
        settle(trainer)
        if trls:
            merge_into_copies(trainer)
        beginning.past("trainer")
        with numbers_only(trainer):
            trainer.train(resume_from_checkpoint=checkpoint)
        save(trainer, tokenizer, job)


def _by_agent(rollout: str, rollouts: Rollouts) -> bool:
    if rollout == "trainer" and not rollouts.single_turn:
        raise TrainingError(
            "rollout: trainer is for agents that ask the model once and have no tools; the trainer would not run this "
            "recipe's agent. Set rollout to agent or auto."
        )
    return rollout == "agent" or not rollouts.single_turn


def _say_rollouts(job: TrainingJob, rollouts: Rollouts, how: str, tuning: str) -> None:
    names = ", ".join(name if weight == 1 else f"{name} x {weight:g}" for name, weight in rollouts.rewards)
    who = "the recipe's agent" if how == "agent" else "the trainer"
    job.say(f"{who} rolls out, {counted(rollouts.group_size, 'attempt')} a task; rewards: {names}")
    if how == "agent" and tuning == "full":
        job.say("tuning: full starts the model's server anew with the whole model at every step: slow; lora is not")


def _renderer(tokenizer: Any, options: Mapping[str, Any] | None) -> Any:
    """Prompts to token ids, as trl does it."""

    def tokens(messages: list[Message]) -> list[int]:
        made = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, **(options or {})
        )
        return list(made["input_ids"])

    return tokens


def _rewards(
    job: TrainingJob, rollouts: Rollouts, tokenizer: Any, tokens: Any, max_length: int, by_agent: bool
) -> tuple[list[Any], Any]:
    """trl's reward functions, and its `rollout_func` where the agent rolls out."""
    from guerdon_trainers.agent_rollouts import AgentRollouts, Policies
    from guerdon_trainers.completions import CompletionScores, reward_functions

    names = [name for name, _ in rollouts.rewards]
    if not by_agent:
        scores = CompletionScores(rollouts, tokenizer, tokens, rollouts.sampling.get("stop") or ())
        return reward_functions(names, scores), None
    policies = Policies(job, tokenizer)
    roll_out = AgentRollouts(job, rollouts, tokenizer.eos_token_id, max_length, policies)
    return reward_functions(names, roll_out.scores), roll_out
