"""What is worth another try: a failure that the server, the tools or the worker had, and not the agent."""

import random

WORTH_IT = frozenset({"http_429", "dropped", "refused", "server_died", "tool_server", "worker_died"})

LONGEST_WAIT = 30.0


def worth_another_try(kind: str) -> bool:
    """Whether a rollout that failed in this way may do better next time.

    A timeout is not: it has had its time. Nor is what the agent did, or a request that the server refused.

    >>> worth_another_try("http_503"), worth_another_try("http_404"), worth_another_try("timeout")
    (True, False, False)
    """
    return kind in WORTH_IT or (kind.startswith("http_5") and len(kind) == len("http_500"))


def wait_before(retry: int) -> float:
    """Seconds before the first retry, the second ...: 0.5, 1, 2, with a random half, so that they spread."""
    return min(LONGEST_WAIT, 0.5 * 2.0 ** (retry - 1)) * (0.5 + random.random() / 2)
