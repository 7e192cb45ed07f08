"""guerdon: compose an agent, rewards and a trainer in one recipe; roll out, score, train, compare.

Everything here is imported when it is first used, so that `import guerdon` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from guerdon.adapters import reward as reward
    from guerdon.errors import GuerdonError as GuerdonError
    from guerdon.hookspecs import hookimpl as hookimpl
    from guerdon.plugins import Plugins as Plugins
    from guerdon.policy import Endpoint as Endpoint
    from guerdon.policy import Policy as Policy
    from guerdon.recipe import Recipe as Recipe
    from guerdon.task import Task as Task
    from guerdon.training import TrainingJob as TrainingJob
    from guerdon.trajectory import Score as Score
    from guerdon.trajectory import Trajectory as Trajectory

_HOMES = {
    "Endpoint": "policy",
    "GuerdonError": "errors",
    "Plugins": "plugins",
    "Policy": "policy",
    "Recipe": "recipe",
    "Score": "trajectory",
    "Task": "task",
    "TrainingJob": "training",
    "Trajectory": "trajectory",
    "hookimpl": "hookspecs",
    "reward": "adapters",
}

__all__ = [
    "Endpoint",
    "GuerdonError",
    "Plugins",
    "Policy",
    "Recipe",
    "Score",
    "Task",
    "TrainingJob",
    "Trajectory",
    "__version__",
    "hookimpl",
    "reward",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guerdon' has no attribute {name!r}")
    return getattr(import_module(f"guerdon.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
