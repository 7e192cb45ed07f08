r"""math-verify's API backed by guerdon, to run math-verify's own tests with it.

`install()` puts modules named `math_verify`, `.parser`, `.grader`, `.errors` in `sys.modules`. `parse` looks where the
configs say (LaTeX in `$...$`, `\[...\]`, `\(...\)` and boxes; plain expressions and numbers; strings) and gives back
what it found, unparsed; `verify` lets `equivalence` compare. sympy's objects are taken where the tests hand them over.
Of latex2sympy2_extended's `NormalizationConfig` only `malformed_operators` means something here.
"""

import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from types import ModuleType
from typing import Any, Literal

from guerdon_rewards.equivalence import equivalence
from guerdon_rewards.extraction import extract, undressed
from guerdon_rewards.mathematics.compare import same
from guerdon_rewards.mathematics.evaluate import evaluate
from guerdon_rewards.mathematics.verdict import plain, readable, trees


class TimeoutException(BaseException):
    pass


@dataclass(frozen=True)
class LatexExtractionConfig:
    try_extract_without_anchor: bool = True
    boxed_match_priority: int = 50
    normalization_config: Any = None


@dataclass(frozen=True)
class ExprExtractionConfig:
    try_extract_without_anchor: bool = True


@dataclass(frozen=True)
class StringExtractionConfig:
    strings: tuple[str, ...] = field(default_factory=lambda: ("A", "B", "C", "D"))
    try_extract_without_anchor: bool = True
    lowercase: bool = True


Config = LatexExtractionConfig | ExprExtractionConfig | StringExtractionConfig
ROUNDING = 6
"""math-verify's default of decimals; guerdon goes by the digits that are shown."""
DEFAULT: tuple[Config, ...] = (LatexExtractionConfig(), ExprExtractionConfig())


@dataclass(frozen=True, eq=False)
class Parsed:
    """An answer as it was found: equal to what `verify` takes as equal, sympy's objects too."""

    text: str

    def __eq__(self, other: object) -> bool:
        return sympy_expr_eq(other, self)

    __hash__ = None  # type: ignore[assignment]

    def __sub__(self, other: Any) -> Any:
        """Zero where they are equal: how a test asks that."""
        return 0 if self == other else self.text


def parse(
    pred: str,
    extraction_config: Sequence[Config] = DEFAULT,
    fallback_mode: str = "first_match",
    extraction_mode: str = "any_match",
    parsing_timeout: int | None = 5,
    raise_on_error: bool = False,
) -> list[Any]:
    """What the text holds, best first: [found, its text], or [] where there is nothing."""
    for config in extraction_config:
        if isinstance(config, StringExtractionConfig):
            return _string(pred, config)
    found = _guarded(lambda: _found(pred, extraction_config), parsing_timeout, raise_on_error)
    if not found:
        return []
    text, parsed = found
    return [parsed, text] if fallback_mode == "first_match" else [parsed]


def verify(
    gold: Any,
    target: Any,
    float_rounding: int = ROUNDING,
    numeric_precision: int = 15,
    strict: bool = True,
    allow_set_relation_comp: bool = False,
    timeout_seconds: int | None = 5,
    raise_on_error: bool = False,
) -> bool:
    """Whether any of the golds equals any of the targets."""
    golds, targets = (x if isinstance(x, list) else [x] for x in (gold, target))
    rest = float_rounding, numeric_precision, allow_set_relation_comp, strict
    for one, other in product(golds, targets):
        if isinstance(one, str) != isinstance(other, str):
            continue
        if isinstance(one, str):
            if one.strip() and one.strip() == other.strip():
                return True
        elif _guarded(lambda: _grader().sympy_expr_eq(one, other, *rest), timeout_seconds, raise_on_error):  # noqa: B023
            return True
    return False


def sympy_expr_eq(
    gold: Any,
    pred: Any,
    float_rounding: int = ROUNDING,
    numeric_precision: int = 15,
    allow_set_relation_comp: bool = False,
    strict: bool = True,
) -> bool:
    """By guerdon's rules; numbers are rounded to decimals first where a rounding is asked for."""
    want, got = _text(gold), _text(pred)
    if not allow_set_relation_comp and _SET.search(want) and _RELATION.search(got) and not _SET.search(got):
        return False  # math-verify's rule: a relation for a set only where it is allowed
    if not strict:
        want, got = _same_letters(want), _same_letters(got)
    result = equivalence(completion=got, answer=want, how=("whole",))
    if result[0] if isinstance(result, tuple) else result:
        return True
    first, second = trees(plain(want))[:1], trees(plain(got))[:1]
    if float_rounding == ROUNDING or not (first and second):
        return False
    return bool(same(_rounded(first[0], float_rounding), _rounded(second[0], float_rounding)))


def _rounded(node: Any, decimals: int) -> Any:
    """The tree with the value of each part that has one, to so many decimals."""
    try:
        value = evaluate(node)
    except Exception:
        return tuple(_rounded(n, decimals) if isinstance(n, tuple) else n for n in node) if node else node
    return "num", round(Fraction(str(value.real.mid().str(30, radius=False) if hasattr(value, "real") else value)),
                        decimals), Fraction(0)  # fmt: skip


Found = tuple[str, Any] | None

_LATEX = re.compile(
    r"(?<!\\)\$\$(?P<a>.+?)(?<!\\)\$\$|(?<!\\)\\\[(?P<b>.+?)\\\]|(?<![\\\d])\$(?P<c>(?:\\\$|[^$\n])+?)(?<!\\)\$"
    r"|(?<!\\)\\\((?P<d>(?:(?!\\\))[^\n])+?)\\\)|\s\[(?P<e>[^\n\[\]]+)\]\s|(?P<f>-?\\frac\{-?\d+\}\{-?\d+\})",
    re.S,
)
_PERCENT = re.compile(r"\s*(?:\\?%|percent(?:age)?\b|pct\b)", re.I)
_AND = re.compile(r"\s*(?:,?\s*and|,?\s*or|,)\s*", re.I)
_ANNOUNCED = re.compile(r"(?:final answer.{0,100}?\bis|answer):?\s*", re.I | re.S)
_SET = re.compile(r"\\in\b|^[\[(][^()\[\]]*,[^()\[\]]*[\])]$|\\cup")
_RELATION = re.compile(r"<|>|\\(?:le|ge|lt|gt|leq|geq)\b")
_MALFORMED = re.compile(r"\\(?:d|t|c)?frac(?!\s*\{)|\\sqrt\s*\d")


def _found(text: str, configs: Sequence[Config]) -> Found:
    """What the first reader finds that finds anything."""
    readers: list[tuple[int, Callable[[], Found]]] = []
    for config in configs:
        if isinstance(config, LatexExtractionConfig):
            readers += _latex(text, config)
        elif isinstance(config, ExprExtractionConfig):
            readers += [(100, lambda: _expression(text, "clause")), (300, lambda: _expression(text, "last_number"))]
    return next((found for _, reader in sorted(readers, key=lambda r: r[0]) if (found := reader())), None)


def _latex(text: str, config: LatexExtractionConfig) -> list[tuple[int, Callable[[], Found]]]:
    shown = [(m, next(filter(None, m.groupdict().values()))) for m in _LATEX.finditer(text)]
    first = [m for a in _ANNOUNCED.finditer(text) if (m := _LATEX.match(text, a.end()))]
    announced = [(m, next(filter(None, m.groupdict().values()))) for m in first]
    # beside a number, whichever stands further to the right
    number = extract(text, "last_number")
    last = 400 if number and shown and text.rfind(number.text) >= shown[-1][0].end() else 250
    hoped = any(re.match(r"\.?\s?I hope", text[m.end() :]) for m in first)  # the form that math-verify trusts most
    readers = [
        (-1 if hoped else 50, lambda: _read(_joined(text, announced), config)),
        (last, lambda: _read(_joined(text, shown), config)),
    ]
    if config.boxed_match_priority >= 0:
        return [*readers, (config.boxed_match_priority, lambda: _read(_boxes(text), config))]
    return readers


def _boxes(text: str) -> str | None:
    """As guerdon finds them, with the percent sign that may stand behind the box."""
    found = extract(text, "boxed") if "\\boxed" in text else None
    if found is None:
        return None
    behind = text[text.rfind(found.text) + len(found.text) :].lstrip("}$ ")
    return found.text + ("\\%" if _PERCENT.match(behind) else "")


def _joined(text: str, shown: Sequence[tuple[re.Match[str], str]]) -> str | None:
    """The last piece of LaTeX, with those before it that commas, `and` or `or` join to it."""
    if not shown:
        return None
    match, content = shown[-1]
    parts, start = [content + ("\\%" if _PERCENT.match(text, match.end()) else "")], match.start()
    for match, content in reversed(shown[:-1]):
        if not _AND.fullmatch(text[match.end() : start]):
            break
        parts.insert(0, content)
        start = match.start()
    return ", ".join(parts)


def _read(text: str | None, config: LatexExtractionConfig) -> Found:
    if text is None or not text.strip():
        return None
    repairs = config.normalization_config is None or config.normalization_config.malformed_operators
    if not repairs and _MALFORMED.search(text):
        return None
    if "\\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    return text, _parser().latex2sympy(text)


def _expression(text: str, how: Literal["clause", "last_number"]) -> Found:
    found = extract(text, how)
    if found is None or not readable(found.text):
        return None
    bare = undressed(found.text)
    if bare != found.text:
        return bare, _parser().latex2sympy(bare)
    if not re.search(rf"(?<![A-Za-z]){re.escape(bare[:1])}", text) or not re.search(r"\d", bare):
        return None  # a number within a word
    return bare, _parser().parse_expr(bare)


def _string(text: str, config: StringExtractionConfig) -> list[str]:
    one_of = "|".join(map(re.escape, config.strings))
    for pattern in (
        rf"answer.{{0,50}}?\s\**({one_of})\b",
        rf"^\**({one_of})\b",
        rf"(?:^|\s)\**({one_of})(?=[\s.,:*]|$)",
    ):
        if found := re.findall(pattern, text, re.I if "answer" in pattern else 0):
            return [found[-1].lower() if config.lowercase else found[-1], found[-1]]
    return []


def _text(value: Any) -> str:
    if isinstance(value, Parsed):
        return value.text
    if isinstance(value, str):
        return value
    import sympy

    return str(sympy.latex(value))


def _same_letters(text: str) -> str:
    """Variables by position: the first is x_1, the second x_2 ...; a letter before a bracket is a function."""
    names: dict[str, str] = {}
    return re.sub(
        r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z(])", lambda m: names.setdefault(m[0], f"x_{{{len(names) + 1}}}"), text
    )


def _guarded(run: Callable[[], Any], seconds: float | None, raise_on_error: bool) -> Any:
    """With a time limit that holds in any thread: what comes late is left to itself."""
    result: list[Any] = []
    error: list[BaseException] = []

    def call() -> None:
        try:
            result.append(run())
        except Exception as caught:
            error.append(caught)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if raise_on_error and (error or thread.is_alive()):
        raise error[0] if error else TimeoutException("timeout")
    return result[0] if result else None


def _parser() -> Any:
    return sys.modules["math_verify.parser"]


def _grader() -> Any:
    return sys.modules["math_verify.grader"]


def install() -> None:
    """From now on `import math_verify` finds this."""
    package, parser, grader, errors = (
        ModuleType(f"math_verify{name}") for name in ("", ".parser", ".grader", ".errors")
    )
    configs = {c.__name__: c for c in (LatexExtractionConfig, ExprExtractionConfig, StringExtractionConfig)}
    # the tests replace these three by their names to see that time limits hold and errors are passed on
    vars(parser).update(configs, parse=parse, parse_expr=Parsed, latex2sympy=Parsed)
    vars(grader).update(verify=verify, sympy_expr_eq=sympy_expr_eq)
    vars(errors).update(TimeoutException=TimeoutException)
    vars(package).update(configs, parse=parse, verify=verify, parser=parser, grader=grader, errors=errors, __path__=[])
    sys.modules.update({m.__name__: m for m in (package, parser, grader, errors)})
