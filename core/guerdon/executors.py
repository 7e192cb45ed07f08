"""What an executor is told: start so many rollout workers for this queue.

An executor is an async context manager `(start: WorkerStart, *, settings)`. While it is open, `count` workers are
running, each `python -m guerdon.rollout_worker` with `env` and, as GUERDON_WORKER, a name of its own. Each gets the
token as the first line of stdin, with GUERDON_ENGINE=stdin: it goes when stdin closes, and says on stdout that it is
ready. Or as GUERDON_TOKEN, which its agents' tools can read. One that died is started again, under the same name: by
this the queue knows at once that what the name had is to be done again. On exit the workers are asked to end (SIGTERM:
they give back what they have), and none is left. When they cannot be started it raises, by ending its body with a
`guerdon.errors.AgentError` that has the end of their log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class WorkerStart:
    """`count` workers are wanted.

    `url` is the queue's address, in `env` too (GUERDON_QUEUE), and `token` opens it. What the workers print belongs
    into a file each in `logs`.
    """

    url: str
    token: str
    count: int
    env: Mapping[str, str] = field(default_factory=dict)
    logs: Path | None = None
