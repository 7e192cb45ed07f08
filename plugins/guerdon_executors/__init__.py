"""What starts rollout workers: processes of this machine, or Ray."""

from collections.abc import Callable

import guerdon


@guerdon.hookimpl
def register_executors(register: Callable[..., None]) -> None:
    register("processes", "guerdon_executors.processes:processes")
    register("ray", "guerdon_executors.ray_executor:ray", extra="ray")
