"""The plainest agent: one question, one answer."""

from guerdon.policy import Policy
from guerdon.task import Task
from guerdon.traits import traits


@traits(single_turn=True)
async def chat(task: Task, policy: Policy, *, system: str = "") -> str:
    """Asks the model once and returns its reply.

    Args:
        system: system prompt, put before the task's messages; empty for none.
    """
    messages = task.messages
    if system:
        messages.insert(0, {"role": "system", "content": system})
    response = await policy.complete(messages)
    return response["choices"][0]["message"].get("content") or ""
