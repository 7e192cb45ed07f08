"""Run a recipe's rewards on what is known beforehand: the reference answers of a few tasks, nothing, and nonsense.

A reward that cannot tell these apart has nothing to teach; better to hear it before a training than after. How a right
completion has to look only the reward knows, so the reference is tried in the usual shapes, and the best one counts.
"""

from collections.abc import Iterator, Mapping, Sequence

from guerdon.recipe import Scoring
from guerdon.resolve import BoundReward, Plan
from guerdon.scoring import Scorer
from guerdon.task import Task
from guerdon.trajectory import Score, Trajectory, Turn

TASKS = 3
"""So many tasks are looked at."""

SHAPES = (
    "{}",
    "### {} ###",
    "<reasoning>\nThat is it.\n</reasoning>\n<answer>\n{}\n</answer>\n",
    "<reasoning>That is it.</reasoning><answer>{}</answer>",
    "<think>\nThat is it.\n</think>\n\\boxed{{{}}}",
    "The answer is {}.",
)
SHOWN = "bare, ### ... ###, <answer>, \\boxed{}"
EMPTY, CUT_OFF, RAMBLING = "an empty completion", "a cut-off one", "a rambling one"
WRONG = {EMPTY: "", CUT_OFF: "<reasoning>\n<answer>\n### \\boxed{", RAMBLING: "well then " * 1000}

Table = Mapping[str, Sequence[Trajectory]]
"""The trajectories of one task: "gold" in all shapes, and one of each kind of wrong."""


async def check_rewards(plan: Plan, tasks: Sequence[Task]) -> list[str]:
    """What is suspicious about the rewards, in words; nothing when all is well."""
    settings: Scoring = plan.recipe.scoring.model_copy(update={"on_error": "drop", "max_errors": 1.0})
    chosen = tasks[:TASKS]
    with Scorer(plan.rewards, settings) as scorer:
        tables = [_table(await scorer.score([(task, t) for t in _attempts(plan, task)])) for task in chosen]
    notes = [note for reward in plan.rewards for note in _notes(reward, tables)]
    if all(task.answer is None for task in chosen):
        return [*notes, "the tasks have no `answer`: the rewards were tried on wrong completions only"]
    if not notes and all(_best(t["gold"]) <= _best(t[EMPTY]) for t in tables if t["gold"]):
        notes.append(f"all rewards together give a right answer ({SHOWN}) no more than an empty completion")
    return notes


def _attempts(plan: Plan, task: Task) -> Iterator[Trajectory]:
    right = [] if task.answer is None else [shape.format(task.answer) for shape in SHAPES]
    for i, text in enumerate([*WRONG.values(), *right]):
        turn = Turn(0, tuple(task.messages), {"role": "assistant", "content": text}, "stop")
        agent = plan.agent.component.name
        yield Trajectory(f"check-{i}", task.id, "check", 0, i, agent, plan.model, (turn,), completion=text)


def _table(scored: Sequence[Trajectory]) -> Table:
    return {**{name: [t] for name, t in zip(WRONG, scored, strict=False)}, "gold": scored[len(WRONG) :]}


def _notes(reward: BoundReward, tables: Sequence[Table]) -> Iterator[str]:
    name = f"reward {reward.name!r}"
    scores = {kind: [t.scores[reward.name] for table in tables for t in table[kind]] for kind in (*WRONG, "gold")}
    for kind, given in scores.items():
        if failed := next((s.error for s in given if s.error), None):
            what = "a right answer" if kind == "gold" else kind
            yield f"{name} fails on {what}: {failed.kind}: {failed.message}"
            return
    if not reward.weight or not scores["gold"]:
        return
    values = {s.value for given in scores.values() for s in given}
    if len(values) == 1:
        (value,) = values
        gives = "does not apply to anything tried" if value is None else f"gives {value:g} to everything tried"
        yield f"{name} {gives}: right answers ({SHOWN}), an empty completion, nonsense. It has nothing to teach"
    elif reward.weight < 0:
        return  # a penalty
    elif lower := [pair for table in tables if (pair := _pair(reward, table)) and pair[0] < pair[1]]:
        gold, empty = lower[0]
        yield f"{name} gives a right answer less than an empty completion: at most {gold:g}, and {empty:g}"
    elif all((s.value or 0.0) * reward.weight <= 0 for s in scores["gold"]):
        yield f"{name} gives a right answer nothing, in none of the shapes tried ({SHOWN}). Does it want another one?"


def _pair(reward: BoundReward, table: Table) -> tuple[float, float] | None:
    """What the best right answer and the empty one weigh; `None` where it does not apply."""
    gold = [value for t in table["gold"] if (value := _weighed(t.scores[reward.name])) is not None]
    empty = _weighed(table[EMPTY][0].scores[reward.name])
    return (max(gold), empty) if gold and empty is not None else None


def _weighed(score: Score) -> float | None:
    return None if score.value is None else score.value * score.weight


def _best(trajectories: Sequence[Trajectory]) -> float:
    return max((t.reward or 0.0 for t in trajectories), default=0.0)
