"""math-verify's own tests, once with math-verify and once with guerdon behind its API (`math_verify_api`)."""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from table import table

HERE = Path(__file__).resolve().parent
SDIST = "math-verify==0.9.0"


def report(tests: Path | None) -> None:
    """Print how many pass with each, and those that pass with one only; without `tests` they are downloaded."""
    with _tests(tests) as folder:
        results = {name: _run(folder, name) for name in ("math-verify", "guerdon")}
    lines = [[name, len(r), sum(r.values())] for name, r in results.items()]
    print(table([SDIST, "tests", "pass"], lines))
    for test in results["math-verify"]:
        outcomes = {name: r.get(test, False) for name, r in results.items()}
        if not outcomes["guerdon"] or not outcomes["math-verify"]:
            print(f"  fails with {' and '.join(n for n, passed in outcomes.items() if not passed)}: {_short(test)}")


@contextmanager
def _tests(given: Path | None) -> Iterator[Path]:
    if given:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as name:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", name, SDIST]
        subprocess.run(pip, check=True)
        (archive,) = Path(name).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(name, filter="data")
        yield next(Path(name).glob("*/tests"))


def _run(tests: Path, name: str) -> dict[str, bool]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = [sys.executable, str(HERE / "upstream.py"), str(tests), name, str(out)]
        done = subprocess.run(command, cwd=tests.parent, capture_output=True, text=True)
        if not out.exists():
            raise RuntimeError(f"the tests did not run with {name}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return dict(json.loads(out.read_text()))


def _short(test: str) -> str:
    return test if len(test) <= 160 else f"{test[:78]} ... {test[-78:]}"


class _Outcomes:
    """A pytest plugin that keeps what passed."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.passed[report.nodeid] = self.passed.get(report.nodeid, True) and report.passed


def main() -> None:
    import pytest

    tests, name, out = sys.argv[1:]
    if name == "guerdon":
        import math_verify_api

        math_verify_api.install()
    sys.path.insert(0, str(Path(tests).parent))  # they import `tests.test_all`
    outcomes = _Outcomes()
    pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(Path(tests).parent), tests],
                plugins=[outcomes])  # fmt: skip
    Path(out).write_text(json.dumps(outcomes.passed))


if __name__ == "__main__":
    main()
