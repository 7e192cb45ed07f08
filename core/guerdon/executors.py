"""What an executor is told: start so many rollout workers for this queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class WorkerStart:
    """`count` workers are wanted, each `python -m guerdon.rollout_worker` with `env` in its environment.

    `url` is the queue's address and `token` opens it; both are in `env` too.
    """

    url: str
    token: str
    count: int
    env: Mapping[str, str] = field(default_factory=dict)
