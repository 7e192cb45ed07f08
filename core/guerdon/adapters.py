"""A reward outside of recipes: in anyone's script, and as TRL, verl and verifiers call theirs.

`guerdon.reward("equivalence")` finds a reward by its name, as a recipe does, and scores with it. Rewards that are not
quick and pure by their own word run in worker processes that all of a process's rewards share, each score with a
deadline. All of this can be pickled, and called from any thread, from asyncio, and in spawned processes.

The other way, rewards of these libraries in a recipe, is `guerdon.signatures`.
"""

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from guerdon.errors import ComponentError, RewardError, counted
from guerdon.invoke import ONE, Asked, Item, Shape, asked, evaluate, is_async, outcomes, shape
from guerdon.plugins import Component, Plugins
from guerdon.registry import Registry, load, require_extra
from guerdon.settings import validate
from guerdon.signatures import from_verifiers as from_verifiers
from guerdon.task import Message, Task, reference
from guerdon.trajectory import Failure, Score, Trajectory, Turn
from guerdon.workers import Job, in_worker, shared

if TYPE_CHECKING:
    from guerdon.callables import ForTRL, ForVerifiers, ForVerl

Said = str | Sequence[Message]
"""A prompt or a completion: text or chat messages."""

ENOUGH_TO_SHARE, MOST_TOGETHER = 32, 256
"""So many scores are worth another worker; so many are sent at once, as nothing stops what was sent."""


def reward(name: str, /, *, timeout: float = 10.0, **settings: Any) -> "Reward":
    """A reward by its name in recipes, ready to score: a registered one, `package:name`, or `./file.py:function`.

    Args:
        name: As in a recipe; files are looked for from the current folder.
        timeout: Seconds that one score may take, or one group of a reward that scores groups. Rewards that are quick
            and pure by their own word have none.
        settings: The reward's own.

    Raises:
        ComponentError: there is no such reward, its extra is not installed, or a setting is wrong.
        RewardError: its parameters fit no way of calling it.

    >>> import guerdon
    >>> guerdon.reward("numeric", relative=0.01)("The answer is 2.02.", 2.0)
    0.0
    """
    component = Registry(Plugins()).find("rewards", name)
    require_extra(component)
    function = load(component)
    if not callable(function):
        raise ComponentError(f"{name!r} is a {type(function).__name__}, not a function")
    notes: list[str] = []
    checked = validate(f"reward {name!r}", function, settings, notes)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    shape(function)
    return Reward(component, checked, timeout)


@dataclass(frozen=True)
class Reward:
    """A reward with its settings (`guerdon.reward`)."""

    component: Component
    settings: Mapping[str, Any]
    timeout: float = 10.0

    @property
    def name(self) -> str:
        return self.component.name

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The reward as it was written."""
        return cast(Callable[..., Any], load(self.component))

    @cached_property
    def shape(self) -> Shape:
        return shape(self.function)

    def __getstate__(self) -> dict[str, Any]:
        """Without the function: whoever unpickles it imports it."""
        return {"component": self.component, "settings": self.settings, "timeout": self.timeout}

    def __call__(self, completion: Said, answer: Any = None, *, prompt: Said = "", **columns: Any) -> float | None:
        """One score; `None` where the reward does not apply.

        Raises:
            RewardError: the reward failed; `kind` says how: timeout, died, raised, not_finite ...
        """
        return value_of(self.score(completion, answer, prompt=prompt, **columns))

    def score(self, completion: Said, answer: Any = None, *, prompt: Said = "", **columns: Any) -> Score:
        """One score with its reason; where the reward failed, with the error instead."""
        return self.of([Given(completion, answer, prompt, columns)])[0]

    def scores(
        self,
        completions: Sequence[Said],
        answers: Sequence[Any] | None = None,
        *,
        prompts: Sequence[Said] | None = None,
        **columns: Sequence[Any],
    ) -> list[Score]:
        """The scores of these completions, in order; `columns` hold a value for each.

        For a reward that scores groups, completions of equal prompts are a group; without prompts all are one.

        Raises:
            RewardError: the lists differ in length.
        """
        return self.of(given(completions, answers, prompts, columns))

    async def ascore(self, completion: Said, answer: Any = None, *, prompt: Said = "", **columns: Any) -> Score:
        """`score`, for asyncio."""
        return await asyncio.to_thread(self.score, completion, answer, prompt=prompt, **columns)

    async def ascores(
        self,
        completions: Sequence[Said],
        answers: Sequence[Any] | None = None,
        *,
        prompts: Sequence[Said] | None = None,
        **columns: Sequence[Any],
    ) -> list[Score]:
        """`scores`, for asyncio."""
        return await asyncio.to_thread(self.scores, completions, answers, prompts=prompts, **columns)

    def trl(self, *, answer: str = "answer", on_error: Literal["drop", "zero", "abort"] = "drop") -> "ForTRL":
        """A function for TRL: `GRPOTrainer(reward_funcs=[guerdon.reward("numeric").trl()])`.

        Args:
            answer: The data set's column with the reference.
            on_error: What a completion earns on which the reward fails: None (drop), 0.0 (zero), or raise (abort).
                What is not installed, or has no column, raises always. A failure is logged as a warning, and the share
                of failures as the metric NAME/errors. None is also what a reward that does not apply gives: TRL leaves
                it out of the sum, and a completion with nothing but None teaches nothing (TRL 1.16).
        """
        from guerdon.callables import ForTRL

        return ForTRL(self, answer, on_error)

    def verl(self, *, on_error: Literal["zero", "abort"] = "zero") -> "ForVerl":
        """A `compute_score` for verl's `custom_reward_function`.

        It returns a dict: `score`; `reason`, text; `applies`, 0 where the reward does not; `failed`, 1 where it failed.
        The figures are among verl's validation metrics. verl knows numbers only: `score` is 0.0 where the reward does
        not apply. What verl is given as `reward_kwargs` are settings.

        Args:
            on_error: What a completion earns on which the reward fails: 0.0 with `failed` 1 and a warning in the log
                (zero), or raise (abort).
        """
        from guerdon.callables import ForVerl

        return ForVerl(self, on_error)

    def verifiers(self, *, answer: str = "answer") -> "ForVerifiers":
        """A function for verifiers: `vf.Rubric(funcs=[...])`, or in the v1 API a task's `rewards`.

        Where the reward fails it raises: a Rubric logs that and takes 0.0, v1 records it as the task's error. Where it
        does not apply, a Rubric gets 0.0 and v1 no score. A Rubric's `state["guerdon"][NAME]` has value and reason.

        Args:
            answer: In the v1 API, the field of the task's data with the reference.
        """
        from guerdon.callables import ForVerifiers

        return ForVerifiers(self, answer)

    def of(self, rows: Sequence["Given"]) -> list[Score]:
        """The scores of these, in order. For a reward that scores groups those of equal prompts are a group."""
        if self.shape.kind == "one":
            return self._made([self._asked(i, row) for i, row in enumerate(rows)])
        groups: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(repr(row.prompt), []).append(i)
        items = [as_item(i, row) for i, row in enumerate(rows)]
        scores = self._made([one for g in groups.values() for one in asked(self.shape, [items[i] for i in g])])
        places = [i for group in groups.values() for i in group]
        return [score for _, score in sorted(zip(places, scores, strict=True), key=itemgetter(0))]

    @cached_property
    def _wants_records(self) -> bool:
        return bool(set(self.shape.wants) & (ONE.keys() - {"completion", "answer", "prompt"}))

    def _asked(self, index: int, row: "Given") -> Asked:
        """Where no more than texts and columns are asked for no records are made of them: that takes longer than
        many a reward."""
        if self._wants_records or not (isinstance(row.completion, str) and isinstance(row.prompt, str)):
            return asked(self.shape, (as_item(index, row),))[0]
        known = {**row.columns, "completion": row.completion, "answer": reference(row.answer), "prompt": row.prompt}
        for name in self.shape.wants:
            if name not in known and name not in self.shape.optional:
                return Failure("missing_column", f"there is no column {name!r}"), 1
        return {name: known[name] for name in self.shape.wants if name in known}, 1

    def _made(self, calls: Sequence[Asked]) -> list[Score]:
        """What comes of these calls: here, or in several workers where they are many."""
        if in_worker() or (self.component.inline and not is_async(self.function)):
            return [s for one in calls for s in evaluate(self.function, self.settings, self.shape, one)]
        job = Job("guerdon.invoke:caller", (self.component, dict(self.settings)))
        workers = shared()
        least = ENOUGH_TO_SHARE if self.shape.kind == "one" else 1
        size = min(max(least, -(-len(calls) // workers.count)), MOST_TOGETHER)
        parts = [calls[i : i + size] for i in range(0, len(calls), size)]
        if len(parts) < 2:
            results = workers.run(job, calls, self.timeout)
        else:
            with ThreadPoolExecutor(min(len(parts), workers.count)) as threads:
                lists = threads.map(lambda part: workers.run(job, part, self.timeout), parts)
                results = [result for one in lists for result in one]
        return outcomes(calls, results, self.timeout)


def value_of(score: Score) -> float | None:
    """
    Raises:
        RewardError: it is an error.
    """
    if score.error:
        raise RewardError(score.error.message, kind=score.error.kind)
    return score.value


# -- what is scored ---------------------------------------------------------------------------------------------------


class Given(NamedTuple):
    """What there is to score. `ids` are the completion's, where they are known."""

    completion: Said
    answer: Any = None
    prompt: Said = ""
    columns: Mapping[str, Any] = MappingProxyType({})
    ids: Sequence[int] = ()


def given(
    completions: Sequence[Said],
    answers: Sequence[Any] | None,
    prompts: Sequence[Said] | None,
    columns: Mapping[str, Sequence[Any]],
    ids: Sequence[Sequence[int]] | None = None,
) -> list[Given]:
    """Lists as rows.

    Raises:
        RewardError: they differ in length.
    """
    lists = {"prompts": prompts, "answers": answers, "completion_ids": ids, **columns}
    for name, values in lists.items():
        if values is not None and (isinstance(values, str) or len(values) != len(completions)):
            what = "a text" if isinstance(values, str) else counted(values, "value")
            raise RewardError(f"{name}: {what} for {counted(completions, 'completion')}", kind="wrong_length")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] if columns else None
    return [
        Given(*row)
        for row in zip(
            completions,
            repeat(None) if answers is None else answers,
            repeat("") if prompts is None else prompts,
            rows or repeat({}),
            repeat(()) if ids is None else ids,
            strict=False,  # they are of one length
        )
    ]


def as_item(index: int, row: Given) -> Item:
    """A task and a trajectory: each message of the assistant ends a turn."""
    task = Task(str(index), row.prompt, reference(row.answer), row.columns)
    text = row.completion
    said = [{"role": "assistant", "content": text}] if isinstance(text, str) else list(text)
    talk = [*(task.messages if row.prompt else ()), *said]
    start, turns = 0, list[Turn]()
    for end in range(len(talk) - len(said), len(talk)):
        if talk[end].get("role") == "assistant":
            turns.append(Turn(start, tuple(talk[start:end]), talk[end]))
            start = end + 1
    if turns and row.ids:
        turns[-1] = replace(turns[-1], reply_ids=tuple(row.ids), reply_tokens=len(row.ids))
    last = _text(turns[-1].reply.get("content")) if turns else ""
    return task, Trajectory(task.id, task.id, "eval", 0, 0, "", "", turns=tuple(turns), completion=last)


def _text(content: Any) -> str:
    """A message's content as text; it may be in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
