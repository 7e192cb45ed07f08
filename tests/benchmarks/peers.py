r"""math-verify beside guerdon, in its best documented configuration, and a file that keeps its verdicts.

As verl, verifiers and Skywork call it: references as `\boxed{...}`, completions with the mark that it reads (the answer
of `#### 18` and `<answer>18</answer>` becomes `\boxed{18}`), boxes first.
"""

import functools
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs import Pair


@dataclass(frozen=True)
class Verdict:
    """What a grader said of one pair: a score, or `None`, with the reason or the error; and how long it took."""

    score: float | None
    reason: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        return self.score is not None and self.score > 0.5


def boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"


def shown(pair: Pair) -> tuple[str, str]:
    """The reference and the completion as math-verify is given them."""
    marked = pair.form in ("boxed", "free")
    return boxed(pair.gold_bare or pair.gold), pair.pred if marked else boxed(pair.pred_bare or pair.pred)


@functools.cache
def math_verify() -> Callable[[str, str], bool]:
    """`verify(parse(gold), parse(completion))`, with its own time limits as they are."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    for module in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(module).setLevel(logging.ERROR)
    configs = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    return lambda gold, completion: bool(verify(parse(gold, configs), parse(completion, configs)))


def verdicts(pairs: Sequence[Pair], cache: Path) -> list[Verdict]:
    """math-verify's verdict for each pair, from the file where it has them; the others are asked for and added."""
    kept = _read(cache)
    missing = [p for p in pairs if _key(p) not in kept]
    if missing:
        print(f"asking math-verify about {len(missing)} pairs ({cache})", flush=True)
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.open("a", encoding="utf-8") as file:
            for pair in missing:
                verdict = _ask(pair)
                kept[_key(pair)] = verdict
                row = {"key": _key(pair), "id": pair.id, **verdict.__dict__}
                file.write(json.dumps(row) + "\n")
    return [kept[_key(p)] for p in pairs]


def default_cache() -> Path:
    """Where verdicts are kept unless told otherwise: guerdon's own cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GUERDON_CACHE") or Path(home, "guerdon")) / "benchmarks" / "math-verify.jsonl"


def _ask(pair: Pair) -> Verdict:
    started = time.perf_counter()
    try:
        return Verdict(float(math_verify()(*shown(pair))), seconds=time.perf_counter() - started)
    except Exception as error:
        return Verdict(None, error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)


def _key(pair: Pair) -> str:
    return hashlib.sha256("\0".join(shown(pair)).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _read(cache: Path) -> dict[str, Verdict]:
    if not cache.exists():
        return {}
    rows: list[dict[str, Any]] = [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]
    return {r["key"]: Verdict(r["score"], r["reason"], r["error"], r["seconds"]) for r in rows}
