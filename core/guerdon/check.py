"""What `guerdon check` says of a recipe: what will run, on what, and what to mind."""

import asyncio
from typing import Any

from guerdon.inputs import Inputs, read_inputs
from guerdon.loading import Loaded
from guerdon.preflight import preflight
from guerdon.registry import Registry
from guerdon.resolve import Plan, check_trainable, resolve
from guerdon.reward_check import check_rewards

ROWS = 200
"""Of each source of data; a set of a hub may be larger than a disk."""


def checked(loaded: Loaded, registry: Registry) -> dict[str, Any]:
    """By topic, what the recipe comes to.

    Raises:
        RecipeError: it is wrong; says where.
    """
    plan = resolve(loaded, registry)
    check_trainable(plan)
    inputs = read_inputs(plan, first=ROWS)
    notes = [*preflight(plan, inputs, checking=True), *_rewards(plan, inputs)]
    return {
        "model": plan.model,
        "adapter": str(plan.adapter) if plan.adapter else None,
        "backend": str(plan.backend),
        "agent": str(plan.agent) if plan.recipe.tasks or plan.recipe.eval else None,
        "rewards": [f"{r.name}: {r} x {r.weight:g}" for r in plan.rewards],
        "trainer": str(plan.trainer) if plan.trainer else None,
        "data": inputs.data.notes if inputs.data else None,
        "tasks": str(inputs.tasks) if inputs.tasks else None,
        "eval": str(inputs.held) if inputs.held else None,
        "notes": [*plan.notes, *notes],
    }


def _rewards(plan: Plan, inputs: Inputs) -> list[str]:
    """What the rewards make of the reference answers of a few tasks, of nothing and of nonsense."""
    tasks = inputs.tasks or inputs.held
    return asyncio.run(check_rewards(plan, tasks.tasks)) if tasks and plan.rewards else []
