"""Rewards as trl wants them: one function each, all of which read from one scoring of the batch.

trl calls the functions one after the other with the same batch; the first has the engine score it, the others read. A
score of `None`, not applicable, stays `None`: trl leaves it out, and gives a completion without any score no advantage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from guerdon.errors import TrainingError
from guerdon.task import Message
from guerdon.training import Rollouts
from guerdon_trainers.together import together

Scores = list[dict[str, float | None]]


def reward_functions(names: Sequence[str], scores: Callable[..., Scores]) -> list[Callable[..., list[float | None]]]:
    """A function for each reward, of its name. `scores` is called with its index and what trl hands to it."""

    def function(index: int, name: str) -> Callable[..., list[float | None]]:
        def reward(**given: Any) -> list[float | None]:
            return [each.get(name) for each in scores(index, **given)]

        reward.__name__ = name
        return reward

    return [function(index, name) for index, name in enumerate(names)]


@dataclass
class CompletionScores:
    """Scores of what trl generated. `tokens` renders a prompt to token ids; `stop` are the texts that end an answer."""

    rollouts: Rollouts
    tokenizer: Any
    tokens: Callable[[list[Message]], list[int]]
    stop: Sequence[str] = ()
    ids: list[list[int]] = field(default_factory=list)
    scores: Scores = field(default_factory=list)

    def __call__(
        self,
        index: int,
        *,
        prompts: list[list[Message]],
        completion_ids: list[list[int]],
        task: list[str],
        trainer_state: Any,
        **_: Any,
    ) -> Scores:
        """The batch's scores, asked for by the first function."""
        if index == 0:
            rendered = {name: self.tokens(prompt) for name, prompt in zip(task, prompts, strict=True)}
            items = [
                {"task": t, "completion": self.text(ids), "prompt_ids": rendered[t], "completion_ids": list(ids)}
                for t, ids in zip(task, completion_ids, strict=True)
            ]
            step = trainer_state.global_step + 1
            scored = together(lambda every: self.rollouts.score(every, step), items)
            self.ids, self.scores = completion_ids, [each["scores"] for each in scored]
        elif completion_ids is not self.ids and completion_ids != self.ids:
            raise TrainingError("trl asked its reward functions about different batches; scores would be mixed up.")
        return self.scores

    def text(self, ids: list[int]) -> str:
        """What the model answered, up to a stop text."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        cuts = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text
