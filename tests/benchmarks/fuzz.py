"""A fuzzer of the plain function, in a process that is watched: grammar, mutations of real pairs, raw Unicode.

For each pair of texts: how long does it take, is anything raised, is `equal(a, b)` what `equal(b, a)` is, and does a
text equal itself?
"""

import itertools
import json
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pairs import Pair
from watched import watched

SLOW = 0.25
"""Seconds of one call above which it is shown, where it was not given up with an error."""
OVERRUN = 1.05
"""Seconds that a call may take to give up."""
LIMIT = 20.0
SHOWN = 15


def report(pairs: Sequence[Pair], minutes: float, seed: int = 0, findings: Path | None = None) -> None:
    made = texts(pairs, random.Random(seed))
    until, asked = time.monotonic() + minutes * 60, 0
    found: dict[str, list[tuple[float, str]]] = {}
    outcomes = Counter[str]()
    slowest: list[tuple[float, str]] = []

    def limited() -> Iterator[tuple[str, str]]:
        while time.monotonic() < until:
            yield next(made)

    for (a, b), got, seconds in watched("fuzz:probe", limited(), LIMIT):
        asked += 1
        shown = _shown(a, b)
        if isinstance(got, str):
            found.setdefault(got, []).append((seconds, shown))
            continue
        if not got["verdict"].startswith("recorded") or got["slowest"] > OVERRUN:
            slowest = sorted([*slowest, (got["slowest"], shown)], reverse=True)[:SHOWN]
        outcomes[got["verdict"]] += 1
        for complaint, text in got["complaints"].items():
            detail = f"{_short(text)} of " if text else ""
            found.setdefault(complaint, []).append((got["slowest"], detail + shown))
    print(
        f"{asked:,} pairs in {minutes:g} minutes, seed {seed}: " + ", ".join(f"{v} {n:,}" for v, n in outcomes.items())
    )
    print("slowest: " + "; ".join(f"{s:.3f} s {what}" for s, what in slowest[:5] if s) + "\n")
    slow = [(s, what) for s, what in slowest if s > SLOW]
    for complaint, examples in sorted({**found, **({"slow": slow} if slow else {})}.items()):
        print(f"{complaint}: {len(examples)}")
        for seconds, what in examples[:SHOWN]:
            print(f"    {seconds:.3f} s  {what}")
    if not found and not slow:
        print(f"nothing: no error escaped, none over {SLOW} s, symmetric, and each text equals itself")
    if findings:
        findings.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _shown(a: str, b: str) -> str:
    return f"{_short(a)} against {_short(b)}"


def _short(text: str) -> str:
    return ascii(text if len(text) <= 160 else f"{text[:100]}...{text[-40:]} ({len(text)} characters)")


MARKS = ("box", "nswer", "NSWER", "###", "<think", "<reasoning", "</think", "</reasoning")
"""What makes a text more than a bare answer: of a reference only what it marks is compared."""


def probe(item: Sequence[str]) -> dict[str, object]:
    """Run in the watched process: what is wrong with the function on these two texts."""
    from guerdon.errors import RewardError
    from guerdon_rewards.equivalence import equivalence

    a, b = item
    slowest, refused = 0.0, ""
    complaints: dict[str, str] = {}  # and the text, where it is one

    def score(completion: str, answer: str, **settings: object) -> float | None:
        nonlocal slowest, refused
        started, value = time.perf_counter(), None
        try:
            result = equivalence(completion=completion, answer=answer, **settings)  # type: ignore[arg-type]
            value = result[0] if isinstance(result, tuple) else result
        except RewardError as error:  # recorded as such: a right thing to do
            refused = f"recorded error: {error.kind}"
        except Exception as error:
            complaints[f"raised {type(error).__name__} ({_place(error)})"] = ""
        slowest = max(slowest, time.perf_counter() - started)
        return value

    there = score(a, b, how=("whole",))
    if not refused:
        back = score(b, a, how=("whole",))
        score(f"So the answer is \\boxed{{{a}}}.", b)
        if not any(mark in a + b for mark in MARKS):
            if not refused and there != back:
                complaints["asymmetric"] = f"{there} and {back}"
            for text in {a, b}:
                if any(c.isalnum() for c in text) and score(text, text, how=("whole",)) != 1.0 and not refused:
                    complaints["does not equal itself"] = text
    return {"verdict": refused or str(there), "slowest": slowest, "complaints": complaints}


def _place(error: Exception) -> str:
    """Where in guerdon it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "guerdon" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"


def texts(pairs: Sequence[Pair], draw: random.Random) -> Iterator[tuple[str, str]]:
    """Pairs of texts without end, mostly alike: a text of one source and what a few small changes make of it."""
    real = [(p.gold_bare or p.gold, p.pred_bare or p.pred[-300:]) for p in pairs] or [("1", "2")]
    sources: list[Callable[[], tuple[str, str]]] = [
        lambda: draw.choice(real),
        lambda: (_expression(draw, 4), _expression(draw, 4)),
        lambda: (_expression(draw, draw.randrange(8)), draw.choice(real)[0]),
        lambda: (_structure(draw), _structure(draw)),
        lambda: (_bomb(draw), draw.choice(real)[0]),
        lambda: (_soup(draw), _soup(draw)),
    ]
    while True:
        a, b = draw.choice(sources)()
        if draw.random() < 0.4:
            b = a
        for _ in range(draw.choice((0, 1, 1, 2, 5))):
            a = _mutated(a, draw)
        if draw.random() < 0.3:
            b = _mutated(b, draw)
        yield a[:20_000], b[:20_000]


def _words(*lines: str) -> list[str]:
    return " ".join(lines).split()


# `@` stands for a part
NUMBERS = [
    *_words(r"0 1 2 -1 10 0.5 1/3 .25 1e5 1,000 3.14159 10^{9} 99999999999999999999 0.1\overline{6} 50\% 1\frac{1}{2}"),
    *_words(r"\infty -\infty 1e400 nan \pi e i \frac{0}{0} 1/0 \sqrt{2} ٤٢ ² ½ −7 4_2 101_2"),
    *("2 1/2", "1 000"),
]
LETTERS = _words(r"x y n a t \theta \alpha x_1 x_{n+1} A f")
WRAPPERS = _words(
    r"(@) \left(@\right) {@} \sqrt{@} \sqrt[3]{@} -@ (@)! |@| \lfloor@\rfloor \sin(@) \arctan{@} \ln(@) \log_{2}(@) @'",
    r"e^{@} \exp(@) \Gamma(@) @^{-1} \overline{@} \text{@} \mathrm{@} @^\circ @\% $@$ \sum_{k=1}^{n}@ \prod_{k=1}^{9}@",
    r"\int_0^1{@}dx \lim_{x\to0}{@} \frac{d}{dx}{@} \det(@) @\text{cm} \max(@,2) \int{@}dx \Re(@) \arcsin(@) \sec(@)",
    r"\zeta(@) @^T (@)^{-1} \begin{pmatrix}@\end{pmatrix}",
)
JOINS = _words(
    r"@+@ @-@ @@ @\cdot@ @\times@ @/@ \frac{@}{@} @^{@} @^@ @**@ \binom{@}{@} \gcd(@,@) @\bmod@ @_{@} @\pm@ (@)(@) @:@",
    r"\log_{@}(@) \sqrt[@]{@} @\div@",
)
RELATIONS = _words(r"= < > \le \geq \neq \approx \in \equiv \to \implies == <=")
SEPARATORS = (", ", ",", ";", r" \text{ or } ", " and ", r" \cup ", r" \cap ", " & ", r" \\ ", r" \quad ", "\n")
BRACKETS = _words(
    r"(@) [@] [@) (@] \{@\} @ \langle@\rangle \begin{pmatrix}@\end{pmatrix} \begin{cases}@\end{cases} \{x\mid@\}",
    r"\begin{array}{cc}@\end{array} \left[@\right) \mathbb{R}\setminus\{@\}",
)
ODD = [
    *_words(
        r"\ { } $ ^ _ & % # ~ \\ \left \right \frac \sqrt \boxed{ <think> </think> <answer> #### (((( )))) ^^^ __ !!"
    ),
    *_words(r"'' .. ,, = == \begin{matrix} \end{matrix} \text{ \over \choose \not \! \, · ÷ √ ∞ π ≤ → ∪ ％ ， （ 🙂"),
    *("\u202e", "\u200b", "\x00", "\ud800", "\u0301", "\t", "\n", "1" * 50),
]
HUGE = _words(
    r"@! 2^{@} @^{@} \binom{@}{@7} \sum_{k=1}^{@}\frac{1}{k} \sin(@) \Gamma(@.5) (1+x)^{@} \prod_{k=1}^{@}k \gcd(@,6)",
    r"0.@e@ \log(@^{@}) \lfloor\pi\cdot10^{@}\rfloor 7^{@}\bmod13 \sqrt[@]{2} \arctan(\tan(@)) e^{e^{@}} (x+y+z)^{@}",
    r"\int_0^{@}x^x\,dx 10^{-@} \zeta(@) x^{@}-1 \sum_{k=1}^{@}k^{@} \int_0^1x^{@}\,dx",
)


def _fill(template: str, *parts: str) -> str:
    """
    >>> _fill("@+{@}", "a", "b")
    'a+{b}'
    """
    pieces = template.split("@")
    return "".join(a + b for a, b in itertools.zip_longest(pieces, parts[: len(pieces) - 1], fillvalue=""))


def _expression(draw: random.Random, depth: int) -> str:
    if depth <= 0 or draw.random() < 0.15:
        return draw.choice(NUMBERS if draw.random() < 0.6 else LETTERS)
    if draw.random() < 0.4:
        return _fill(draw.choice(WRAPPERS), _expression(draw, depth - 1))
    return _fill(draw.choice(JOINS), _expression(draw, depth - 1), _expression(draw, depth - 1))


def _structure(draw: random.Random) -> str:
    parts = [_expression(draw, draw.randrange(3)) for _ in range(draw.choice((1, 2, 2, 3, 4, 9)))]
    if draw.random() < 0.4:
        parts = [f"{p} {draw.choice(RELATIONS)} {_expression(draw, 1)}" for p in parts]
    text = _fill(draw.choice(BRACKETS), draw.choice(SEPARATORS).join(parts))
    return _structure(draw) + draw.choice(SEPARATORS) + text if draw.random() < 0.2 else text


def _bomb(draw: random.Random) -> str:
    """Deep, long, or of a huge value."""
    depth, seed = draw.choice((5, 20, 100, 1000)), _expression(draw, 1)
    wrapper = draw.choice([*WRAPPERS, *(_fill(j, draw.choice(("2", "9", "x", "10")), "@") for j in JOINS)])
    opening, _, closing = wrapper.partition("@")
    big = str(draw.choice((10**3, 10**6, 10**9, 10**50)))
    kinds: list[Callable[[], str]] = [
        lambda: opening * depth + seed + closing * depth,
        lambda: opening * depth + seed,
        lambda: draw.choice(SEPARATORS).join([_expression(draw, 2)] * depth),
        lambda: draw.choice("+*-^/ ").join(_expression(draw, 1) for _ in range(depth)),
        lambda: draw.choice(HUGE).replace("@", big),
        lambda: _fill(draw.choice(JOINS), draw.choice(HUGE).replace("@", big), draw.choice(HUGE).replace("@", big)),
    ]
    return draw.choice(kinds)()


def _soup(draw: random.Random) -> str:
    pieces = [*ODD, *NUMBERS, *LETTERS, *RELATIONS, *SEPARATORS, *"()[]+-*/"]
    length = draw.randrange(1, 40)
    return "".join(
        draw.choice(pieces) if draw.random() < 0.9 else chr(draw.randrange(1, 0x2FFF)) for _ in range(length)
    )


def _mutated(text: str, draw: random.Random) -> str:
    if draw.random() < 0.1:
        return _fill(draw.choice([*WRAPPERS, *BRACKETS]), text)
    at = draw.randrange(len(text) + 1)
    to = min(len(text), at + draw.choice((0, 1, 1, 2, 5, 20)))
    made = (draw.choice(ODD), draw.choice(NUMBERS), draw.choice(LETTERS), text[at:to] * 2, _expression(draw, 1), "", "")
    return text[:at] + draw.choice(made) + text[to:]


def warm_up() -> None:
    """Start what the first pair would wait for, workers too."""
    probe((r"\frac{1}{2}", "0.5"))
    probe((r"\lim_{x \to 0} \frac{\sin x}{x}", r"\int_0^1 x^x \, dx"))
