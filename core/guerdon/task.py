"""A task: one problem, its reference answer and whatever other fields its row has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Message = dict[str, Any]
"""One chat message in OpenAI's shape: role, content, and tool_calls or tool_call_id where they apply."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem.

    `prompt` is the user's text, or a whole conversation as messages. `answer` is the reference answer, `fields` the
    other columns of the row. Agents get a copy without `answer` and `fields` (`for_agent`): scoring is not their
    business.
    """

    id: str
    prompt: str | Sequence[Message]
    answer: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The prompt as one text: the last user message of a conversation.

        >>> Task("1", [{"role": "user", "content": "2+2?"}]).text
        '2+2?'
        """
        if isinstance(self.prompt, str):
            return self.prompt
        users = [str(m.get("content", "")) for m in self.prompt if m.get("role") == "user"]
        return users[-1] if users else ""

    @property
    def messages(self) -> list[Message]:
        """The prompt as messages."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return [dict(m) for m in self.prompt]

    def for_agent(self, expose: Sequence[str] = ()) -> "Task":
        """What an agent may see: the prompt, and those fields that the recipe exposes by name."""
        seen = {name: self.fields[name] for name in expose if name in self.fields}
        return replace(self, answer=None, fields=seen)


def reference(answer: Any) -> Any:
    """The reference answer: GSM8K's solutions end in a line `#### 42`, of which the 42 is the answer.

    >>> reference("She has 40 + 2 = <<40+2=42>>42.\\n#### 42")
    '42'
    """
    if isinstance(answer, str) and "####" in answer:
        return answer.rpartition("####")[2].strip()
    return answer
