"""The training process: `python -m guerdon.trainer_process`, one job and out.

The order comes on stdin, figures go to the original stdout; all that the libraries print goes to stderr, a log file.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping

from guerdon.worker import own_pipes, receive, send


def main() -> int:
    orders, out = own_pipes()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    trainer, settings, job = receive(orders)
    threading.Thread(target=_end_with_parent, args=(orders.fileno(),), daemon=True).start()

    from guerdon.errors import GuerdonError
    from guerdon.registry import load, missing
    from guerdon.training import TrainingJob

    def log(step: int, total: int, metrics: Mapping[str, float]) -> None:
        send(out, ("log", step, total, {name: float(value) for name, value in metrics.items()}))

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


def _end_with_parent(orders: int) -> None:
    os.read(orders, 1)  # nothing more is sent: it returns when the other side has gone
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
