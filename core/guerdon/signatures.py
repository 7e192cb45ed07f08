"""Rewards written for verl or verifiers, as guerdon's: each wrapped in a function that asks for what guerdon has.

What is loaded as a reward passes through `native`. verl's functions are known by their parameter `solution_str`,
verifiers' by `state` or `parser` (rubric functions), by `trace` (its v1 API) or as `Rubric` objects. A rubric function
without these looks like one of guerdon's, and its completion would be messages instead of text: `from_verifiers` says
which it is. TRL's signature is called as it is (`guerdon.invoke`).
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import Parameter, Signature
from types import SimpleNamespace
from typing import Any

from guerdon.errors import ComponentError, RewardError
from guerdon.task import Message, Task
from guerdon.trajectory import Score, Trajectory

Function = Callable[..., Any]

VERL = {"solution_str": "completion", "ground_truth": "answer", "data_source": "task", "extra_info": "task"}
VERL_GROUP = {
    "solution_strs": "completions",
    "ground_truths": "answers",
    "data_sources": "tasks",
    "extra_infos": "tasks",
}
SINGLE = {
    "prompts": "prompt",
    "completions": "completion",
    "answers": "answer",
    "states": "state",
    "tasks": "task",
    "infos": "info",
}
"""The parameters of verifiers' group rewards, and what each is a list of."""

MARKS = ("state", "parser", "states", "trace")
"""Parameters that only a function of verifiers has."""


def native(found: Any) -> Any:
    """A reward of another library as one of guerdon's; anything else as it is."""
    if _is_rubric(found):
        return from_verifiers(found)
    if not callable(found) or hasattr(found, "__guerdon_native__"):
        return found
    try:
        names = inspect.signature(found).parameters
    except (ValueError, TypeError):  # of a builtin
        return found
    if "solution_str" in names or "solution_strs" in names:
        return _from_verl(found)
    if not {"trajectory", "trajectories"} & names.keys() and any(mark in names for mark in MARKS):
        return _from_function(found, None, {}, guessed=True)
    return found


def from_verifiers(function: Any, parser: Any = None) -> Function:
    """A rubric function of verifiers, or a whole `Rubric`, as a reward for recipes; also a decorator.

    The function gets by name what verifiers would give it: `prompt` and `completion` as messages, `answer`, `info`
    (the task's column, or all its columns), `state` (a dict with these, and `input`, `task`, `example_id`,
    `trajectory`), `parser`, and any column; plural names make it a group reward. In the v1 API it is `task` and
    `trace`: `last_reply`, `messages`, `assistant_messages`, `tool_messages`, `last_message`, `num_turns`, `info`.
    Keyword-only parameters that are none of these are settings. A rubric's value is the weighted sum of its functions.

    Args:
        function: The rubric function or `Rubric`.
        parser: What is given as `parser`; without it one that takes the text as it is.

    >>> def terse(completion, **kwargs):
    ...     return float(len(completion[-1]["content"]) < 20)
    >>> from_verifiers(terse)(task=Task("1", "2 + 2?"), trajectory=Trajectory("", "", "", 0, 0, "", "", completion="4"))
    1.0
    """
    if _is_rubric(function):
        return _from_rubric(function)
    return _from_function(function, parser, {}, guessed=False)


# -- verl -------------------------------------------------------------------------------------------------------------


def _from_verl(function: Function) -> Function:
    """What verl would give as `reward_kwargs` are settings."""
    parameters = _parameters(function)
    table = VERL_GROUP if "solution_strs" in parameters else VERL
    asked = dict.fromkeys(table[name] for name in parameters if name in table)
    settings = [p.replace(kind=p.KEYWORD_ONLY) for n, p in parameters.items() if n not in table]

    def arguments(given: dict[str, Any]) -> dict[str, Any]:
        return {n: _of_verl(n, given[table[n]]) if n in table else given[n] for n in parameters}

    return _wrapped(function, arguments, _verl_score, [*map(_data, asked), *settings])


def _of_verl(name: str, value: Any) -> Any:
    if name.endswith("s"):
        return [_of_verl(name[:-1], one) for one in value]
    if name == "ground_truth" and isinstance(value, Mapping) and "ground_truth" in value:  # the column `reward_model`
        return value["ground_truth"]
    if name == "data_source":
        return value.fields.get("data_source", "")
    if name == "extra_info":
        return dict(value.fields.get("extra_info") or value.fields)
    return value


def _verl_score(value: Any) -> Any:
    """A dict's `score`; what is beside it becomes the reason."""
    if isinstance(value, Mapping) and "score" in value:
        return value["score"], ", ".join(f"{k}={v}" for k, v in value.items() if k != "score")
    if isinstance(value, list):
        return [_verl_score(one) for one in value]
    return value


# -- verifiers --------------------------------------------------------------------------------------------------------


def _from_function(function: Function, parser: Any, objects: Mapping[str, Any], guessed: bool) -> Function:
    parameters = _parameters(function)
    if "runtime" in parameters and parameters["runtime"].default is Parameter.empty:
        raise ComponentError(f"{_name(function)} asks for verifiers' `runtime`, which there is not here")
    group = any(name in SINGLE for name in parameters)
    table = set(SINGLE) if group else {*SINGLE.values(), "parser", "trace", "runtime"}
    table |= set(objects) | {"parser"}
    columns = [p for n, p in parameters.items() if n not in table and p.kind is not p.KEYWORD_ONLY and not group]
    settings = [p for n, p in parameters.items() if n not in table and p.kind is p.KEYWORD_ONLY]
    everything = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())

    def arguments(given: dict[str, Any]) -> dict[str, Any]:
        tasks, trajectories = _pair(given, group)
        for task in tasks:
            check_guess(made, task.fields)
        pairs = zip(tasks, trajectories, strict=True)
        seen = [{**_seen(task, trajectory, parser, "trace" in parameters), **objects} for task, trajectory in pairs]
        if not group:
            known = {**tasks[0].fields, **seen[0]} if everything else seen[0]
            return {n: v for n, v in known.items() if everything or n in parameters} | given
        of_all: dict[str, Any] = {many: [one[single] for one in seen] for many, single in SINGLE.items()}
        of_all |= {"parser": parser or Plain(), **objects}
        return {n: v for n, v in of_all.items() if everything or n in parameters} | given

    asked = [_data("tasks"), _data("trajectories")] if group else [_data("task"), _data("trajectory")]
    made = _wrapped(function, arguments, _v1_score if "trace" in parameters else _same, [*asked, *columns, *settings])
    made.__dict__["__guerdon_marks__"] = [m for m in MARKS if m in parameters] if guessed else []
    return made


def check_guess(function: Function, columns: Collection[str]) -> None:
    """Check that a function taken for one of verifiers' cannot be one of guerdon's that asks for a column.

    Raises:
        RewardError: the tasks have a column of the name by which it was known.
    """
    for mark in getattr(function, "__guerdon_marks__", ()):
        if mark in columns:
            raise RewardError(
                f"{_name(function)} asks for {mark!r}: that of a rollout in verifiers, or the tasks' column? For the "
                "first wrap it in guerdon.adapters.from_verifiers, for the second give the column another name",
                kind="ambiguous",
            )


def _pair(given: dict[str, Any], group: bool) -> tuple[Sequence[Task], Sequence[Trajectory]]:
    if group:
        return given.pop("tasks"), given.pop("trajectories")
    return [given.pop("task")], [given.pop("trajectory")]


def _from_rubric(rubric: Any) -> Function:
    uses = [(_from_function(f, rubric.parser, _objects(rubric), False), f, w) for f, w in _weighted(rubric)]
    if not uses:
        raise ComponentError(f"{type(rubric).__name__} has no functions with a weight")

    async def whole(tasks: Sequence[Task], trajectories: Sequence[Trajectory]) -> list[Score]:
        sums, reasons = [0.0] * len(tasks), [list[str]() for _ in tasks]
        for function, original, weight in uses:
            if "tasks" in inspect.signature(function).parameters:
                values = await _awaited(function(tasks=tasks, trajectories=trajectories))
            else:
                pairs = zip(tasks, trajectories, strict=True)
                values = [await _awaited(function(task=t, trajectory=r, **_asked(function, t))) for t, r in pairs]
            for i, value in enumerate(values):
                sums[i] += weight * float(value)
                reasons[i].append(f"{_name(original)} {float(value):g}")
        return [Score(value, reason=", ".join(reason)) for value, reason in zip(sums, reasons, strict=True)]

    async def each(task: Task, trajectory: Trajectory) -> Score:
        return (await whole([task], [trajectory]))[0]

    grouped = any("tasks" in inspect.signature(function).parameters for function, _, _ in uses)
    made = whole if grouped else each
    made.__doc__ = inspect.getdoc(rubric)
    made.__dict__["__guerdon_native__"] = True
    return made


def _asked(function: Function, task: Task) -> dict[str, Any]:
    return {n: task.fields[n] for n in _parameters(function) if n in task.fields and n not in ("task", "trajectory")}


def _weighted(rubric: Any) -> list[tuple[Function, float]]:
    """A function of weight 0 is only measured."""
    return [(f, w) for f, w in zip(rubric.funcs, rubric.weights, strict=True) if w]


def _objects(rubric: Any) -> dict[str, Any]:
    return dict(getattr(rubric, "class_objects", {}))


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _is_rubric(found: Any) -> bool:
    return not inspect.isclass(found) and all(hasattr(found, name) for name in ("funcs", "weights", "parser"))


def _seen(task: Task, trajectory: Trajectory, parser: Any, v1: bool) -> dict[str, Any]:
    """What verifiers would give a function to ask for."""
    prompt, completion = _split(task, trajectory)
    answer = "" if task.answer is None else task.answer
    row = dict(task.fields)
    info = row["info"] if isinstance(row.get("info"), Mapping) else row
    if v1:
        names = {"id": task.id, "prompt_text": task.text, **row, "prompt": task.prompt, "answer": answer}
        data = SimpleNamespace(**{str(k): v for k, v in names.items()})
        return {"task": data, "trace": _trace(data, trajectory, [*prompt, *completion]), "runtime": None}
    said: dict[str, Any] = {"prompt": prompt, "completion": completion, "answer": answer, "info": info}
    said["task"] = row.get("task", {**row, **said})
    steps = [{"prompt": talk[:-1], "completion": talk[-1:]} for talk in trajectory.conversations()]
    state = {**said, "input": row, "example_id": task.id, "trajectory": steps, "is_completed": True}
    return {**said, "state": state, "parser": parser or Plain()}


def _split(task: Task, trajectory: Trajectory) -> tuple[list[Message], list[Message]]:
    if not trajectory.turns:
        return task.messages, [{"role": "assistant", "content": trajectory.completion or ""}]
    prompt = list(trajectory.turns[0].prompt)
    return prompt, trajectory.messages[len(prompt) :]


def _trace(data: Any, trajectory: Trajectory, messages: Sequence[Message]) -> Any:
    talk = [SimpleNamespace(**{"content": None, "tool_calls": None, **m}) for m in messages]
    return SimpleNamespace(
        task=SimpleNamespace(data=data),
        last_reply=(trajectory.completion or "").strip(),
        messages=talk,
        last_message=talk[-1],
        assistant_messages=[SimpleNamespace(**{"tool_calls": None, **t.reply}) for t in trajectory.turns] or talk[-1:],
        tool_messages=[m for m in talk if m.role == "tool"],
        num_turns=max(len(trajectory.turns), 1),
        info={},
    )


def _v1_score(value: Any) -> Any:
    """Keyed scores are added up."""
    if isinstance(value, Mapping):
        return (sum(value.values()), ", ".join(f"{k} {v:g}" for k, v in value.items())) if value else None
    return value


class Plain:
    """What verifiers gives as `parser` where a rubric has none: the text as it is."""

    def parse(self, text: str) -> str:
        return text

    def parse_answer(self, completion: str | Sequence[Message]) -> str | None:
        """The text of the last message of the assistant."""
        if isinstance(completion, str):
            return completion
        said = self.get_assistant_messages(completion)
        return str(said[-1].get("content") or "") if said else None

    def get_assistant_messages(self, completion: Sequence[Message]) -> list[Message]:
        return [m for m in completion if m.get("role") == "assistant"]


# -- both -------------------------------------------------------------------------------------------------------------


def _wrapped(
    function: Function,
    arguments: Callable[[dict[str, Any]], dict[str, Any]],
    read: Callable[[Any], Any],
    parameters: Sequence[Parameter],
) -> Function:
    from guerdon.invoke import is_async

    if is_async(function):

        async def waits(**given: Any) -> Any:
            return read(await function(**arguments(given)))

        made: Any = waits
    else:

        def runs(**given: Any) -> Any:
            return read(function(**arguments(given)))

        made = runs
    functools.update_wrapper(made, function)
    made.__name__ = _name(function)
    order = sorted(parameters, key=lambda p: (p.kind, p.default is not p.empty))
    made.__signature__ = Signature(order)
    made.__guerdon_native__ = True
    return made  # type: ignore[no-any-return]


def _parameters(function: Function) -> dict[str, Parameter]:
    found = inspect.signature(function).parameters
    return {n: p for n, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _data(name: str) -> Parameter:
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD)


def _name(function: Function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _same(value: Any) -> Any:
    return value
