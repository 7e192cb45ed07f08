"""`correctness`: is the marked answer, as text, the reference?"""

import re
from typing import Any

from guerdon_rewards.extraction import MARKS, Method, extract, tutorial_answer


def correctness(
    completion: str,
    answer: Any,
    *,
    value: float = 2.0,
    how: tuple[Method, ...] = MARKS,
    compat: bool = False,
) -> float | tuple[float | None, str] | None:
    """`value` when the completion's marked answer equals the reference as text, else 0.0; not applicable
    without one.

    Compared without case, thousands commas, a leading `$`, a final full stop, and with blanks run together. A
    bare answer without a mark earns nothing. From the Unsloth GRPO tutorial, whose exact rule is `compat`:
    the text after the last `<answer>`, or the whole completion where there is none, equals the reference
    character for character.

    Args:
        value: What a right answer earns.
        how: The marks that count, see `extraction`; the last in the completion wins.
        compat: Score exactly as the tutorial does; `how` must be left out.

    Raises:
        ValueError: `compat` comes with `how`.

    >>> correctness("<answer>1,000</answer>", 1000)
    2.0
    >>> correctness("1000", 1000), correctness("1000", 1000, compat=True)
    ((0.0, 'no marked answer'), 2.0)
    """
    if answer is None:
        return None
    if compat:
        if how != MARKS:
            raise ValueError("correctness: with `compat`, leave out `how`")
        return value if tutorial_answer(completion) == str(answer) else 0.0
    found = extract(completion, how)
    if found is None:
        return 0.0, "no marked answer"
    if _plain(found.text) == _plain(_text(answer)):
        return value
    return 0.0, f"{found.text[:40]} against {_text(answer)[:40]}"


def _text(answer: Any) -> str:
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)


_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


def _plain(text: str) -> str:
    text = " ".join(text.casefold().split())
    return _COMMA.sub("", text).removesuffix(".").removeprefix("$").removesuffix("$").strip()
