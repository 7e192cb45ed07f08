"""`equivalence`: is the answer mathematically the same as the reference?"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from guerdon.errors import RewardError
from guerdon_rewards.extraction import COMMITTED, Answer, Method, candidates, extract, reference
from guerdon_rewards.guesses import Sought
from guerdon_rewards.mathematics.prepare import repaired
from guerdon_rewards.mathematics.verdict import Verdict, compared, readable, slow_pair
from guerdon_rewards.number import parse_number

SECONDS = 1.0
"""What sympy may take over one answer, in a worker process."""


class Reference(NamedTuple):
    """What a reference states, and the kind of answer to look for."""

    text: str
    sought: Sought


def equivalence(
    completion: str, answer: Any, *, how: tuple[Method, ...] = COMMITTED, strict: bool = False
) -> float | tuple[float | None, str] | None:
    r"""1.0 when the completion's answer means what the reference means, else 0.0; not applicable without a reference.

    Compared in stages, each able to say yes, no or "not mine": text, exact numbers, structures part by part (sets,
    intervals, equations, matrices ...), expressions by exact or interval values, and for what is left sympy in a
    worker process. What is not understood is not accepted. The reason names the stage and what was compared.

    Args:
        how: Where to look for the answer, see `extraction`; marks compete and the last wins, guesses go in order.
        strict: Units have to be there, `x = 5` is not 5, nothing is rounded, lists keep their order.

    Raises:
        ValueError: the reference is empty; the task is at fault.
        RewardError: sympy took too long or died over this answer, or is not installed.

    >>> equivalence(r"So it is \boxed{\frac{\sqrt{8}}{2}}.", r"\sqrt{2}")
    (1.0, 'structure: \\frac{\\sqrt{8}}{2} is \\sqrt{2}')
    >>> equivalence(r"\boxed{x^2 + 1}", "x^2 - 1")
    (0.0, 'structure: x^2 + 1 is not x^2 - 1')
    """
    if answer is None:
        return None
    if "\b" in completion or "\f" in completion:  # a string that took \boxed and \frac for escapes
        completion = repaired(completion)
    wanted = _reference(answer if isinstance(answer, str) else str(answer))
    found = extract(completion, how, wanted.sought)
    if found is None:
        return 0.0, "no answer found"
    if found.parts and all(compared(found.parts[0], part).equal for part in found.parts[1:]):
        found = Answer(found.parts[-1], found.how)  # the same answer in several boxes
    value, reason, stage = _judged(wanted.text, found.text, strict)
    if stage == "unread" and found.how == "clause":
        found = _second_reading(completion, how, wanted) or found
        value, reason, stage = _judged(wanted.text, found.text, strict)
    if value is None:
        value, reason = _slowly(wanted.text, found.text)
    return value, reason


def warm_up() -> None:
    """Import all that a comparison may need, so that no deadline pays for it; a worker's spawner calls this."""
    from guerdon_rewards.mathematics import symbolic

    equivalence("$x^2$", "$x + 1$")
    symbolic.warm_up()


@lru_cache(1 << 16)
def _judged(wanted: str, given: str, strict: bool) -> tuple[float | None, str, str]:
    """The score by the bounded stages, or None where they cannot tell; its reason, and the last stage."""
    verdict = compared(wanted, given, strict)
    value = None if verdict.equal is None else float(verdict.equal)
    return value, _reason(verdict, given, wanted), verdict.stage


@lru_cache(1 << 14)
def _reference(answer: str) -> Reference:
    if answer.isdigit() and answer.isascii():
        return Reference(answer, "number")
    text = reference(answer)
    if not text:
        raise ValueError("the reference answer is empty; map `answer` to the field that holds it")
    if _LETTER.fullmatch(text):
        return Reference(text, "choice")
    if parse_number(text):
        return Reference(text, "number")
    return Reference(text, "text" if _WORDS.fullmatch(text) else "any")


_LETTER = re.compile(r"\(?(?:\\(?:text|mathrm|textbf)\s*\{)?\(?[A-Z]\)?\}?\)?\.?")
_WORDS = re.compile(r"(?:\\text\s*\{)?[A-Za-z]{2,}(?: [A-Za-z]+){0,3}\}?")


def _second_reading(completion: str, how: tuple[Method, ...], wanted: Reference) -> Answer | None:
    """The first other guess that is understood at all: one only, so that guessing does not pay."""
    for candidate in candidates(completion, how, wanted.sought)[1:]:
        if readable(candidate.text):
            return candidate
    return None


def _slowly(wanted: str, given: str) -> tuple[float, str]:
    pair = slow_pair(wanted, given)
    verdict = Verdict(False, "structure")
    if pair:
        from guerdon.workers import isolated

        try:
            verdict = Verdict(
                isolated("guerdon_rewards.mathematics.symbolic:equal", *pair, timeout=SECONDS), "symbolic"
            )
        except RewardError as error:
            raise RewardError(f"comparing {_short(given)} with {_short(wanted)}: {error}", kind=error.kind) from None
    return float(bool(verdict.equal)), _reason(verdict, given, wanted)


def _reason(verdict: Verdict, given: str, wanted: str) -> str:
    if verdict.stage == "unread":
        return f"not understood: {_short(given)} against {_short(wanted)}"
    return f"{verdict.stage}: {_short(given)} {'is' if verdict.equal else 'is not'} {_short(wanted)}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
