"""The hooks a plugin can implement, each a docstring.

A `register_*` hook is called once with a function, `register(name, target)`. `target` is an import string
`"package.module:attribute"`, so that nothing is imported before a recipe names it. `extra` names the pip extra of the
plugin's package that the component needs; it goes into the message when something is missing.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from guerdon.trajectory import Trajectory

hookspec = pluggy.HookspecMarker("guerdon")
hookimpl = pluggy.HookimplMarker("guerdon")


class Register(Protocol):
    """`inline=True` is a reward's promise to be pure and quick: it then runs without a worker process."""

    def __call__(
        self, name: str, target: str | Callable[..., Any], *, extra: str = "", inline: bool = False
    ) -> None: ...


@hookspec
def register_agents(register: Register) -> None:
    """Agents: `async (task, policy, *, settings) -> completion`, or an async context manager that yields one."""


@hookspec
def register_rewards(register: Register) -> None:
    """Rewards: functions called with what their parameters name; they return a number or `None`."""


@hookspec
def register_trainers(register: Register) -> None:
    """Trainers: `(job: TrainingJob, *, settings) -> None`, run in a process of their own."""


@hookspec
def register_exporters(register: Register) -> None:
    """Exporters: `(job: ExportJob, *, settings) -> None`, in a process of their own; formats of `guerdon export`."""


@hookspec
def register_backends(register: Register) -> None:
    """Backends: async context managers `(model, *, settings)` that yield an `Endpoint`."""


@hookspec
def register_executors(register: Register) -> None:
    """Executors: async context managers `(start: WorkerStart, *, settings)` that keep rollout workers running."""


@hookspec
def register_tasks(register: Register) -> None:
    """Task sources: `(*, settings)`, returning an iterable of rows (mappings)."""


@hookspec
def register_models(register: Register) -> None:
    """Short names of models: `() -> str`, a folder or hub id, prepared when first asked for."""


@hookspec
def register_recipes(register: Register) -> None:
    """Packaged recipes: the target is `"package:path/in/package.yaml"`."""


@hookspec
def rollout_finished(run: str, trajectory: "Trajectory") -> None:
    """A trajectory was scored and stored. `run` is the run's folder."""


@hookspec
def metrics_logged(run: str, stage: str, step: int, metrics: Mapping[str, float]) -> None:
    """A training step reported figures. `stage` tells the run's trainings apart, e.g. "train-iteration-1"."""


@hookspec
def run_finished(run: str, summary: Mapping[str, Any]) -> None:
    """A run came to its end; `summary` is what `guerdon show RUN --json` prints."""


KINDS = ("agents", "rewards", "trainers", "exporters", "backends", "executors", "tasks", "models", "recipes")
