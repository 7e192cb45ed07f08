"""Read tasks: files, hub data sets, Python functions and plugins' sources, as `Task` records."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.errors import TaskError, counted, near_miss
from guerdon.recipe import Eval, Tasks
from guerdon.sources import Row, Rows, file_rows, hub_rows, kind
from guerdon.task import Message, Task, reference

USUAL = {
    "id": ("id", "task_id", "uid"),
    "prompt": ("prompt", "question", "problem", "input", "query", "instruction", "messages"),
    "answer": ("answer", "target", "final_answer", "expected", "ground_truth", "reference"),
}


@dataclass(frozen=True)
class TaskSet:
    """Tasks, and which columns they were read from."""

    tasks: list[Task]
    columns: dict[str, str]

    def __str__(self) -> str:
        columns = ", ".join(f"{part} = {column}" for part, column in self.columns.items())
        return f"{counted(self.tasks, 'task')} ({columns})"


def read_tasks(spec: Tasks, *, folder: Path, seed: int, source: Callable[[], Iterable[Row]] | None = None) -> TaskSet:
    """The tasks that a recipe's `tasks` describes, shuffled and limited.

    `source` yields the rows where `spec.source` names a component.

    Raises:
        TaskError: says which file and line, and what is wrong with it.
    """
    name, rows = _rows(spec, folder, source)
    columns: dict[str, str] = {}
    tasks: list[Task] = []
    seen: dict[str, str] = {}
    enough = spec.limit if spec.shuffle is False else None
    for number, (place, row) in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TaskError(f"{place}: a task is a mapping of columns to values, not {kind(row)}")
        if not columns:
            columns = _columns(row, spec.fields, place)
            _check_exposed(spec.expose, columns, row)
        _check_columns(row, columns, place)
        task = _task(row, columns, number, place)
        if task.id in seen:
            raise TaskError(f"{place}: the id {task.id!r} was given before, at {seen[task.id]}")
        seen[task.id] = place
        tasks.append(task)
        if enough and len(tasks) >= enough:
            break
    if not tasks:
        raise TaskError(f"{name}: no tasks in it")
    if spec.shuffle is not False:
        random.Random(seed if spec.shuffle is True else spec.shuffle).shuffle(tasks)
    return TaskSet(tasks[: spec.limit], columns)


def hold_out(tasks: Sequence[Task], spec: Eval, seed: int) -> tuple[list[Task], list[Task]]:
    """Split into tasks to train on and tasks to evaluate on, the same for the same seed.

    Raises:
        TaskError: nothing would be left to train on.
    """
    wanted = spec.holdout or 0
    if wanted > 1 and wanted != int(wanted):
        raise TaskError(f"give a number of tasks, or a fraction below 1, not {wanted:g}")
    count = int(wanted) if wanted >= 1 else max(1, round(wanted * len(tasks)))
    if count >= len(tasks):
        raise TaskError(f"keeps back {count} of {counted(tasks, 'task')}: none is left to train on")
    held = set(random.Random(f"holdout-{seed}").sample(range(len(tasks)), count))
    train = [t for i, t in enumerate(tasks) if i not in held]
    return train, [t for i, t in enumerate(tasks) if i in held]


def _rows(spec: Tasks, folder: Path, source: Callable[[], Iterable[Row]] | None) -> tuple[str, Rows]:
    if spec.path is not None:
        path = (folder / Path(spec.path).expanduser()).resolve()
        return str(path), file_rows(path)
    if spec.dataset is not None:
        return spec.dataset, hub_rows(spec.dataset, spec.subset, spec.split)
    assert source is not None
    name = spec.source.ref if spec.source else "tasks"
    return name, _source_rows(name, source)


def _source_rows(name: str, source: Callable[[], Iterable[Row]]) -> Rows:
    try:
        for i, row in enumerate(source()):
            yield f"{name}, row {i}", row
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"task source {name!r} failed: {type(error).__name__}: {error}") from error


def _columns(row: Row, given: Mapping[str, str], place: str) -> dict[str, str]:
    """Which column is what: as given, else by the usual names."""
    unknown = [f for f in given if f not in USUAL]
    if unknown:
        raise TaskError(f"tasks.fields: {unknown[0]!r} is not one of {', '.join(USUAL)}")
    columns = {}
    for part in USUAL:
        if part in given and given[part] not in row:
            raise TaskError(f"{place}: there is no column {given[part]!r}.{near_miss(given[part], map(str, row))}")
        if found := given.get(part) or _usual(part, row):
            columns[part] = found
    if "prompt" not in columns:
        raise TaskError(
            f"{place}: none of its columns ({', '.join(map(str, row))}) is known to hold the prompt; "
            "name it: tasks: {fields: {prompt: COLUMN, answer: COLUMN}}"
        )
    return columns


def _usual(part: str, row: Row) -> str | None:
    return next((name for name in USUAL[part] if name in row), None)


def _check_columns(row: Row, columns: Mapping[str, str], place: str) -> None:
    """Each row has the columns of the first, and no other that is known to hold an id or an answer."""
    hint = "give it to each row, null where there is none"
    for part, column in columns.items():
        if column not in row:
            raise TaskError(
                f"{place}: the column {column!r} ({part}) is missing{'' if part == 'prompt' else f'; {hint}'}"
            )
    for part in USUAL:
        if part not in columns and (late := _usual(part, row)):
            raise TaskError(
                f"{place}: the column {late!r} ({part}) is missing in the rows before it; {hint}, or name another: "
                f"tasks: {{fields: {{{part}: COLUMN}}}}"
            )


def _check_exposed(names: Sequence[str], columns: Mapping[str, str], row: Row) -> None:
    for name in names:
        if name not in row:
            raise TaskError(f"expose: the tasks have no column {name!r}.{near_miss(name, map(str, row))}")
        if name == columns.get("answer"):
            raise TaskError(f"expose: {name!r} holds the reference answer, which an agent must not see")


def _task(row: Row, columns: Mapping[str, str], number: int, place: str) -> Task:
    prompt = row[columns["prompt"]]
    if not isinstance(prompt, str) and not _is_conversation(prompt):
        raise TaskError(f"{place}: the prompt is text or a list of messages, not {kind(prompt)}")
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise TaskError(f"{place}: the prompt is empty")
    if not isinstance(prompt, str):
        _check_messages(prompt, place)
    answer = reference(row[columns["answer"]]) if "answer" in columns else None
    name = row[columns["id"]] if "id" in columns else None
    return Task(str(number if name is None else name), prompt, answer, dict(row))


def _check_messages(prompt: Sequence[Message], place: str) -> None:
    for number, message in enumerate(prompt, start=1):
        called = message["role"] == "assistant" and message.get("tool_calls")
        if message.get("content") is None and not called:
            raise TaskError(f"{place}: message {number} of the prompt ({message['role']}) has no content")
    if prompt[-1]["role"] == "assistant":
        raise TaskError(
            f"{place}: the prompt ends with a message of the assistant, which may be the answer: end it with the "
            "user's, and put the answer into a column of its own; to train on such rows, name them under `data`"
        )


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(m, Mapping) and "role" in m for m in value)
