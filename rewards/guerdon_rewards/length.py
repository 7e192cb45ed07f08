"""`length`: is the completion short enough?"""


def length(completion: str, *, max_words: int = 200) -> float:
    """1.0 up to `max_words` words, falling in a straight line to 0.0 at twice that.

    A plain brake on the drift to longer completions that reinforcement learning shows; a soft edge as in
    DAPO's overlong reward shaping (Yu et al., 2025), in words. An empty completion earns 0.0.

    Args:
        max_words: Words, as blanks separate them, that cost nothing; at least 1.

    Raises:
        ValueError: `max_words` is below 1.

    >>> [length("word " * n, max_words=10) for n in (0, 1, 10, 15, 20, 99)]
    [0.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if max_words < 1:
        raise ValueError(f"length: max_words is {max_words}; it must be at least 1")
    words = len(completion.split())
    return min(1.0, max(0.0, 2.0 - words / max_words)) if words else 0.0
