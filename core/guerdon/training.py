"""What a trainer is given: its job, rollouts where it asks for them, and what is known before it starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from guerdon.recipe import Launch


class Log(Protocol):
    """Called in the training process with a step's figures; they reach the run's store and the screen."""

    def __call__(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...


class Rollouts(Protocol):
    """What a trainer that rolls out (`rolls_out`) asks for while it trains. Only the main process may call.

    `group_size` attempts are wanted of each task, sampled by `sampling` (temperature, top_p, top_k, max_tokens, stop,
    seed; those that are not set are left out). `rewards` are names and weights. `single_turn` says that the agent asks
    the model once and has no tools: a trainer may then generate by itself, and have its completions scored.
    """

    group_size: int
    sampling: Mapping[str, Any]
    rewards: tuple[tuple[str, float], ...]
    single_turn: bool

    def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
        """The agent's rollouts of these tasks (ids, one attempt each), with this checkpoint as its model.

        One mapping each, in order: `prompt_ids`, `completion_ids`, `logprobs` and `mask` (of the completion; 1 where
        the model sampled), `scores` by reward (`None`: not applicable), `reward`, the `trajectory`'s id, `failure`.
        A rollout without a turn has no ids.
        """
        ...

    def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        """Score and store completions that the trainer generated: items have `task`, `completion`, `prompt_ids`,
        `completion_ids`, perhaps `logprobs`; `scores`, `reward` and `trajectory` come back, in order."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One call of a trainer.

    `model` is a folder or a hub id; `adapter` a LoRA adapter to go on from, `None` to start a new one. `rows` is a
    JSONL file: a row has `input_ids` and `labels` (-100 where nothing is learnt; what the server sampled, not
    tokenised again), or `messages` and `tools` for the model's own chat template (learnt on the messages
    whose indices are in `learn`, on all of the assistant's without it), or `prompt` and `completion` as plain texts, or
    `text`; and perhaps a `reward`. `validation` is such a file too. For a trainer that rolls out, a row has `task`, an
    id, and `prompt`, messages; `rollouts` is then given.

    The trainer writes an adapter, or a whole model, with the tokenizer, to the folder `output`. `work` is a folder of
    its own that is kept when it is interrupted: a trainer that finds its checkpoints there goes on from them. `say`
    puts one line on the user's screen. Of a launch with `world` processes one is `main`; `log` and `say` do nothing in
    the others.
    """

    model: str
    adapter: Path | None
    rows: Path
    output: Path
    seed: int
    log: Log
    work: Path = field(default_factory=lambda: Path.cwd() / "work")
    validation: Path | None = None
    rollouts: Rollouts | None = None
    say: Callable[[str], None] = lambda _: None
    main: bool = True
    world: int = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known before a training starts; given to a trainer's preflight with its settings.

    `rows` is how many rows or tasks there are to train on, where it is known. `checking` says that the recipe is only
    looked at (`guerdon check`), perhaps on another machine than it will run on. `server_share` is what the recipe's
    server takes of each GPU's memory while it is awake; 0 where that is not known. Relative paths in the settings start
    from `folder`. The others as in `TrainingJob`.
    """

    model: str
    launch: Launch
    adapter: Path | None = None
    rows: int | None = None
    validation: bool = False
    group_size: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    rewards: tuple[tuple[str, float], ...] = ()
    single_turn: bool = False
    server_share: float = 0.0
    checking: bool = False
    folder: Path = Path()


class Service(Protocol):
    """What the engine does for a training process: shows and keeps what it reports, and rolls out for it."""

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...

    def say(self, text: str) -> None: ...

    async def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]: ...

    async def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]: ...
