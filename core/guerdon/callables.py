"""A reward as TRL, verl and verifiers call theirs: what `Reward.trl`, `.verl` and `.verifiers` give.

They are objects, not closures, so that they can be sent to the processes that these libraries start.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from guerdon.adapters import Given, Reward, Said, given, value_of
from guerdon.errors import RewardError, counted, near_miss
from guerdon.invoke import check_wants
from guerdon.settings import validate
from guerdon.trajectory import Score

log = logging.getLogger("guerdon")

AT_FAULT_ITSELF = ("import", "missing", "missing_extra", "missing_column", "ambiguous")
"""Kinds of failure that no completion is to blame for: they stop a training run whatever its rule is."""


class ForTRL:
    """`Reward.trl`."""

    def __init__(self, reward: Reward, answer: str, on_error: str) -> None:
        self.__name__ = reward.name
        self._reward, self._answer, self._on_error = reward, answer, on_error

    def __call__(
        self,
        prompts: Sequence[Said],
        completions: Sequence[Said],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        environments: Any = None,
        **columns: Sequence[Any],
    ) -> list[float | None]:
        _check_answer(self._reward, self._answer, columns)
        check_wants(self._reward.function, list(columns))
        scores = self._reward.of(given(completions, columns.get(self._answer), prompts, columns, completion_ids))
        failed = _failed(self.__name__, scores, self._on_error)
        if log_metric:
            log_metric(f"{self.__name__}/errors", failed / max(len(scores), 1))
        if log_extra:
            log_extra(f"{self.__name__}/reason", [_reason(s) for s in scores])
        lost = 0.0 if self._on_error == "zero" else None
        return [lost if s.error else s.value for s in scores]


class ForVerl:
    """`Reward.verl`."""

    def __init__(self, reward: Reward, on_error: str) -> None:
        self.__name__ = reward.name
        self._reward, self._on_error = reward, on_error

    def __call__(
        self,
        data_source: str = "",
        solution_str: str = "",
        ground_truth: Any = None,
        extra_info: Mapping[str, Any] | None = None,
        *,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
        **settings: Any,
    ) -> dict[str, Any]:
        reward = self._with(settings) if settings else self._reward
        columns = {**(extra_info or {}), "data_source": data_source, "extra_info": extra_info or {}}
        prompt = columns.get("prompt") or columns.get("question") or ""
        score = reward.of([Given(solution_str, ground_truth, prompt, columns)])[0]
        _failed(self.__name__, [score], self._on_error)
        return {
            "score": score.value or 0.0,
            "reason": _reason(score),
            "applies": float(score.value is not None or score.error is not None),
            "failed": float(score.error is not None),
        }

    def _with(self, settings: Mapping[str, Any]) -> Reward:
        own = self._reward
        given = {**own.settings, **settings}
        return Reward(own.component, validate(f"reward {own.name!r}", own.function, given), own.timeout)


class ForVerifiers:
    """`Reward.verifiers`. The v1 API gives `task` and `trace`; a Rubric all that it has, by name."""

    def __init__(self, reward: Reward, answer: str) -> None:
        self.__name__ = self.__qualname__ = reward.name
        self._reward, self._answer = reward, answer

    async def __call__(
        self,
        task: Any = None,
        trace: Any = None,
        prompt: Any = "",
        completion: Any = "",
        answer: Any = None,
        info: Any = None,
        state: Any = None,
        parser: Any = None,
        **columns: Any,
    ) -> Any:
        if trace is not None:
            return await self._v1(task, trace)
        columns = {**(info if isinstance(info, Mapping) else {}), **columns, "info": info}
        row = Given(_plain(completion), answer, _plain(prompt), columns)
        (score,) = await asyncio.to_thread(self._reward.of, [row])
        if state is not None:
            state.setdefault("guerdon", {})[self.__name__] = {"value": score.value, "reason": _reason(score)}
        return value_of(score) or 0.0

    async def _v1(self, task: Any, trace: Any) -> Any:
        columns = dict(task)  # pydantic: names and values
        _check_answer(self._reward, self._answer, columns)
        row = Given(trace.last_reply, columns.get(self._answer), task.prompt_text, columns)
        (score,) = await asyncio.to_thread(self._reward.of, [row])
        value = value_of(score)
        return {} if value is None else value


def _failed(name: str, scores: Sequence[Score], on_error: str) -> int:
    """On how many of these the reward failed; logs a warning.

    Raises:
        RewardError: the rule is to abort, or no completion is to blame: something is not installed, or not there.
    """
    failed = [s for s in scores if s.error]
    for score in failed:
        if on_error == "abort" or (score.error and score.error.kind in AT_FAULT_ITSELF):
            value_of(score)
    if failed:
        where = f"{len(failed)} of {counted(scores, 'completion')}"
        log.warning("reward %s failed on %s: %s", name, where, _reason(failed[0]))
    return len(failed)


def _check_answer(reward: Reward, answer: str, columns: Mapping[str, Any]) -> None:
    how = reward.shape
    if {"answer", "answers"} & set(how.wants) - how.optional and answer not in columns:
        raise RewardError(
            f"there is no column {answer!r} with the reference; say which it is: answer='...'."
            f"{near_miss(answer, columns)}",
            kind="missing_column",
        )


def _plain(said: Any) -> Said:
    """Messages as dicts: they may be objects of pydantic."""
    if said is None or isinstance(said, str):
        return said or ""
    return [dict(m) if isinstance(m, Mapping) else m.model_dump(exclude_none=True) for m in said]


def _reason(score: Score) -> str:
    return f"{score.error.kind}: {score.error.message}" if score.error else score.reason
