"""A backend that knows the answers: it plays a task's worked steps as tool calls, for teaching."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from guerdon.errors import BackendError
from guerdon.policy import Endpoint
from guerdon.task import Task
from guerdon_backends.chat import flat

GSM8K_STEP = re.compile(r"<<([^<>=]+)=[^<>]*>>")
"""GSM8K's calculator annotations, as in "She sold 48/2 = <<48/2=24>>24 clips" (arXiv:2110.14168)."""


@asynccontextmanager
async def demonstrations(
    model: str, *, answer_format: str = "### {answer} ###", tool: str = "calculate", reasoning: bool = False
) -> AsyncIterator[Endpoint]:
    """Answers from the task's worked steps instead of a model: each step a tool call, then the last result.

    The steps are the task's field `steps` (a list of expressions), or GSM8K's `<<48/2=24>>` annotations in its answer
    or any of its text fields. The tools are really called, so a demonstration holds what they really said.

    Args:
        answer_format: The final reply; `{answer}` stands for the last tool result.
        tool: The tool that takes an `expression`.
        reasoning: Say the text around GSM8K's annotations too, each piece before its call.
    """
    if "{answer}" not in answer_format:
        raise BackendError(
            f"answer_format {answer_format!r} has no {{answer}} in it: the result would be lost.", kind="settings"
        )
    yield Demonstrator(model, answer_format, tool, reasoning)


class Demonstrator:
    """The endpoint: a pure function of the task and the conversation so far."""

    def __init__(self, model: str, answer_format: str, tool: str, reasoning: bool) -> None:
        self.model = model
        self.reasoning = reasoning
        self.answer_format = answer_format
        self.tool = tool

    async def complete(self, body: dict[str, Any], task: Task) -> dict[str, Any]:
        steps = worked_steps(task)
        if not steps:
            raise BackendError(
                f"task {task.id} has no worked steps to demonstrate: give it a field `steps`, a list of expressions, "
                "or GSM8K's <<48/2=24>> annotations.",
                kind="no_demonstration",
            )
        results = tool_results(body.get("messages", ()))
        said = worked_text(task) if self.reasoning else []
        text = said[len(results)] if len(results) < len(said) else ""
        if len(results) < len(steps):
            arguments = json.dumps({"expression": steps[len(results)]}, ensure_ascii=False)
            function = {"name": self.tool, "arguments": arguments}
            call = {"id": f"call_{len(results) + 1}", "type": "function", "function": function}
            message = {"role": "assistant", "content": text or None, "tool_calls": [call]}
            return self._completion(message, "tool_calls")
        reply = self.answer_format.replace("{answer}", results[-1].strip())
        return self._completion({"role": "assistant", "content": f"{text}\n{reply}" if text else reply}, "stop")

    async def load_adapter(self, path: Path | None) -> None:
        """Nothing to load: there is no model."""

    def _completion(self, message: dict[str, Any], finish: str) -> dict[str, Any]:
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return {
            "id": "demonstration", "object": "chat.completion", "created": 0, "model": self.model,
            "choices": [choice], "usage": usage,
        }  # fmt: skip


def worked_steps(task: Task) -> list[str]:
    """The expressions that solve the task, in order; empty when it shows none.

    >>> worked_steps(Task("1", "?", answer="48/2 = <<48/2=24>>24, then <<48+24=72>>72\\n#### 72"))
    ['48/2', '48+24']
    """
    steps = task.fields.get("steps")
    if isinstance(steps, Sequence) and not isinstance(steps, str):
        return [str(step) for step in steps]
    for text in (task.answer, *task.fields.values()):
        if isinstance(text, str) and (found := GSM8K_STEP.findall(text)):
            return [str(step).strip() for step in found]
    return []


def worked_text(task: Task) -> list[str]:
    """What stands before each of GSM8K's annotations, and after the last; empty when there are none.

    >>> worked_text(Task("1", "?", answer="Each gets 8/2 = <<8/2=4>>4 apples. #### 4"))
    ['Each gets 8/2 =', '4 apples.']
    """
    for text in (task.answer, *task.fields.values()):
        if isinstance(text, str) and GSM8K_STEP.search(text):
            pieces = GSM8K_STEP.sub("\0", text.partition("####")[0]).split("\0")
            return [piece.strip() for piece in pieces]
    return []


def tool_results(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the tools said since the last user message."""
    results: list[str] = []
    for message in messages:
        if message.get("role") == "user":
            results = []
        elif message.get("role") == "tool":
            results.append(flat(message.get("content"), "a tool's message"))
    return results
