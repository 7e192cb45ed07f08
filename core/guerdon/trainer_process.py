"""The training process: `python -m guerdon.trainer_process`, one job and out.

The order comes on stdin, figures go to the original stdout; all that the libraries print goes to stderr, a log file.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping

from guerdon.worker import receive, send


def main() -> int:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    trainer, settings, job = receive(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from guerdon.errors import GuerdonError
    from guerdon.registry import load, missing
    from guerdon.training import TrainingJob

    def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
        send(out, ("log", step, total, dict(metrics)))

    error = ""
    try:
        load(trainer)(TrainingJob(**job, log=log), **settings)
    except GuerdonError as raised:
        error = str(raised)
    except ImportError as raised:
        error = str(missing(trainer, raised) or f"cannot import {raised.name}: {raised}")
        traceback.print_exc()
    except Exception as raised:
        error = f"trainer {trainer.name!r} failed: {type(raised).__name__}: {raised}"
        traceback.print_exc()
    send(out, ("done", error))
    return 1 if error else 0


def _end_with_parent() -> None:
    with contextlib.suppress(Exception):
        sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
