"""Which trajectories are worth training on: those that earn enough, the best of them, none twice."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from guerdon.errors import counted
from guerdon.task import Message
from guerdon.trajectory import Trajectory


@dataclass(frozen=True)
class Choice:
    """The `kept` trajectories, and how many of the others were left out for what."""

    kept: list[Trajectory] = field(repr=False)
    rollouts: int
    failed: int
    earning: int
    duplicates: int
    over_per_task: int
    min_reward: float | None
    keep_top: float
    best_reward: float | None

    def __str__(self) -> str:
        parts = [f"{self.failed} failed"] if self.failed else []
        parts.append(f"{self.earning} earn {threshold(self.min_reward)}")
        parts += [counted(self.duplicates, "duplicate")] if self.duplicates else []
        parts += [f"{self.over_per_task} over per_task"] if self.over_per_task else []
        if self.keep_top < 1:
            parts.append("best half" if self.keep_top == 0.5 else f"best {self.keep_top * 100:g} %")
        kept = f"{len(self.kept)} {'trajectory' if len(self.kept) == 1 else 'trajectories'}"
        return f"{counted(self.rollouts, 'rollout')}: {', '.join(parts)}: {kept}"

    def to_json(self) -> dict[str, float | None]:
        """The numbers."""
        numbers = ("rollouts", "failed", "earning", "duplicates", "over_per_task", "min_reward", "keep_top")
        return {**{name: getattr(self, name) for name in numbers}, "kept": len(self.kept)}


def threshold(min_reward: float | None) -> str:
    """What a trajectory must earn.

    >>> threshold(0.5), threshold(None)
    ('>= 0.5', '> 0')
    """
    return f">= {min_reward:g}" if min_reward and min_reward > 0 else "> 0"


def choose(
    trajectories: Sequence[Trajectory],
    *,
    min_reward: float | None = None,
    keep_top: float = 1.0,
    per_task: int | None = None,
    seed: int = 0,
) -> Choice:
    """Those that earn `min_reward`, of them at most `per_task` of one task, of these the best `keep_top`, shuffled.

    What earned nothing is never taken, whatever `min_reward` is. Of attempts at one task that are the same to the
    letter, the ids of tool calls aside, one is taken. `keep_top` is Agent Lightning's `train_triplet_fraction`: the
    best `max(1, int(n * keep_top))`. Where rewards are equal, chance decides, by the seed.
    """
    good = [t for t in trajectories if t.failure is None and t.reward is not None and t.reward > 0]
    good = [t for t in good if min_reward is None or (t.reward or 0.0) >= min_reward]
    single = list({(t.task_id, t.completion, _text(t)): t for t in reversed(good)}.values())
    rng = random.Random(seed)
    rng.shuffle(single)
    single.sort(key=lambda t: t.reward or 0.0, reverse=True)
    few = _at_most(per_task, single) if per_task else single
    kept = few[: max(1, int(len(few) * keep_top))]
    rng.shuffle(kept)
    return Choice(
        kept,
        rollouts=len(trajectories),
        failed=sum(t.failure is not None for t in trajectories),
        earning=len(good),
        duplicates=len(good) - len(single),
        over_per_task=len(single) - len(few),
        min_reward=min_reward,
        keep_top=keep_top,
        best_reward=max((t.reward for t in trajectories if t.reward is not None), default=None),
    )


def _at_most(count: int, ordered: Sequence[Trajectory]) -> list[Trajectory]:
    """The first so many of each task."""
    seen: Counter[str] = Counter()
    taken = []
    for trajectory in ordered:
        seen[trajectory.task_id] += 1
        if seen[trajectory.task_id] <= count:
            taken.append(trajectory)
    return taken


def _text(trajectory: Trajectory) -> str:
    """All turns, of all conversations, without the ids of tool calls, which are drawn anew for each attempt."""
    bare = list[Message]()
    for message in (m for turn in trajectory.turns for m in (*turn.prompt, turn.reply)):
        calls = [{**c, "id": ""} if isinstance(c, dict) else c for c in message.get("tool_calls") or ()]
        bare.append({**message, "tool_calls": calls, "tool_call_id": ""})
    return json.dumps(bare, sort_keys=True)
