"""What the engine does for a training process while it trains: keep its figures, and roll out and score for it."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guerdon.alarms import SAID_ELSEWHERE, Watch, comparing
from guerdon.collect import Collector
from guerdon.errors import AgentError, TrainingError
from guerdon.policy import Endpoint
from guerdon.report import Meter
from guerdon.rollout import Agent, Attempt
from guerdon.rows import is_one, sequence
from guerdon.served import Served
from guerdon.task import Message, Task
from guerdon.trajectory import Trajectory, Turn

BROKEN = 0.1
"""The share of rollouts in pieces that is passed over: now and then a reply has other tokens than its text gives."""
SHOWN = ("loss", "reward", "eval_loss", "tokens_per_second")
"""Figures of a step that are worth a place on one line."""


class Live:
    """Implements `guerdon.training.Service` for one training. `tasks` are those that may be rolled out."""

    def __init__(
        self, collector: Collector, served: Served, stage: str, meter: Meter, tasks: Sequence[Task] = ()
    ) -> None:
        self.collector = collector
        self.served = served
        self.stage = stage
        self.meter = meter
        self.tasks = {t.id: t for t in tasks}
        self.prompts: dict[str, list[Message]] = {}
        self._begun = False
        self._complaints: set[str] = set()
        self._watch: Watch | None = None

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        if not self._begun:  # what a training that was killed logged after its last checkpoint
            self.collector.run.forget_metrics(self.stage, step)
            self._begun = True
        self.collector.run.log(self.stage, step, metrics)
        self.collector.tell("metrics_logged", stage=self.stage, step=step, metrics=metrics)
        shown = [f"{name} {metrics[name]:.3g}" for name in SHOWN if name in metrics]
        self.meter.step("  ".join(shown), done=step, total=total)

    def say(self, text: str) -> None:
        self.collector.report.say(f"  {text}")

    async def generate(self, tasks: Sequence[str], checkpoint: Path | None, step: int) -> list[dict[str, Any]]:
        """Roll out with the policy as it is at this step."""
        collector, recipe = self.collector, self.collector.plan.recipe
        collector.run.forget_trajectories("train", step)  # of a training that was killed after its last checkpoint
        attempts = [
            Attempt(self.tasks[name], "train", step, attempt) for name, attempt in _numbered(self._known(tasks))
        ]
        endpoint = await self._serve(checkpoint)
        name = f"{self.served.name} at step {step}"
        runner = await collector.runner(endpoint, recipe.sampling.body(), name, recipe.tasks.expose)
        done: dict[str, Trajectory] = {}
        for number in sorted({self._group(a.attempt) for a in attempts}):  # a task may come again
            part = [a for a in attempts if self._group(a.attempt) == number]
            done |= {t.id: t for t in await collector.collect(runner, part)}
        trajectories = [done[a.id] for a in attempts]
        self._judge(trajectories)
        self._mind_conversations(trajectories)
        return [{**sequence(t), **_outcome(t)} for t in trajectories]

    async def score(self, items: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
        """Score what the trainer generated itself, in the place of a rollout."""
        collector = self.collector
        collector.run.forget_trajectories("train", step)
        groups: dict[tuple[str, int], list[tuple[Task, Trajectory]]] = defaultdict(list)
        made = list[Trajectory]()
        for item, (name, attempt) in zip(items, _numbered(self._known([i["task"] for i in items])), strict=True):
            made.append(self._trajectory(item, attempt, step))
            groups[name, self._group(attempt)].append((self.tasks[name], made[-1]))
        scored = {t.id: t for group in groups.values() for t in await collector.score(group)}
        trajectories = [scored[t.id] for t in made]
        self._judge(trajectories)
        return [_outcome(t) for t in trajectories]

    def _judge(self, trajectories: Sequence[Trajectory]) -> None:
        """Is there something to go on with? The first failure of each kind is said at once; all are counted later."""
        self.collector.judge(trajectories)
        for t in trajectories:
            failed = {f"rollouts fail ({t.failure.kind})": t.failure.message} if t.failure else {}
            failed |= {f"reward {name!r} fails": score.error.message for name, score in t.scores.items() if score.error}
            for what in failed.keys() - self._complaints:
                self._complaints.add(what)
                self.collector.report.warn(f"{what}, first in {t.id}: {failed[what]}")
        if self._watch is None:  # a training that goes on has earlier steps; whether there is variance the trainer says
            self._watch = Watch(comparing(self.collector.plan.rewards), (*SAID_ELSEWHERE, "no_variance"))
            trajectories = self.collector.run.trajectories("train")
        for alarm in self._watch.add(trajectories):
            self.collector.report.alarm(alarm)

    def _mind_conversations(self, trajectories: Sequence[Trajectory]) -> None:
        """Say once that an agent holds several conversations, or shortens its history."""
        several = [t for t in trajectories if not is_one(t)]
        if len(several) > BROKEN * len(trajectories) and "conversations" not in self._complaints:
            self._complaints.add("conversations")
            mend = (
                "The messages go on, but not their tokens: a `stop` text ends replies without the end token, or the "
                "chat template leaves out parts of earlier ones. Mend that"
                if all(_goes_on(t) for t in several)
                else "Keep the history as it was"
            )
            self.collector.report.warn(
                f"in {len(several)} of {len(trajectories)} rollouts requests do not continue those before, first in "
                f"{several[0].id}: a policy gradient learns the last conversation of each alone. {mend}, or train with "
                "sft, which learns all of them"
            )

    def _group(self, attempt: int) -> int:
        """Which group of its task this attempt is in."""
        size: int = self.collector.plan.recipe.loop.group_size
        return attempt // size

    def _known(self, tasks: Sequence[str]) -> Sequence[str]:
        unknown = [t for t in tasks if t not in self.tasks]
        if unknown:
            raise TrainingError(f"the trainer asked for a task that there is not: {unknown[0]!r}")
        return tasks

    async def _serve(self, checkpoint: Path | None) -> Endpoint:
        self.served.take(checkpoint)
        return await self.served.endpoint()

    def _trajectory(self, item: Mapping[str, Any], attempt: int, step: int) -> Trajectory:
        longest = self.collector.plan.recipe.sampling.max_tokens
        turn = Turn(
            keep=0,
            prompt=tuple(self.prompts.get(item["task"], self.tasks[item["task"]].messages)),
            reply={"role": "assistant", "content": item["completion"]},
            finish_reason="length" if len(item["completion_ids"]) >= (longest or math.inf) else "stop",
            prompt_ids=tuple(item["prompt_ids"]),
            reply_ids=tuple(item["completion_ids"]),
            logprobs=tuple(item.get("logprobs") or ()),
            prompt_tokens=len(item["prompt_ids"]),
            reply_tokens=len(item["completion_ids"]),
        )
        return Trajectory(
            id=Attempt(self.tasks[item["task"]], "train", step, attempt).id,
            task_id=item["task"],
            phase="train",
            iteration=step,
            attempt=attempt,
            agent=self.collector.plan.agent.component.name,
            model=f"{self.served.name} at step {step}",
            turns=(turn,),
            completion=item["completion"],
        )


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each with its number among those of the same name."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append((name, seen[name]))
        seen[name] += 1
    return numbered


def _goes_on(trajectory: Trajectory) -> bool:
    """Whether each request has all messages of the one before, and its reply."""
    before = 0
    for turn in trajectory.turns:
        if turn.keep < before:
            return False
        before = turn.keep + len(turn.prompt) + 1
    return True


def _outcome(trajectory: Trajectory) -> dict[str, Any]:
    whole = trajectory.reward is not None  # else the trainer would sum up the others
    return {
        "scores": {name: score.value if whole else None for name, score in trajectory.scores.items()},
        "reward": trajectory.reward,
        "trajectory": trajectory.id,
        "failure": trajectory.failure.kind if trajectory.failure else "",
    }


SAID = "<think>\nSome words.\n</think>\n<answer>The answer is \\boxed{42}.</answer>"
"""A reply with much that an agent may take out of one."""
SHAPING = ("stop", "max_tokens", "max_completion_tokens", "temperature", "top_p", "tools", "response_format")
"""What an agent may ask with that makes another reply."""


async def first_prompts(collector: Collector, agent: Agent, tasks: Sequence[Task]) -> dict[str, list[Message]]:
    """By task, the messages of the request that a `single_turn` agent makes for it: what a model is given to answer.

    Raises:
        AgentError: the agent failed, asked nothing, or does more than that where the trainer takes its place.
    """
    plan, found = collector.plan, {}
    sampling, by_agent = plan.recipe.sampling.body(), plan.trainer and plan.trainer.settings.get("rollout") == "agent"
    for task in tasks:
        endpoint, answer = _Same(), ""
        with collector.gateway.recorder(endpoint, task, sampling) as recorder:
            try:
                answer = await agent(task.for_agent(plan.recipe.tasks.expose), recorder)
            except Exception as error:
                # one that makes nothing of this reply has asked by then
                if not recorder.turns:
                    raise AgentError(f"the agent failed on task {task.id}: {type(error).__name__}: {error}") from error
            if not recorder.turns:
                raise AgentError(f"the agent asked the model nothing for task {task.id}")
            if not by_agent and (more := _more(answer, endpoint.asked, sampling)):
                raise AgentError(
                    f"agent {plan.agent.component.name} has the trait single_turn, but for task {task.id} it {more}; "
                    "a trainer that generates in its place leaves that out. Set rollout: agent (grpo), or take the "
                    "trait away"
                )
            found[task.id] = list(recorder.turns[0].prompt)
    return found


def _more(answer: Any, asked: Sequence[Mapping[str, Any]], sampling: Mapping[str, Any]) -> str:
    """What an agent does beside asking once, in the recipe's way, and giving back the reply."""
    own = [name for name in SHAPING if asked[0].get(name) not in (None, [], sampling.get(name))]
    if len(asked) > 1:
        return "asks more than once"
    if own:
        return f"asks with {' and '.join(own)} of its own"
    return "" if answer == SAID else "gives back something else than the model's reply"


class _Same:
    """An endpoint that always says the same, and keeps what it was `asked`."""

    model = "none"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        self.asked.append(body)
        return {"choices": [{"message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}]}

    async def load_adapter(self, path: Path | None) -> None:
        """Nothing to load: there is no model."""
