"""`guerdon` with a server that is stopped for each training and started again: what the loop is compared with.

python tests/benchmarks/loop_gpu/restarted.py run tests/benchmarks/loop_gpu/gsm8k.yaml adapter=RUN
"""

from guerdon.cli import main
from guerdon.served import Served


async def stop(served: Served) -> None:
    """In the place of giving the memory back for as long as a training lasts."""
    with served.clock("serve"):
        await served.close()


if __name__ == "__main__":
    Served.sleep = stop  # type: ignore[method-assign]
    main()
