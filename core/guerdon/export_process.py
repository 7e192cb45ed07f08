"""The process of an exporter or of its check: `python -m guerdon.export_process`, one call and out.

The order comes on stdin, what is said goes to the original stdout: lines for the screen, then what came of it (done,
refused with guerdon's own words, or an error). All that the libraries print goes to stderr, a log.
"""

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from guerdon.worker import own_pipes, receive, send


def main() -> int:
    orders, out = own_pipes()
    what, fields, settings = receive(orders)
    threading.Thread(target=_end_with_parent, args=(orders.fileno(),), daemon=True).start()

    from guerdon.errors import GuerdonError, raised
    from guerdon.export import ExportJob
    from guerdon.registry import load, missing
    from guerdon.traits import attribute

    job = ExportJob(**fields, say=lambda text: send(out, ("say", text)))
    try:
        is_check = isinstance(what, str)
        done = list(attribute(what)(job, settings)) if is_check else load(what)(job, **settings)
        _open_to_readers(job.output)
        send(out, ("done", done))
        return 0
    except GuerdonError as refused:
        send(out, ("refused", str(refused)))
        return 1
    except ImportError as lacks:
        traceback.print_exc()
        named = None if isinstance(what, str) else missing(what, lacks)
        error = str(named or raised(lacks))
    except Exception as mistake:
        traceback.print_exc()
        error = raised(mistake)
    send(out, ("error", error))
    return 1


def _open_to_readers(folder: Path) -> None:
    """Give files the mode that the umask says: safetensors makes them for their owner alone."""
    os.umask(umask := os.umask(0o077))
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o666 & ~umask))


def _end_with_parent(orders: int) -> None:
    os.read(orders, 1)  # nothing more is sent: it returns when the other side has gone
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
