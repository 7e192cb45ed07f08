"""What is watched while GRPO trains: that there is something to learn, and that the weights stay numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from guerdon.errors import TrainingError
from guerdon.training import Rollouts, TrainingJob

TIMES_FLAT = 10
"""Logs in a row without variance in most groups, before a word is said."""


@contextmanager
def numbers_only(trainer: Any) -> Iterator[None]:
    """Weights that are no numbers show when the next answers are drawn, before any loss does."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        step = trainer.state.global_step
        raise TrainingError(f"The loss is nan after step {step}. Lower the learning_rate.") from error


def variance_watch(job: TrainingJob, rollouts: Rollouts) -> Any:
    """Says once that most groups have had no variance for a while, so that there was nothing to learn."""
    from transformers import TrainerCallback

    names = [name for name, _ in rollouts.rewards]

    class VarianceWatch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        times = 0
        constant = frozenset(names)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if (flat := logs.get("frac_reward_zero_std")) is None:
                return
            if flat <= 0.5:
                self.times, self.constant = 0, frozenset(names)
                return
            self.times += 1
            self.constant &= {name for name in names if not logs.get(f"rewards/{name}/std")}
            if self.times == TIMES_FLAT:
                same = ", ".join(sorted(self.constant))
                why = f"constant: {same}" if same else "the attempts at a task score alike, though tasks differ"
                job.say(
                    f"no variance in most groups for {TIMES_FLAT} steps, so almost nothing is learnt ({why}). Easier "
                    "or harder tasks, a larger loop.group_size or a higher temperature give some; or sft first."
                )

    return VarianceWatch()
