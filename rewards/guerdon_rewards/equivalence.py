"""`equivalence`: is the answer mathematically the same as the reference?"""

import logging
from typing import Any

from guerdon_rewards.extraction import MARKS, Answer, Method, extract
from guerdon_rewards.number import parse_number

ORDER: tuple[Method, ...] = (*MARKS, "sentence", "whole")


def equivalence(
    completion: str, answer: Any, *, how: tuple[Method, ...] = ORDER
) -> float | tuple[float | None, str] | None:
    r"""1.0 when the completion's answer equals the reference by algebra, else 0.0; not applicable without a
    reference.

    Equal text and equal numbers are settled at once; the rest (expressions, fractions, sets, intervals,
    matrices, LaTeX or plain) goes to math-verify (Hugging Face, 2025), so to sympy. That can take any time:
    guerdon runs this reward in a worker process that it kills at the deadline, and math-verify's own limits,
    which work in a main thread only, are off.

    Args:
        how: Where to look for the answer, see `extraction`; marks compete and the last wins, guesses go in
            order.

    Raises:
        ValueError: the reference holds nothing that math-verify reads; the task is at fault.
        Exception: whatever math-verify or sympy raises over an answer.

    >>> equivalence(r"So it is \boxed{\frac{\sqrt{8}}{2}}.", r"\sqrt{2}")
    1.0
    >>> equivalence(r"\boxed{x^2 + 1}", "x^2 - 1")
    (0.0, 'x^2 + 1 against x^2 - 1')
    """
    if answer is None:
        return None
    found = extract(completion, how)
    if found is None:
        return 0.0, "no answer found"
    reference = str(answer).strip()
    if found.text == reference or _same_number(found.text, reference) or _verified(found, reference):
        return 1.0
    return 0.0, f"{found.text[:40]} against {reference[:40]}"


def _same_number(text: str, reference: str) -> bool:
    got, want = parse_number(text), parse_number(reference)
    return got is not None and want is not None and (got.value, got.percent) == (want.value, want.percent)


def _verified(found: Answer, reference: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    # it warns that its limits are off: that is what we want, and what the worker is for
    for module in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(module).setLevel(logging.ERROR)
    configs = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    given = found.text if found.how == "whole" else _boxed(found.text)
    want = parse(_boxed(reference), configs, parsing_timeout=None, raise_on_error=True)
    if not want:
        raise ValueError(f"math-verify reads no mathematics in the reference answer {reference[:80]!r}")
    got = parse(given, configs, parsing_timeout=None, raise_on_error=True)
    return bool(verify(want, got, timeout_seconds=None, raise_on_error=True))


def _boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"
