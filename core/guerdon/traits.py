"""What a component says of itself beside its settings: attributes of its function, set by one decorator.

@traits(renamed={"lr": "learning_rate"}, preflight="my_trainer.preflight:preflight")
def my_trainer(job: TrainingJob, *, learning_rate: float = 1e-4) -> None: ...

Where a trait is a function, it is given as "module:function", imported when it is asked for; or as the function itself.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any, TypeVar

from guerdon.errors import ComponentError

F = TypeVar("F", bound=Callable[..., Any])
Target = str | Callable[..., Any]


def traits(
    *,
    renamed: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    rolls_out: bool | None = None,
    preflight: Target | None = None,
    preview: Target | None = None,
    launcher: Target | None = None,
    warm: Target | None = None,
    advice: Target | None = None,
    serves_adapters: bool | None = None,
    gpu_share: Target | None = None,
    single_turn: bool | None = None,
    reached_at: Target | None = None,
) -> Callable[[F], F]:
    """Note on a component's function what is given here.

    Args:
        renamed: Names that its settings had once or have in other libraries, and today's; translated with a note.
        elsewhere: Names that users may expect as settings, and where in the recipe they are; giving one is an error.
        rolls_out: Of a trainer: it asks for rollouts while it trains, so it is given tasks and not rows.
        preflight: Of a trainer or a backend: `(settings, facts) -> notes`, run before anything else is.
        preview: Of a trainer: `(model, rows, settings) -> [PreviewRow]`, rows as it will see them.
        launcher: Of a trainer: `(launch, settings) -> (command, environment)` for many processes.
        warm: Of a trainer: `(job, settings)`, imports what it will need before its rows are there.
        advice: Of a trainer: `(log, code, settings, timeout) -> text`, what to change on failure:
            by the end of its log, its exit code (`None` when it took longer than `timeout` seconds).
        serves_adapters: Of a backend: whether it can answer with an adapter that was trained here; true by default.
        gpu_share: Of a backend: `(settings) -> share`, its server's of each GPU's memory; 0: not known.
        single_turn: Of an agent: it asks the model once, without tools, and gives back the reply as it is.
        reached_at: Of an executor: `(settings) -> host`, the address at which its workers reach this machine, for the
            engine to listen at; empty: they are on this machine. Asked where the user gave none.
    """
    given = {name: value for name, value in locals().items() if value is not None}

    def note(function: F) -> F:
        for name, value in given.items():
            setattr(function, name, value)
        return function

    return note


def attribute(target: Target) -> Any:
    """What "module:attribute" names; a function is given back as it is.

    >>> attribute("math:floor")(1.5)
    1

    Raises:
        ComponentError: there is no such module, or it has no such attribute.
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    try:
        return attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise ComponentError(f"a component names {target!r}, which cannot be had: {error}") from error
