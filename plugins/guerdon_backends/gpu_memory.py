"""GPU memory, as nvidia-smi tells it: what a server took is seen to be free again."""

import asyncio
import contextlib
import os
import shutil
import time

SLACK = 512
"""MiB that may be left: other programs' memory moves too."""
MiB = dict[str, int]
"""By GPU."""


class GpuMemory:
    """What a server takes of the GPUs' memory: looked at before it starts, when it runs, before and after its end.

    Where nvidia-smi tells nothing (no GPU, MIG), nothing is known and nothing waited for. Processes are not asked for:
    in a container nvidia-smi knows them by other numbers.
    """

    def __init__(self) -> None:
        self._before: MiB = {}
        self._taken: MiB = {}
        self._free: MiB = {}

    async def before(self) -> None:
        self._before, self._taken, self._free = await used(), {}, {}

    async def taken(self) -> None:
        if self._before:
            now = await used()
            self._taken = {gpu: now.get(gpu, 0) - mib for gpu, mib in self._before.items()}

    async def at_end(self, died: bool) -> None:
        """What will be in use without the server; others may have come while it ran.

        A GPU that has less in use than a server took that has died has that memory back already.
        """
        now = await used() if self._before else {}
        for gpu, before in self._before.items():
            mib, taken = now.get(gpu, 0), self._taken.get(gpu, 0)
            self._free[gpu] = max(before, mib if died and mib < taken else mib - taken)

    async def still_held(self, seconds: float) -> str:
        """Wait until the server's memory is free, so long at most; what is not, in words."""
        end = time.monotonic() + seconds
        while self._free:
            now = await used()
            held = {gpu: mib for gpu, mib in now.items() if mib > self._free.get(gpu, mib) + SLACK}
            if not held:
                break
            if time.monotonic() > end:
                return ", ".join(
                    f"GPU {gpu} has {mib} MiB in use {seconds:g} s later, {self._free[gpu]} MiB were expected"
                    for gpu, mib in held.items()
                )
            await asyncio.sleep(0.2)
        return ""


async def used() -> MiB:
    """The memory in use of each GPU that this process may use; empty where it is not known."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return {}
    command = [smi, "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"]
    if ours := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command += ["-i", ours]
    found: MiB = {}
    with contextlib.suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
        for line in printed.decode("utf-8", "replace").splitlines():
            gpu, _, mib = (part.strip() for part in line.partition(","))
            if mib.isdigit():
                found[gpu] = int(mib)
    return found
