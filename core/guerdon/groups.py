"""Trajectories by task: which rollouts are still to do, and when a group is whole and can be scored."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from guerdon.invoke import Item
from guerdon.rollout import Attempt
from guerdon.trajectory import Trajectory


class Groups:
    """Sorts trajectories into the groups of their tasks, and says when one is whole."""

    def __init__(self, attempts: Sequence[Attempt], stored: Iterable[Trajectory]) -> None:
        have: dict[str, Trajectory] = {t.id: t for t in stored}
        self._sizes: dict[str, int] = defaultdict(int)
        self._groups: dict[str, list[Item]] = defaultdict(list)
        self.missing = [a for a in attempts if a.id not in have]
        for attempt in attempts:
            self._sizes[attempt.task.id] += 1
            if attempt.id in have:
                self._groups[attempt.task.id].append((attempt.task, have[attempt.id]))

    def whole(self) -> list[list[Item]]:
        """Groups that are complete already, but for their scores."""
        return [
            g
            for name, g in self._groups.items()
            if len(g) == self._sizes[name] and any(not t.scores and not t.failure for _, t in g)
        ]

    def add(self, attempt: Attempt, trajectory: Trajectory) -> list[Item] | None:
        """The whole group, if this was the last of it."""
        group = self._groups[attempt.task.id]
        group.append((attempt.task, trajectory))
        if len(group) < self._sizes[attempt.task.id]:
            return None
        return sorted(group, key=lambda item: item[1].attempt)
