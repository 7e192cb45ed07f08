"""A run whose parts are killed loses nothing and does nothing twice: `tests/benchmarks/kills.py`, a little of it."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parent / "benchmarks" / "kills.py"


# the engine and all; a worker and the engine; the engine and the server (leases of a killed `guerdon worker` last long)
@pytest.mark.parametrize(("mode", "seed"), [("inside", 3), ("workers", 8), ("terminals", 5)])
def test_nothing_is_lost_when_parts_of_a_run_are_killed(mode: str, seed: int) -> None:
    sizes = ["--rounds", "1", "--tasks", "5", "--kills", "2"]
    command = [sys.executable, KILLS, *sizes, "--modes", mode, "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(line.split()[::2] for line in done.stdout.splitlines() if line.startswith(("kills ", "rollouts ")))
    assert int(counts["kills"]) > 0 and counts["rollouts"] == "35"
