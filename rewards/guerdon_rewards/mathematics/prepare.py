r"""What is put right in a text before it is cut into tokens: damage, doubled backslashes, other spellings."""

import re

from guerdon_rewards.mathematics import lexicon


def prepared(text: str) -> str:
    """The text in the spelling that the lexer reads; what is not known stays as it is."""
    if not text.isprintable():
        text = repaired(text)
    if not text.isascii():
        text = _BARRED.sub(lambda m: "\\overline{" + m[0].replace("\u0305", "") + "}", text)
        text = _RAISED.sub(lambda m: "^{" + m[0].translate(_PLAIN) + "}", text)
        text = _LOWERED.sub(lambda m: "_{" + m[0].translate(_PLAIN) + "}", text)
        text = text.translate(lexicon.CHARACTERS)
    if "\\" in text:
        text = _commands(text)
    elif "E" in text:
        text = _EULER.sub("e", text)
    if "{,}" in text:
        text = text.replace("{,}", ",")
    if "." in text:
        text = _numbers(text)
    if "or" in text or "and" in text:
        text = _GLUED.sub(r" \1 ", text)
    if text[:1] in _OPENERS and ("'" in text or '"' in text):
        text = _QUOTED.sub(r"\\text{\2}", text)
    return text


_ESCAPES = {"\f": "f", "\t": "t", "\r": "r", "\b": "b", "\a": "a", "\v": "v", "\n": "n"}
_DAMAGED = re.compile(
    "\f(?=rac|orall)|\t(?=imes|ext|an|heta|frac|au\\b|riangle|ilde|o\\b|binom)|\r(?=ight|angle|floor|ceil|ho\\b|vert|brace|brack)"
    "|\b(?=eta|inom|mod|ar\\b|oxed|egin|ullet|matrix|ackslash|ig)|\a(?=lpha|ngle|pprox|rc)|\v(?=ec|ert|arphi|arnothing|dots|ee\\b)"
    "|\n(?=eq\\b|eg\\b|u\\b|abla|otin|leq\\b|geq\\b|e\\b)"
)


def repaired(text: str) -> str:
    r"""With the backslashes that a programming language took for escapes: form feed and `rac` for `\frac`."""
    return _DAMAGED.sub(lambda m: "\\" + _ESCAPES[m[0]], text)


_BOLD = r"\\(?:mathbf|boldsymbol|bm|bf|vec|hat|widehat|overrightarrow)\s*"
_ONE = r"(\\[ij]math|[ijk])"
_UNIT_VECTOR = re.compile(
    rf"{_BOLD}\{{\s*{_BOLD}\{{\s*{_ONE}\s*\}}\s*\}}|{_BOLD}\{{\s*(?:{_BOLD})?{_ONE}\s*\}}|{_BOLD}(?<=\s){_ONE}(?![A-Za-z])"
)


def _unit_vector(found: re.Match[str]) -> str:
    return (found[1] or found[2] or found[3]).strip("\\")[0]


_DOUBLED = re.compile(
    r"\\\\(?=left|right|[dt]?frac|text|sqrt|pi|cup|in\b|boxed|infty|cdot|times|quad|circ|mathr?[mb]|pm\b|%|\$|\()"
)
_ROW_SPACE = re.compile(r"(?:\\\\|\\cr)\s*\[\s*-?[0-9.]*\s*(?:pt|em|ex|mm|cm|in|\\baselineskip)\s*\]")
_SIMPLE = re.compile(r",\\!\s*+(?=[0-9])|\\!|\\q?quad(?=[a-z])")
_DIFFERENTIAL = r"(?:(?<![A-Za-z\\])d|\\mathrm\s*\{\s*d\s*\}|\\differentialD)\s*"
_INTEGRAND = re.compile(_DIFFERENTIAL + r"(\\[A-Za-z]+|[A-Za-z])(?![A-Za-z])")
_FRACTION_OF_IT = re.compile(
    r"\\[dt]?frac\s*\{([^{}]*?)"
    + _DIFFERENTIAL
    + r"(\\[a-z]+|[A-Za-z])\s*\}\s*(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})"
)
_NOT = re.compile(r"\\not\s*(=|<|>|\\in\b|\\leq?\b|\\geq?\b|\\equiv\b|\\subset\b|\\mid\b)")
_NOTS = {
    "=": "\\ne ", "\\in": "\\notin ", "<": "\\ge ", ">": "\\le ", "\\le": ">", "\\leq": ">", "\\ge": "<", "\\geq": "<",
}  # fmt: skip


def _commands(text: str) -> str:
    if "\\\\" in text:  # between rows, or written twice as in a string of a programming language
        text = _ROW_SPACE.sub(r"\\\\", text) if "\\begin" in text else _DOUBLED.sub(r"\\", text)
    if "\\!" in text or "quad" in text:
        text = _SIMPLE.sub(lambda m: "," if "," in m[0] else "", text)
    if "\\not" in text:
        text = _NOT.sub(lambda m: _NOTS.get(m[1], m[0]), text)
    if "bf{" in text or "\\bm" in text or "bold" in text or "hat" in text or "\\vec" in text:
        letters = {_unit_vector(m) for m in _UNIT_VECTOR.finditer(text)}
        if len(letters) > 1:  # i alone may be the imaginary unit
            text = _UNIT_VECTOR.sub(lambda m: f" \\hat{{{_unit_vector(m)}}} ", text)
    if "\\int" in text:
        text = _FRACTION_OF_IT.sub(lambda m: f"\\frac{{{m[1].strip() or 1}}}{m[3]} d{m[2]}", text)
        text = _INTEGRAND.sub(lambda m: f" \\differential {m[1]} ", text)
    return text


_EULER = re.compile(r"(?<![A-Za-z0-9_])E(?=\s*\*\*)|(?<=\*)E(?![A-Za-z0-9_(])")
_GLUED = re.compile(r"(?<=[0-9)\]}])(or|and)(?=[A-Z(0-9\\\[{-]|[a-z](?![A-Za-z]))")
_OPENERS = frozenset("[({'\"")
_QUOTED = re.compile(r"(?<![A-Za-z0-9)\]}'])(['\"])([^'\"{}\\]{1,80})\1")

_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b\u207f\u2071\u02e3]+")
_LOWERED = re.compile("[\u2080-\u2089]{2,}")
_PLAIN = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207f\u2071\u02e3"
    "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089",
    "0123456789+-nix0123456789",
)
_BARRED = re.compile("(?:[0-9]\u0305)+")
_DOTS = r"\s?(?:\.\.\.|\\[lc]?dots\b)"
_ONGOING = re.compile(
    rf"(?<![0-9.])([0-9]{{0,20}}\.[0-9]{{0,20}}?)(?:([0-9])\2\2+|([0-9]{{2,8}}?)\3+){_DOTS}(?!\s*[,0-9])"
)
_CUT = re.compile(rf"(?<![0-9.])([0-9]{{0,20}}\.[0-9]{{1,40}}){_DOTS}(?!\s*[,0-9])")
_DOTTED = re.compile(r"(?<=[0-9.])\\dot\s*\{?([0-9])\}?([0-9]{0,20})\\dot\s*\{?([0-9])\}?")
_REPEATED = re.compile(r"(-?[0-9]{0,20}\.[0-9]{0,20})\(([0-9]{1,20})\)")
_EUROPEAN = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:(?:\.[0-9]{3})+,[0-9]{1,2}|(?:\.[0-9]{3}){2,})(?![0-9,.])")


def _numbers(text: str) -> str:
    """Decimals that go on (`0.333...`, `0.(3)`), and thousands with points (`1.234,56`)."""
    if "..." in text or "dots" in text:
        text = _ONGOING.sub(lambda m: f"{m[1]}\\overline{{{m[2] or m[3]}}}", text)
        text = _CUT.sub(r"\1", text)
    if "\\dot" in text:
        text = _DOTTED.sub(r"\\overline{\1\2\3}", text)
    if "(" in text:
        whole = _REPEATED.fullmatch(text)
        if whole:
            return f"{whole[1]}\\overline{{{whole[2]}}}"
    return _EUROPEAN.sub(lambda m: m[0].replace(".", "").replace(",", "."), text)
