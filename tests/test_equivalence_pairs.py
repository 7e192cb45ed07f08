"""`equivalence` against pairs labelled by hand; those that differ are what a model nearly gets right."""

import json
from pathlib import Path

from guerdon_rewards.equivalence import equivalence

PAIRS = Path(__file__).parent / "data" / "equivalence_pairs.jsonl"


def test_every_pair_is_judged_as_it_is_labelled() -> None:
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    wrong = []
    for row in rows:
        judged = equivalence(row["completion"], row["answer"])
        value, reason = judged if isinstance(judged, tuple) else (judged, "")
        if value != float(row["equal"]):
            wrong.append(f"{'rejected' if row['equal'] else 'ACCEPTED'} [{row['about']}] {reason}")
    assert not wrong, f"{len(wrong)} of {len(rows)} pairs\n" + "\n".join(sorted(wrong))
