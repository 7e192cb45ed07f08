"""`length`: is the completion short enough?"""


def length(completion: str, *, max_words: int = 200) -> float | tuple[float, str]:
    """1.0 up to `max_words` words, falling in a straight line to 0.0 at twice that.

    A plain brake on the drift to longer completions that reinforcement learning shows; a soft edge as in
    DAPO's overlong reward shaping (Yu et al., 2025), in words. An empty completion earns 0.0.

    Args:
        max_words: Words, as blanks separate them, that cost nothing; at least 1.

    Raises:
        ValueError: `max_words` is below 1.

    >>> length("word " * 10, max_words=10), length("word " * 15, max_words=10)
    (1.0, (0.5, '15 words, more than 10'))
    """
    if max_words < 1:
        raise ValueError(f"length: max_words is {max_words}; it must be at least 1")
    words = len(completion.split())
    if not words:
        return 0.0, "no words"
    if words <= max_words:
        return 1.0
    return max(0.0, 2.0 - words / max_words), f"{words} words, more than {max_words}"
