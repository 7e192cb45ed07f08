"""The loop: roll out, score, choose, train, evaluate, again; then the best checkpoint is kept.

One base and one adapter throughout: each training goes on from the checkpoint before it, not from the best, and nothing
is merged into the base. What was done is in the store, so that every decision here is made again in the same way when a
run goes on.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from guerdon.checkpoints import kept, trained
from guerdon.choice import Choice, choose, threshold
from guerdon.errors import counted
from guerdon.report import number
from guerdon.resolve import Bound
from guerdon.rows import write_rows
from guerdon.stopwatch import in_words
from guerdon.store import Run
from guerdon.summary import unscored
from guerdon.trajectory import Trajectory

if TYPE_CHECKING:
    from guerdon.engine import Engine


async def improve(engine: "Engine") -> None:
    """The iterations; fewer where there is nothing left to learn from, or no evaluation is better any more."""
    loop, trainer, every = engine.recipe.loop, engine.plan.trainer, evaluates(engine)
    if every and (start := [n for n in trained(engine.run) if not n.startswith("iteration-")]):
        await engine.evaluate(start[-1], engine.number(start[-1]))
    for iteration in range(1, loop.iterations + 1):
        name = f"iteration-{iteration}"
        trajectories = await engine.iteration(iteration, trainer)
        learnt = not trainer or await learn(engine, name, trainer, trajectories)
        due = every and (iteration % every == 0 or iteration == loop.iterations)
        if learnt and due:
            await engine.evaluate(name, engine.number(name))
        if seconds := spent(engine.run, iteration):
            engine.report.say(f"{'' if every else chr(10)}iteration {iteration}: {in_words(seconds)}")
        if not learnt:
            return
        since = iteration - _best_iteration(engine.run)
        if due and loop.patience and since >= loop.patience and iteration < loop.iterations:
            engine.report.say(f"the loop ends: no better evaluation for {counted(since, 'iteration')} (loop.patience)")
            return


def evaluates(engine: "Engine") -> int:
    """Iterations between two evaluations; 0 where they are not compared: a single one has its `after`."""
    several = engine.plan.trainer and engine.recipe.loop.iterations > 1
    return engine.recipe.eval.every if several and engine.recipe.eval else 0


async def learn(engine: "Engine", name: str, trainer: Bound, trajectories: Sequence[Trajectory]) -> bool:
    """Train on the best of these, from the checkpoint so far; the new one becomes the policy.

    `False` where none of them is worth training on: the policy stays as it is.
    """
    stage, run, report, loop = f"train-{name}", engine.run, engine.report, engine.recipe.loop
    if (done := run.stage(stage)) is not None:
        engine.take(name)
        return bool(done["rows"])
    demonstrated = name == "warmup"  # demonstrations are all as good as they get
    choice = choose(
        trajectories,
        min_reward=loop.min_reward,
        keep_top=1.0 if demonstrated else loop.keep_top,
        per_task=None if demonstrated else loop.per_task,
        seed=engine.recipe.seed,
    )
    rows = run.folder / "checkpoints" / f"{name}.jsonl"
    count = write_rows(rows, choice.kept)
    report.head(f"Train on {counted(count, 'row')} from {len(choice.kept)} of {choice.rollouts} trajectories")
    report.say(f"  {choice}, {counted(count, 'row')}")
    facts = {"rows": count, "trajectories": len(choice.kept), "choice": choice.to_json()}
    if count:
        await engine.trainings.train(name, trainer)
    else:
        await engine.trainings.forget()
        report.warn(_nothing(choice, engine, ends=not demonstrated))
    run.finish_stage(stage, {**facts, "seconds": engine.served.clock.take()})
    return bool(count)


def _nothing(choice: Choice, engine: "Engine", *, ends: bool) -> str:
    """What to say, and to change, when nothing can be learnt from."""
    least = choice.min_reward
    asked = f"a reward {threshold(least)}" if least and least > 0 else "a positive reward"
    text = f"no trajectory earned {asked}: nothing to train on, the policy stays as it is"
    text += "; the loop ends here." if ends else "."
    best = choice.best_reward
    if choice.earning:
        return f"{text} Those that did hold no reply of the model: does the agent ask the policy?"
    if best is not None and best > 0:
        return f"{text} The best earned {best:.3g}: lower loop.min_reward"
    hot = engine.recipe.sampling.temperature != 0
    ways = ["more attempts (loop.group_size)" if hot else "a sampling.temperature above 0", "easier tasks"]
    ways += [] if engine.recipe.loop.warmup else ["demonstrations first (loop.warmup)"]
    return f"{text} Look at some (guerdon show {engine.run.id} --best); what helps: {', '.join(ways)}"


async def conclude(engine: "Engine") -> None:
    """Keep the best checkpoint, and evaluate what the run leaves behind; a run that trained nothing leaves it so."""
    run, names = engine.run, trained(engine.run)
    if not names:
        return
    if evaluates(engine):
        await engine.evaluate(names[-1], engine.number(names[-1]))
        keep_best(engine)
    if best := kept(run):
        engine.take(best)
        await engine.evaluate("after", engine.number(best))


def keep_best(engine: "Engine") -> None:
    """Note which of the evaluated checkpoints has the best mean reward, the earlier of two that are the same.

    What failed counts, as nothing earned: else a checkpoint would win by failing where it is weak.
    """
    run, rewards = engine.run, evaluated(engine.run)
    checkpoints = {name: reward for name, reward in rewards.items() if name in trained(run)}
    if not checkpoints:
        return
    best = max(checkpoints, key=lambda name: checkpoints[name])
    reward = checkpoints[best]
    run.finish_stage("best", {"checkpoint": best, "reward": reward, "rewards": checkpoints})
    if len(checkpoints) > 1:
        others = ", ".join(f"{name} {number(value)}" for name, value in checkpoints.items() if name != best)
        engine.report.say(f"\nbest: {best}, reward {number(reward)} ({others}); chat, export and `adapter` take it")
    stages = run.stages()
    if lost := [f"{count} of {name}" for name in rewards if (count := unscored(stages[f"eval-{name}"]))]:
        engine.report.warn(f"rollouts that failed or have no reward count here as nothing earned: {', '.join(lost)}")
    if (before := rewards.get("before", reward - 1)) >= reward:
        engine.report.warn(f"no checkpoint is better than the model before training was (reward {number(before)})")


def evaluated(run: Run) -> dict[str, float]:
    """The mean reward of each evaluation, in order, that was not taken over from another.

    A rollout that failed or has no reward earns 0 in it, or the lowest reward of all where that is below.
    """
    stages = {name.removeprefix("eval-"): data for name, data in run.stages().items() if name.startswith("eval-")}
    stages = {name: data for name, data in stages.items() if data["reward"] is not None and not data.get("same_as")}
    given = {name: [r for group in data["by_task"]["reward"].values() for r in group] for name, data in stages.items()}
    least = min(0.0, *(r for rewards in given.values() for r in rewards)) if given else 0.0
    return {n: (math.fsum(given[n]) + least * unscored(data)) / data["rollouts"] for n, data in stages.items()}


def _best_iteration(run: Run) -> int:
    """Of the best evaluation so far; 0 for one before the first iteration."""
    rewards = evaluated(run)
    best = max(rewards, key=lambda name: rewards[name], default="")
    return int(best.removeprefix("iteration-")) if best.startswith("iteration-") else 0


def spent(run: Run, iteration: int) -> Mapping[str, float]:
    """Seconds of an iteration, by what was done; of the stages that this run has timed."""
    total: Counter[str] = Counter()
    for stage in (f"rollout-{iteration}", f"train-iteration-{iteration}", f"eval-iteration-{iteration}"):
        seconds = (run.stage(stage) or {}).get("seconds")
        total.update(seconds if isinstance(seconds, dict) else {})
    return total
