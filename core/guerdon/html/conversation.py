"""A trajectory as HTML: the conversation with tool calls and results, tokens, the scores with their reasons."""

import json
from collections.abc import Mapping
from typing import Any

from guerdon.errors import counted
from guerdon.html.facts import outcome
from guerdon.html.markup import Markup, h
from guerdon.report import number
from guerdon.task import Message, Task
from guerdon.trajectory import Trajectory, Turn

LONGEST, WHOLE, LEAST = 4000, 32_000, 400
"""Characters of one message, what is longer is cut in the middle; of a whole conversation, whose messages are cut
shorter where they are many; but not to less than `LEAST`."""


def trajectory(t: Trajectory, task: Task) -> Markup:
    """All of one trajectory, and the task's reference answer."""
    count = sum(len(turn.prompt) + 1 for turn in t.turns)
    longest = max(LEAST, min(LONGEST, WHOLE // max(1, count)))
    parts, length = [] if t.turns else [message(m) for m in task.messages], 0
    for turn in t.turns:
        if turn.keep < length:
            parts.append(h("p", f"from here on the agent went on from message {turn.keep}", class_="went-back"))
        length = turn.keep + len(turn.prompt) + 1
        parts += [message(m, longest) for m in turn.prompt]
        parts.append(message(turn.reply, longest, _meta(turn)))
    if t.failure:
        parts.append(h("p", h("b", f"failed ({t.failure.kind}) "), cut(t.failure.message), class_="failed"))
    if task.answer not in (None, ""):
        parts.append(h("p", h("b", "reference answer "), h("span", cut(task.answer), dir="auto"), class_="reference"))
    tokens = ", ".join(filter(None, (counted(t.turns, "turn"), size(t), f"{t.seconds:.1f} s")))
    tried = f", {t.tries} tries" if t.tries > 1 else ""
    head = h("p", h("code", t.id), f" {tokens}{tried}", class_="meta")
    return h("div", head, parts, scores(t), class_="trajectory")


def message(m: Message, longest: int = LONGEST, meta: str = "") -> Markup:
    role = str(m.get("role") or "")
    said = [h("div", cut(_content(m["content"]), longest), class_="text", dir="auto")] if m.get("content") else []
    thought = m.get("reasoning_content") or m.get("reasoning")
    if isinstance(thought, str) and thought:
        said.insert(0, h("div", cut(thought, longest), class_="text thought", dir="auto"))
    calls = [
        h("div", h("b", name), " ", h("code", cut(arguments, longest)), class_="call") for name, arguments in _calls(m)
    ]
    known = role if role in ("system", "user", "assistant", "tool") else "other"
    head = h("div", h("span", role), h("span", meta) if meta else None, class_="who")
    return h("div", head, said, calls, class_=f"message {known}")


def scores(t: Trajectory) -> Markup | None:
    """What each reward gave, with its reason or error."""
    if not t.scores:
        return None
    rows = []
    for name, s in t.scores.items():
        value = "error" if s.error else "n/a" if s.value is None else number(s.value)
        said = f"{s.error.kind}: {s.error.message}" if s.error else s.reason
        rows.append(
            h(
                "tr",
                h("th", name),
                h("td", value, class_="n"),
                h("td", f"\u00d7 {s.weight:g}", class_="n"),
                h("td", cut(said, 600), class_="reason"),
            )
        )
    rows.append(h("tr", h("th", "reward"), h("td", number(t.reward), class_="n"), h("td"), h("td"), class_="sum"))
    return h("table", rows, class_="scores")


def summary(t: Trajectory, task: Task, where: str) -> Markup:
    """One line for a list: the reward, where it is from, what was asked."""
    state = "failed" if t.failure else "good" if (t.reward or 0) > 0 else "bad"
    return h(
        "summary",
        h("span", outcome(t), class_=f"pill {state}"),
        h("span", where, class_="stage"),
        h("span", asked(t, task), class_="asked", dir="auto"),
        h("span", size(t), class_="size"),
    )


def size(t: Trajectory) -> str:
    """How much the model said, where its server counted."""
    return counted(t.reply_tokens, "token") if t.reply_tokens else ""


def asked(t: Trajectory, task: Task, length: int = 160) -> str:
    """The question, on one line."""
    prompt = t.turns[0].prompt if t.turns else task.messages
    said = [m["content"] for m in reversed(prompt) if m.get("role") == "user" and m.get("content")]
    line = " ".join(_content(said[0] if said else task.id).split())
    return line if len(line) <= length else line[:length] + "\u2026"


def cut(value: Any, longest: int = LONGEST) -> str:
    """A text that is not too long for a page; its middle is left out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n\u2026 {len(text) - 2 * half:,} characters left out \u2026\n{text[-half:]}"


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(
        str(p.get("text")) if isinstance(p, Mapping) and p.get("type") == "text" else cut(p, 400) for p in parts
    )


def _calls(m: Message) -> list[tuple[str, str]]:
    found = []
    for call in m.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        function = function if isinstance(function, Mapping) else {"name": "", "arguments": call}
        arguments = function.get("arguments")
        found.append((str(function.get("name")), arguments if isinstance(arguments, str) else json.dumps(arguments)))
    return found


def _meta(turn: Turn) -> str:
    parts = [f"{turn.prompt_tokens} + {turn.reply_tokens} tokens"] if turn.reply_tokens else []
    parts += [f"{turn.seconds:.1f} s"] if turn.seconds >= 0.05 else []
    parts += ["cut off at max_tokens"] if turn.finish_reason == "length" else []
    return ", ".join(parts)
