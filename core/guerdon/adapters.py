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
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from guerdon.errors import ComponentError, RewardError, counted
from guerdon.invoke import Item, Shape, call, is_async, shape
from guerdon.plugins import Component, Plugins
from guerdon.registry import Registry, load, require_extra
from guerdon.settings import validate
from guerdon.signatures import from_verifiers as from_verifiers
from guerdon.task import Message, Task
from guerdon.tasks import reference
from guerdon.trajectory import Failure, Score, Trajectory, Turn
from guerdon.workers import Job, in_worker, shared

if TYPE_CHECKING:
    from guerdon.callables import ForTRL, ForVerifiers, ForVerl

Said = str | Sequence[Message]
"""A prompt or a completion: text or chat messages."""

ENOUGH_TO_SHARE = 32
"""So many scores are worth another worker."""


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
        return self.scores([completion], [answer], prompts=[prompt], **{k: [v] for k, v in columns.items()})[0]

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
        return self.of_items(as_items(prompts, completions, answers, columns))

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

    def of_items(self, items: Sequence[Item]) -> list[Score]:
        """The scores of tasks and their trajectories."""
        if self.shape.kind == "one":
            return self._groups([items])
        groups: dict[str, list[int]] = {}
        for i, (task, _) in enumerate(items):
            groups.setdefault(repr(task.prompt), []).append(i)
        given = self._groups([[items[i] for i in group] for group in groups.values()])
        places = [i for group in groups.values() for i in group]
        return [score for _, score in sorted(zip(places, given, strict=True), key=lambda pair: pair[0])]

    def _groups(self, groups: Sequence[Sequence[Item]]) -> list[Score]:
        if in_worker() or (self.component.inline and not is_async(self.function)):
            return [score for group in groups for score in call(self.function, self.settings, group)]
        whole = self.shape.kind != "one"
        job = Job("guerdon.invoke:scorer", (self.component, dict(self.settings)), whole)
        if not whole:
            groups = [part for group in groups for part in _parts(group, shared().count)]
        if len(groups) == 1:
            given = shared().run(job, groups[0], self.timeout)
        else:
            with ThreadPoolExecutor(shared().count) as threads:
                lists = threads.map(lambda group: shared().run(job, group, self.timeout), groups)
                given = [result for results in lists for result in results]
        return [Score(None, error=g) if isinstance(g, Failure) else g for g in given]


def _parts(items: Sequence[Item], count: int) -> list[Sequence[Item]]:
    """At most `count` parts, none too small to be worth a worker."""
    size = max(ENOUGH_TO_SHARE, -(-len(items) // count))
    return [items[i : i + size] for i in range(0, len(items), size)]


def value_of(score: Score) -> float | None:
    """
    Raises:
        RewardError: it is an error.
    """
    if score.error:
        raise RewardError(score.error.message, kind=score.error.kind)
    return score.value


# -- what is scored ---------------------------------------------------------------------------------------------------


def as_items(
    prompts: Sequence[Said] | None,
    completions: Sequence[Said],
    answers: Sequence[Any] | None,
    columns: Mapping[str, Sequence[Any]],
    ids: Sequence[Sequence[int]] | None = None,
) -> list[Item]:
    lists = {"prompts": prompts, "answers": answers, "completion_ids": ids, **columns}
    given = {name: values for name, values in lists.items() if values is not None}
    for name, values in given.items():
        if isinstance(values, str) or len(values) != len(completions):
            what = "a text" if isinstance(values, str) else counted(values, "value")
            raise RewardError(f"{name}: {what} for {counted(completions, 'completion')}", kind="wrong_length")
    return [
        as_item(
            i,
            prompts[i] if prompts is not None else "",
            completion,
            answers[i] if answers is not None else None,
            {name: values[i] for name, values in columns.items()},
            ids[i] if ids is not None else (),
        )
        for i, completion in enumerate(completions)
    ]


def as_item(
    index: int, prompt: Said, completion: Said, answer: Any, columns: Mapping[str, Any], ids: Sequence[int] = ()
) -> Item:
    """A task and a trajectory: each message of the assistant ends a turn."""
    task = Task(str(index), prompt, reference(answer), columns)
    said = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
    talk = [*(task.messages if prompt else ()), *said]
    start, turns = 0, list[Turn]()
    for end in range(len(talk) - len(said), len(talk)):
        if talk[end].get("role") == "assistant":
            turns.append(Turn(start, tuple(talk[start:end]), talk[end]))
            start = end + 1
    if turns and ids:
        last = turns.pop()
        turns.append(Turn(last.keep, last.prompt, last.reply, reply_ids=tuple(ids), reply_tokens=len(ids)))
    text = _text(turns[-1].reply.get("content")) if turns else ""
    return task, Trajectory(task.id, task.id, "eval", 0, 0, "", "", turns=tuple(turns), completion=text)


def _text(content: Any) -> str:
    """A message's content as text; it may be in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
