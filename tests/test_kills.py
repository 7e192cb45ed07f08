"""A run whose parts are killed loses nothing and does nothing twice: `tests/benchmarks/kills.py`, a little of it."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parent / "benchmarks" / "kills.py"


@pytest.mark.parametrize("mode", ["inside", "workers", "terminals"])
def test_nothing_is_lost_when_parts_of_a_run_are_killed(mode: str) -> None:
    command = [sys.executable, KILLS, "--rounds", "1", "--tasks", "5", "--kills", "2", "--modes", mode, "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(line.split()[::2] for line in done.stdout.splitlines() if line.startswith(("kills ", "rollouts ")))
    assert int(counts["kills"]) > 0 and counts["rollouts"] == "35"
