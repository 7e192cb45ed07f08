"""The agent `brief`."""

from guerdon import Policy, Task


async def brief(task: Task, policy: Policy, *, words: int = 50) -> str:
    """Asks the model once, for a brief answer.

    Args:
        words: How many words the answer may have at most.
    """
    wish = {"role": "system", "content": f"Answer in at most {words} words."}
    response = await policy.complete([wish, *task.messages])
    return response["choices"][0]["message"].get("content") or ""
