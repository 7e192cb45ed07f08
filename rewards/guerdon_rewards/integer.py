"""`integer`: is the marked answer an integer?"""

import re

from guerdon_rewards.extraction import MARKS, Method, extract, tutorial_answer

_INTEGER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})++|[0-9]++)")


def integer(
    completion: str, *, value: float = 0.5, how: tuple[Method, ...] = MARKS, compat: bool = False
) -> float | tuple[float, str]:
    """`value` when the completion's marked answer is an integer, else 0.0.

    An integer is ASCII digits, with a sign and thousands commas where wanted: `-5` and `1,000` are, `3.5` and
    `²` are not. From the Unsloth GRPO tutorial, whose exact rule is `compat`: `str.isdigit()` of the text
    after the last `<answer>`, or of the whole completion (`²` is, `-5` and `1,000` are not).

    Args:
        value: What an integer earns.
        how: The marks that count, see `extraction`; the last in the completion wins.
        compat: Score exactly as the tutorial does; `how` must be left out.

    Raises:
        ValueError: `compat` comes with `how`.

    >>> integer("<answer>-5</answer>"), integer("<answer>-5</answer>", compat=True)
    (0.5, 0.0)
    >>> integer("<answer>3.5</answer>")
    (0.0, '3.5 is not an integer')
    """
    if compat:
        if how != MARKS:
            raise ValueError("integer: with `compat`, leave out `how`")
        return value if tutorial_answer(completion).isdigit() else 0.0
    found = extract(completion, how)
    if found is None:
        return 0.0, "no marked answer"
    return value if _INTEGER.fullmatch(found.text) else (0.0, f"{found.text[:40]} is not an integer")
