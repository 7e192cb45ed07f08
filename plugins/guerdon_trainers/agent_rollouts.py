"""Rollouts of the recipe's agent for trl, through its `rollout_func`: the engine runs them with the live weights.

A rollout becomes one row: the first prompt, and as completion everything after it, with a mask that is 1 on the ids
that the model sampled and 0 on tool results and on what the chat template wrote. The ids are those that the server
sampled, never tokenised again. The weights go to the server before every generation, so rows are on policy: what
remains between server and trainer is numerical, and is measured instead of corrected (trl's correction wants private
attributes for a server that is not its own).
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guerdon.errors import TrainingError, counted
from guerdon.training import Rollouts, TrainingJob
from guerdon_trainers.completions import Scores
from guerdon_trainers.reporter import save
from guerdon_trainers.together import from_main, together

CHECKED_EVERY = 10
"""Generations between two comparisons of the server's log-probabilities with the trainer's."""
CHECKED_TOKENS = 256
"""Of one row."""
SUSPICIOUS = 0.1
"""Mean difference, in nats a token, that numerical differences do not explain."""
KEPT = 2
"""Checkpoints on disk: a server may still read the last but one."""


@dataclass
class AgentRollouts:
    """trl's `rollout_func`. `max_length` bounds prompt and completion together; `filler` is a token for empty rows."""

    job: TrainingJob
    rollouts: Rollouts
    filler: int
    max_length: int
    policies: "Policies"
    figures: dict[str, float] = field(default_factory=dict)
    count: int = 0
    cut: int = 0
    silent: bool = False

    def __call__(self, prompts: list[list[dict[str, Any]]], trainer: Any) -> dict[str, Any]:
        """One rollout for each prompt, whose last message names the task."""
        checkpoint = self.policies.save(trainer)
        step = trainer.state.global_step + 1
        rows = together(lambda tasks: self._roll_out(tasks, checkpoint, step), [p[-1]["task"] for p in prompts])
        self.figures = {"rollouts_failed": sum(row["failed"] for row in rows) / len(rows)}
        if self.count % CHECKED_EVERY == 0:
            self._compare(trainer, rows)
        self.count += 1
        made = {name: [row[name] for row in rows] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask")}
        if None in made["logprobs"]:
            made["logprobs"] = None  # type: ignore[assignment]  # trl needs the key only
        return {**made, "scores": [row["scores"] for row in rows]}

    def scores(self, index: int, *, scores: Scores, log_metric: Any, **_: Any) -> Scores:
        """The scores that came with the rollouts; the first reward function logs their figures too."""
        if index == 0:
            for name, value in self.figures.items():
                log_metric(name, value)
        return scores

    def _roll_out(self, tasks: list[str], checkpoint: Path, step: int) -> list[dict[str, Any]]:
        rollouts = self.rollouts.generate(tasks, checkpoint, step)
        failures = Counter(r.get("failure") or "no turn" for r in rollouts if not r["completion_ids"])
        if failures.total() == len(rollouts):
            kinds = ", ".join(f"{count} {kind}" for kind, count in failures.most_common())
            raise TrainingError(f"All {counted(rollouts, 'rollout')} of step {step} failed: {kinds}.")
        rows = [row(rollout, self.max_length, self.filler) for rollout in rollouts]
        if (silent := sum(not r["completion_ids"] and not r.get("failure") for r in rollouts)) and not self.silent:
            self.silent = True
            self.job.say(
                f"in {silent} of {counted(rollouts, 'rollout')} in step {step} the model said nothing (did the agent "
                "go on after a failed request?): their scores are left out"
            )
        if (cut := sum(each["cut"] for each in rows)) and not self.cut:
            self.job.say(
                f"{cut} of {counted(rollouts, 'rollout')} in step {step} are longer than max_length={self.max_length}: "
                "their end is not learnt"
            )
        self.cut += cut
        return rows

    def _compare(self, trainer: Any, rows: list[dict[str, Any]]) -> None:
        sampling = self.rollouts.sampling
        off = difference(trainer, rows, sampling.get("temperature") or 1.0)
        if off is None:
            return
        self.figures["sampling_logp_difference"] = off
        if off > SUSPICIOUS and not (sampling.get("top_k") or (sampling.get("top_p") or 1.0) < 1.0):
            self.job.say(
                f"the server's log-probabilities are {off:.2f} a token away from the trainer's: does it serve these "
                "weights, with this temperature and chat template?"
            )


def row(rollout: dict[str, Any], max_length: int, filler: int) -> dict[str, Any]:
    """A rollout as trl wants it, cut at its end to `max_length` tokens in all.

    One without ids, or whose prompt alone is too long, becomes a masked token: it keeps its place in its group. Without
    ids its scores are not the policy's, and are left out: the others would be measured by them.
    """
    prompt, completion = list(rollout["prompt_ids"] or ()), list(rollout["completion_ids"] or ())
    made = {"scores": dict((completion and rollout.get("scores")) or {}), "failed": not completion, "cut": False}
    room = max_length - len(prompt)
    if not completion or not prompt or room < 1:
        empty = {"prompt_ids": [filler], "completion_ids": [filler], "logprobs": [0.0], "env_mask": [0]}
        return {**made, **empty, "cut": bool(completion)}
    mask, logprobs = rollout.get("mask") or [1] * len(completion), rollout.get("logprobs")
    return made | {
        "prompt_ids": prompt,
        "completion_ids": completion[:room],
        "logprobs": logprobs and [p or 0.0 for p in logprobs[:room]],
        "env_mask": list(mask[:room]),
        "cut": len(completion) > room,
    }


def difference(trainer: Any, rows: list[dict[str, Any]], temperature: float) -> float | None:
    """The mean absolute difference between the server's log-probabilities and the trainer's, on one row's tokens.

    Servers give them at the sampling temperature or at 1; the nearer counts. `None` where the server gave none. All
    processes must call it, for a sharded model computes in all of them.
    """
    import torch

    fit = [r for r in rows if r["logprobs"] and any(r["logprobs"][:CHECKED_TOKENS])]
    chosen = (fit or rows)[0]
    completion = chosen["completion_ids"][:CHECKED_TOKENS]
    model = trainer.model
    ids = torch.tensor([chosen["prompt_ids"] + completion], device=trainer.accelerator.device)
    training = model.training
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast(), _unsloth_with_logits():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=len(completion) + 1).logits
    model.train(training)
    if not fit or logits.shape[1] != len(completion) + 1:
        return None
    tokens = ids[0, -len(completion) :, None]
    mask = torch.tensor(chosen["env_mask"][:CHECKED_TOKENS], device=ids.device).bool()
    given = torch.tensor(chosen["logprobs"][:CHECKED_TOKENS], device=ids.device)[mask]
    scaled = [torch.log_softmax(logits[0, :-1].float() / t, -1).gather(-1, tokens)[mask, 0] for t in (temperature, 1.0)]
    return min(float((own - given).abs().mean()) for own in scaled)


@contextmanager
def _unsloth_with_logits() -> Iterator[None]:
    """Its models give none while they train, to save memory, unless asked."""
    before = os.environ.get("UNSLOTH_RETURN_LOGITS", "0")
    os.environ["UNSLOTH_RETURN_LOGITS"] = "1"
    try:
        yield
    finally:
        os.environ["UNSLOTH_RETURN_LOGITS"] = before


@dataclass
class Policies:
    """The live weights as folders `policy-N` that a server can load; N goes on where an interrupted training was."""

    job: TrainingJob
    tokenizer: Any
    number: int = -1
    step: int = -1

    def save(self, trainer: Any) -> Path:
        """The weights of the current step; saved once a step, by all processes."""
        if self.number < 0:
            self.number = from_main(lambda: max(self._numbers(), default=0))
        if trainer.state.global_step != self.step:
            self.step, self.number = trainer.state.global_step, self.number + 1
            config = trainer.accelerator.unwrap_model(trainer.model).config
            cache = config.use_cache
            save(trainer, self.tokenizer, replace(self.job, output=self._path(self.number)))
            config.use_cache = cache
            if trainer.accelerator.is_main_process:
                for number in sorted(self._numbers())[:-KEPT]:
                    shutil.rmtree(self._path(number), ignore_errors=True)
        return self._path(self.number)

    def _path(self, number: int) -> Path:
        return self.job.work / f"policy-{number}"

    def _numbers(self) -> list[int]:
        names = [path.name.removeprefix("policy-") for path in self.job.work.glob("policy-*")]
        return [int(name) for name in names if name.isdigit()]
