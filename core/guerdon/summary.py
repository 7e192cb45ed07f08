"""A run in figures: what its trajectories came to, stage by stage."""

import statistics
from collections.abc import Sequence
from typing import Any

from guerdon.report import number
from guerdon.store import Run
from guerdon.tally import tally
from guerdon.trajectory import Trajectory


def figures(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """What a stage's trajectories came to."""
    good = [t for t in trajectories if not t.failure]
    rewards = [t.reward for t in good if t.reward is not None]
    return {
        "tasks": len({t.task_id for t in trajectories}),
        "rollouts": len(trajectories),
        "failed": len(trajectories) - len(good),
        "reward": statistics.fmean(rewards) if rewards else None,
        "rewards": {
            name: {**counts.to_json(), "positive": sum(v > 0 for v in counts.values)}
            for name, counts in tally(trajectories).items()
        },
        "tool_calls": statistics.fmean([t.tool_calls for t in good]) if good else None,
        "tokens": statistics.fmean([t.reply_tokens for t in good]) if good else None,
        "seconds": sum(t.seconds for t in trajectories),
    }


def running_means(trajectories: Sequence[Trajectory]) -> str:
    """'reward 0.50  numeric 0.40  xml_format 0.10', over what is scored so far."""
    got = figures([t for t in trajectories if t.scores or t.failure])
    parts = [f"reward {number(got['reward'], 2)}"]
    if len(got["rewards"]) > 1:
        parts += [f"{name} {number(r['mean'], 2)}" for name, r in got["rewards"].items()]
    if got["failed"]:
        parts.append(f"failed {got['failed']}")
    return "  ".join(parts)


def summarise(run: Run) -> dict[str, Any]:
    """A run's figures: what `guerdon show RUN --json` prints."""
    stages = run.stages()
    return {
        "run": run.id,
        "finished": "finished" in stages,
        "eval": {n.removeprefix("eval-"): d for n, d in stages.items() if n.startswith("eval-")},
        "rollouts": {n.removeprefix("rollout-"): d for n, d in stages.items() if n.startswith("rollout-")},
        "training": {n.removeprefix("train-"): d for n, d in stages.items() if n.startswith("train-")},
    }
