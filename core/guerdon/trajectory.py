"""A trajectory: the frozen record of one rollout, its turns and its scores.

A turn is one model call. Agents mostly extend one conversation, so a turn stores only what it adds: it keeps the first
`keep` messages of the conversation so far, appends `prompt`, and the model's `reply` comes last.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from guerdon.task import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """One model call. Token ids and logprobs are those that the server sampled; empty where it gives none."""

    keep: int
    prompt: tuple[Message, ...]
    reply: Message
    finish_reason: str = ""
    prompt_ids: tuple[int, ...] = ()
    reply_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    reply_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something has no result. `kind` is one word for counting, `message` is for reading."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Score:
    """What one reward gave one trajectory: a value, nothing (not applicable), or an error."""

    value: float | None
    weight: float = 1.0
    reason: str = ""
    error: Failure | None = None
    seconds: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        """A frozen dataclass is pickled slowly, and scores come from other processes by the thousand."""
        return Score, (self.value, self.weight, self.reason, self.error, self.seconds)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One rollout: what an agent did with one task.

    `phase` is "train", "eval" or "warmup". `iteration` counts from 1, what happens before the first has 0. `attempt`
    counts from 0 within the group of one task.
    `completion` is the agent's final answer, `None` when it failed. `reward` is the weighted sum of `scores`, `None`
    until scored or where no reward of any weight applied. `tries` counts how often it was begun before its end.
    """

    id: str
    task_id: str
    phase: str
    iteration: int
    attempt: int
    agent: str
    model: str
    turns: tuple[Turn, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    completion: str | None = None
    failure: Failure | None = None
    seconds: float = 0.0
    scores: Mapping[str, Score] = field(default_factory=dict)
    reward: float | None = None
    tries: int = 1

    def conversations(self) -> Iterator[list[Message]]:
        """The conversation as it stood after each turn, the reply included."""
        so_far: list[Message] = []
        for turn in self.turns:
            so_far = [*so_far[: turn.keep], *turn.prompt, turn.reply]
            yield so_far

    @property
    def messages(self) -> list[Message]:
        """The conversation after the last turn; of an agent that held several, the last of them."""
        last: list[Message] = []
        for last in self.conversations():  # noqa: B007  the last one is what is wanted
            pass
        return last

    @property
    def tool_calls(self) -> int:
        return sum(len(t.reply.get("tool_calls") or ()) for t in self.turns)

    @property
    def reply_tokens(self) -> int:
        return sum(t.reply_tokens for t in self.turns)

    def to_json(self) -> dict[str, Any]:
        """As plain data. Not by `asdict`, which copies every token id with care."""
        turns = [_plain(turn) for turn in self.turns]
        scores = {
            name: {**_plain(score), "error": asdict(score.error) if score.error else None}
            for name, score in self.scores.items()
        }
        failure = asdict(self.failure) if self.failure else None
        return {**_plain(self), "turns": turns, "scores": scores, "failure": failure}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Trajectory":
        fields = dict(data)
        fields["turns"] = tuple(_turn(t) for t in fields.get("turns", ()))
        fields["tools"] = tuple(fields.get("tools", ()))
        fields["failure"] = _failure(fields.get("failure"))
        fields["scores"] = {k: score_from_json(v) for k, v in (fields.get("scores") or {}).items()}
        return cls(**fields)

    def scored(self, scores: Mapping[str, Score]) -> "Trajectory":
        """A copy with these scores and their weighted sum."""
        return replace(self, scores=dict(scores), reward=weighted_sum(scores))


def weighted_sum(scores: Mapping[str, Score]) -> float | None:
    """The sum of value times weight over the rewards that applied; `None` when none did or one failed (`drop`).

    Without the one that failed, a right answer would be worth less than a wrong one beside it. What has weight 0 is
    only measured: beside others it decides nothing.
    """
    counting = [s for s in scores.values() if s.weight] or list(scores.values())
    if any(s.error and s.value is None for s in counting):
        return None
    given = [s.value * s.weight for s in counting if s.value is not None]
    return sum(given) if given else None


def score_from_json(data: Mapping[str, Any]) -> Score:
    return Score(**{**data, "error": _failure(data.get("error"))})


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields, as they are."""
    return {name: getattr(record, name) for name in record.__slots__}


def _turn(data: Mapping[str, Any]) -> Turn:
    tuples = ("prompt", "prompt_ids", "reply_ids", "logprobs")
    return Turn(**{**data, **{k: tuple(data.get(k, ())) for k in tuples}})


def _failure(data: Mapping[str, Any] | None) -> Failure | None:
    return Failure(**data) if data else None
