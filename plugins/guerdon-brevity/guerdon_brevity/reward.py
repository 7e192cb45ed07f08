"""The reward `brevity`."""


def brevity(completion: str, *, max_words: int = 100) -> float:
    """1.0 when the answer has at most `max_words` words, falling to 0.0 at twice that.

    Args:
        max_words: Words that cost nothing; at least 1.

    >>> [brevity("word " * n, max_words=10) for n in (0, 10, 15, 20, 99)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if max_words < 1:
        raise ValueError(f"brevity: max_words is {max_words}; it must be at least 1")
    return min(1.0, max(0.0, 2.0 - len(completion.split()) / max_words))
