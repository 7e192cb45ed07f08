"""What ends a task's waiting, and says why; and the event loop of the processes that wait for many."""

import asyncio

import pytest

from guerdon import event_loop
from guerdon.stopping import Stoppable


async def stopped(*errors: Exception, cancel: bool = False) -> str:
    """What comes of a task that is told to stop with each error, and is perhaps cancelled as well."""
    with Stoppable() as call:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task
        for error in errors:
            loop.call_soon(call.stop, error)
        if cancel:
            loop.call_soon(task.cancel)
        await asyncio.sleep(5)
    return "slept"


def test_the_first_to_stop_a_task_says_why_and_nothing_is_left_of_it() -> None:
    async def run() -> None:
        with pytest.raises(KeyError, match="first"):
            await stopped(KeyError("first"), ValueError("second"))
        task = asyncio.current_task()
        assert task and not task.cancelling()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_a_time_that_is_over_and_one_that_is_not() -> None:
    async def run() -> None:
        with pytest.raises(TimeoutError, match="late"), Stoppable(0.01, TimeoutError("late")):
            await asyncio.sleep(5)
        with Stoppable(0.01, TimeoutError("late")):
            pass
        await asyncio.sleep(0.03)  # its timer is gone

    asyncio.run(run())


def test_a_cancellation_from_elsewhere_is_heard() -> None:
    async def run() -> None:
        for errors in ((), (KeyError("stopped"),)):
            task = asyncio.create_task(stopped(*errors, cancel=True))
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_what_goes_wrong_inside_is_said_as_it_is() -> None:
    async def run() -> None:
        with pytest.raises(ZeroDivisionError), Stoppable(5, TimeoutError()):
            print(1 / 0)

    asyncio.run(run())


def test_the_loop_of_many_rollouts_is_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert isinstance(event_loop.run(loop()), uvloop.Loop)
