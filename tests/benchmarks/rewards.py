"""Print the reward engine's benchmark tables: `python tests/benchmarks/rewards.py FOLDER [TABLE ...]`.

FOLDER holds `pairs.jsonl` and `hostile.jsonl.gz` (see `pairs`). Without a TABLE all are printed; `gsm8k`, and a part of
`speed`, need `--gsm8k` too. docs/benchmarks.md says what each table is for.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pairs import read_hostile, read_pairs
from peers import default_cache

Options = argparse.Namespace


def accuracy(options: Options) -> None:
    """how often guerdon and math-verify are right, by source and by kind"""
    import accuracy

    accuracy.report(read_pairs(options.folder), options.cache, options.failures)


def speed(options: Options) -> None:
    """pairs a second beside math-verify, on three mixes"""
    import speed

    speed.report(options.folder, options.gsm8k)


def batch(options: Options) -> None:
    """is time linear in the batch?"""
    import speed

    speed.batch(read_pairs(options.folder))


def memory(options: Options) -> None:
    """is memory flat over a million scorings?"""
    import speed

    speed.memory(read_pairs(options.folder), options.count or 1_000_000)


def workers(options: Options) -> None:
    """two workers against one"""
    import speed

    speed.two_workers(read_pairs(options.folder))


def hostile(options: Options) -> None:
    """inputs made to hang, crash or fool: in workers and in the plain function"""
    import hostile

    hostile.report(read_hostile(options.folder))


def batches(options: Options) -> None:
    """10,000 batches with random hostile items"""
    import hostile

    hostile.batches(read_pairs(options.folder), read_hostile(options.folder), options.count or 10_000)


def upstream(options: Options) -> None:
    """math-verify's own tests, with math-verify and through an adapter with its API"""
    import upstream

    upstream.report(options.math_verify_tests)


def gsm8k(options: Options) -> None:
    """`guerdon score` over GSM8K's test set turned into right and wrong answers in four formats"""
    import gsm8k

    if options.gsm8k is None:
        print("left out: it needs --gsm8k FILE")
    else:
        gsm8k.report(options.gsm8k, options.failures)


def fuzz(options: Options) -> None:
    """what a fuzzer finds: the slowest, what is raised, what is not symmetric, what does not equal itself"""
    import fuzz

    fuzz.report(read_pairs(options.folder), options.minutes, options.seed)


TABLES: dict[str, Callable[[Options], None]] = {
    t.__name__: t for t in (accuracy, speed, batch, memory, workers, hostile, batches, upstream, gsm8k, fuzz)
}


def main() -> None:
    tables = "\n".join(f"  {name:9} {table.__doc__}" for name, table in TABLES.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\ntables:\n{tables}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", metavar="TABLE")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="file with math-verify's verdicts")
    parser.add_argument("--failures", type=Path, help="write what guerdon got wrong (accuracy, gsm8k) to this JSONL")
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's test set: JSONL with question and answer")
    parser.add_argument("--math-verify-tests", type=Path, help="the tests of math-verify's source distribution")
    parser.add_argument("--count", type=int, help="how many scorings (memory) or batches (batches)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of fuzzing")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer")
    options = parser.parse_args()
    unknown = set(options.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    for name in options.tables or TABLES:
        print(f"\n== {name}: {TABLES[name].__doc__}", flush=True)
        TABLES[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
