"""What a rollout costs, side by side in one run: guerdon's agents, the floor below them, and other ways and libraries.

    python tests/benchmarks/rollouts.py [--rounds 3] [--only WORD ...]
        [--agl03 PYTHON] [--agl1 PYTHON] [--verifiers PYTHON] [--tokenizer FOLDER]

A rollout is two model calls and one call of a calculator between them. The figure is CPU milliseconds of all processes
but the model server, which is a mock (`mock_model.py`). Rows take turns, a round each, so that a noisy machine hits
all of them; shown is the median. Peers run on interpreters of their own, where they are installed:

    --agl03      agentlightning<1, openai-agents, mcp; opentelemetry 1.38 (with a later one its proxy loses all spans)
    --agl1       agentlightning==1.0.2, openai-agents, mcp (Python 3.12)
    --verifiers  verifiers==0.4.0, uv on its PATH
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from table import table

HERE = Path(__file__).resolve().parent
TOKENIZER = Path.home() / ".cache/guerdon/smollm2-135m"

OWN = ("guerdon, agent math", "guerdon, agent tool")

Row = tuple[str, str, str, str, int, int]
"""Its name, interpreter, row of `rollout_rows.py`, option, rollouts, how many at once."""


def rows(asked: argparse.Namespace) -> list[Row]:
    own = sys.executable
    found: list[Row] = [
        ("raw HTTP floor", own, "floor", "", 1500, 64),
        ("guerdon, agent tool", own, "guerdon", "tool", 1000, 64),
        ("guerdon, agent math", own, "guerdon", "math", 400, 64),
        ("Agents SDK, one MCP session and client for all", own, "sdk", "shared", 150, 64),
        ("Agents SDK, a server and a client for each rollout", own, "sdk", "anew", 8, 4),
    ]
    if asked.tokenizer.is_dir():
        found.append(("trl's asynchronous rollouts", own, "trl", str(asked.tokenizer), 400, 64))
    if asked.verifiers:
        found.append(("verifiers 0.4", asked.verifiers, "verifiers", "", 8, 4))
    if asked.agl03:
        found.append(("Agent Lightning 0.3, its math agent", asked.agl03, "agl03", "", 12, 4))
    if asked.agl1:
        found.append(("Agent Lightning 1.0, the same agent", asked.agl1, "agl1", "", 6, 6))
    return [row for row in found if not asked.only or any(word in row[0] for word in asked.only)]


def measure(row: Row, url: str) -> dict[str, float] | None:
    name, python, kind, option, rollouts, at_once = row
    command = [python, str(HERE / "rollout_rows.py"), kind, url, str(rollouts), str(at_once), option]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if python != sys.executable:
        env.pop("PYTHONPATH", None)
    try:
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        print(f"{name}: not done in five minutes", file=sys.stderr)
        return None
    lines = [line for line in ran.stdout.splitlines() if line.startswith('{"rollouts"')]
    if not lines:
        print(f"{name}: {(ran.stderr or ran.stdout)[-2000:]}", file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(lines[-1])
    print(f"{name}: {result['cpu_ms']:.2f} ms", file=sys.stderr)
    return result


def machine() -> str:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(line.partition(":")[2].strip() for line in facts if "model name" in line)
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{os.cpu_count()} cores {cpu}, load {load}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"


def report(asked: argparse.Namespace, url: str) -> None:
    print(machine())
    chosen = rows(asked)
    got: dict[str, list[dict[str, float]]] = {row[0]: [] for row in chosen}
    for _ in range(asked.rounds):
        for row in chosen:
            if result := measure(row, url):
                got[row[0]].append(result)
    medians = {name: statistics.median(r["cpu_ms"] for r in results) for name, results in got.items() if results}
    lines = []
    for name, each in medians.items():
        seen = sorted(r["cpu_ms"] for r in got[name])
        speed = statistics.median(r["rollouts"] / r["seconds"] for r in got[name])
        times = [f"{each / medians[own]:.1f}" if own in medians else "" for own in OWN]
        lines.append([name, f"{each:.2f}", f"{seen[0]:.2f}-{seen[-1]:.2f}", f"{speed:.1f}", *times])
    print(table(["", "CPU ms a rollout", "range", "rollouts/s", "times math", "times tool"], lines))
    print(f"after: load {' '.join(f'{x:.1f}' for x in os.getloadavg())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="rows whose names have one of these words")
    for peer in ("agl03", "agl1", "verifiers"):
        parser.add_argument(f"--{peer}", default="", help="the interpreter that has it")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="a tokenizer's folder, for trl")
    asked = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    model = subprocess.Popen([sys.executable, str(HERE / "mock_model.py"), str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        report(asked, f"http://127.0.0.1:{port}/v1")
    finally:
        model.kill()
        model.wait()


if __name__ == "__main__":
    main()
