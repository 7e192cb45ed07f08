"""What an executor is told: start so many rollout workers for this queue.

An executor is an async context manager `(start: WorkerStart, *, settings)`. While it is open, `count` workers are
running, each `python -m guerdon.rollout_worker` with `env` and, as GUERDON_WORKER, a name of its own. It starts one
that died again, under the same name: by this the queue knows at once that what the name had is to be done again. On
exit it asks its workers to end (SIGTERM: they give back what they have), and leaves none. When they cannot be started
it raises, by ending its body with a `guerdon.errors.AgentError` that has the end of their log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class WorkerStart:
    """`count` workers are wanted.

    `url` is the queue's address and `token` opens it; both are in `env` too (GUERDON_QUEUE, GUERDON_TOKEN). What the
    workers print belongs into a file each in `logs`.
    """

    url: str
    token: str
    count: int
    env: Mapping[str, str] = field(default_factory=dict)
    logs: Path | None = None
