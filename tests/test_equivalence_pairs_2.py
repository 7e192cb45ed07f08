"""Answers of every structure, and whole completions as models write them, against a careful reader's verdict."""

import json
from pathlib import Path

from guerdon_rewards.equivalence import equivalence

FILE = Path(__file__).parent / "data/equivalence_pairs_2.jsonl"
ROWS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_verdicts() -> None:
    """Every row; all that fail are printed."""
    wrong = []
    for row in ROWS:
        scored = equivalence(row["completion"], row["answer"])
        if scored is None or isinstance(scored, float) or scored[0] != float(row["equal"]):
            wrong.append(f"{row['about']}: {row['answer']!r}, {row['completion'][-100:]!r}: {scored}")
    assert not wrong, f"{len(wrong)} of {len(ROWS)}\n" + "\n".join(wrong)
