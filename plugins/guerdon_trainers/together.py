"""Questions to the engine from a launch of several processes: the main one asks for all of them.

Every process must come here at the same time, as with any collective of torch.distributed.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from guerdon.errors import GuerdonError, TrainingError

T = TypeVar("T")


def together(question: Callable[[list[Any]], list[T]], mine: list[Any]) -> list[T]:
    """The answers to this process's items: those of all processes are asked in one call, by the main process.

    The items come in the order of the processes, each of which brings as many. An error of the question is raised in
    all of them, so that none waits for another.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState()
    if state.num_processes == 1:
        return question(mine)
    items = gather_object(mine)
    answers = from_main(lambda: question(items))
    start = state.process_index * len(mine)
    return answers[start : start + len(mine)]


def from_main(make: Callable[[], T]) -> T:
    """What the main process makes, in all processes."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    box: list[Any] = [None, None]
    if state.is_main_process:
        try:
            box[0] = make()
        except GuerdonError as error:
            box[1] = error
        except Exception as error:
            if state.num_processes == 1:
                raise
            box[1] = TrainingError(f"{type(error).__name__}: {error}")
    if state.num_processes > 1:
        broadcast_object_list(box, from_process=0)
    if box[1]:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]
