"""The errors that guerdon raises; each message is ready for a user.

GuerdonError
├── RecipeError      the recipe is wrong: says file, line, column and key
├── PluginError      a plugin cannot be loaded, or two plugins clash
├── ComponentError   a name is unknown, its extra is missing, or its settings are wrong
├── TaskError        a task file or source is wrong: says file and line
├── AgentError       a rollout failed: kind, message
├── BackendError     a model server refused, hung or answered nonsense
├── RewardError      a reward misbehaved
├── TrainingError    the training process failed
└── StoreError       a run's folder cannot be read or written
"""

from collections.abc import Iterable, Sized


class GuerdonError(Exception):
    """Base of all errors that guerdon raises on purpose."""

    kind = "error"

    def __init__(self, message: str, *, kind: str = "") -> None:
        super().__init__(message)
        if kind:
            self.kind = kind


class RecipeError(GuerdonError):
    kind = "recipe"


class PluginError(GuerdonError):
    kind = "plugin"


class ComponentError(GuerdonError):
    kind = "component"


class TaskError(GuerdonError):
    kind = "task"


class AgentError(GuerdonError):
    kind = "agent"


class BackendError(GuerdonError):
    """`kind` is one of refused, timeout, http_429, http_5xx ..., broken_reply."""

    kind = "backend"


class RewardError(GuerdonError):
    kind = "reward"


class TrainingError(GuerdonError):
    kind = "training"


class StoreError(GuerdonError):
    kind = "store"


LISTED = 12


def near_miss(word: str, known: Iterable[str], *, listing: bool = True) -> str:
    """' Did you mean 'numeric'?' where one is close, else the list of what is known, or nothing without `listing`.

    >>> near_miss("numerik", ["numeric", "xml_format"])
    " Did you mean 'numeric'?"
    >>> near_miss("zzz", ["b", "a"])
    ' Known: a, b.'
    """
    import difflib

    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    if not (names and listing):
        return ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f" Known: {', '.join(names[:LISTED])}{more}."


def counted(things: Sized | int, noun: str) -> str:
    """
    >>> counted([7], "task"), counted(2, "task")
    ('1 task', '2 tasks')
    """
    count = things if isinstance(things, int) else len(things)
    return f"{count} {noun}{'' if count == 1 else 's'}"


def raised(error: BaseException) -> str:
    """An exception of another's code with the line that raised it; where it says nothing, that line's text."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    said = str(error) or (frames[-1].line if frames else "")
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{text} ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else text
