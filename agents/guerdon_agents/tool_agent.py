"""The tool agent: our own loop over MCP tools, without an agent SDK, for many rollouts on few cores."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from guerdon.errors import AgentError
from guerdon.policy import Policy
from guerdon.task import Message, Task
from guerdon_agents.math_agent import INSTRUCTIONS

if TYPE_CHECKING:
    from guerdon_agents.tool_server import Tool


@asynccontextmanager
async def tool_agent(
    *,
    instructions: str = INSTRUCTIONS,
    max_turns: PositiveInt = 8,
    mcp_servers: list[dict[str, Any]] = [],  # noqa: B006  shown as the default, never changed
    tool_timeout: PositiveFloat = 30.0,
) -> AsyncIterator[Callable[[Task, Policy], Awaitable[str]]]:
    """Solves a problem in turns with a calculator over MCP: as `math`, by a loop of our own.

    The calls of one turn run at once. What is wrong with a call (no such tool, arguments that are no JSON object) is
    told to the model.

    Args:
        instructions: system prompt; empty for none.
        max_turns: model calls after which a rollout fails.
        mcp_servers: further MCP servers, each {command, args, env} or {url, headers}, and a name if you like.
        tool_timeout: seconds that a tool may take; after that the rollout fails and the server is restarted.

    Raises:
        ComponentError: an MCP server is described wrongly, or two servers offer a tool of one name.
        AgentError: a rollout failed; kind is max_turns, model_behavior (an unusable reply) or tool_server.
    """
    from guerdon_agents.tool_server import tools_of

    async with tools_of(mcp_servers, timeout=tool_timeout) as tools:
        offered = [_offered(tool) for tool in tools.values()]

        async def rollout(task: Task, policy: Policy) -> str:
            messages = task.messages
            if instructions:
                messages.insert(0, {"role": "system", "content": instructions})
            for _ in range(max_turns):
                response = await policy.complete(messages, tools=offered)
                reply, calls = _reply(response["choices"][0])
                if not calls:
                    return str(reply["content"])
                if len(calls) == 1:  # mostly; and an asyncio task is not free
                    results = [await _result(tools, calls[0])]
                else:
                    results = await asyncio.gather(*(_result(tools, call) for call in calls))
                messages.append(reply)
                messages += [
                    {"role": "tool", "tool_call_id": call["id"], "content": result}
                    for call, result in zip(calls, results, strict=True)
                ]
            raise AgentError(f"no answer after {max_turns} turns", kind="max_turns")

        yield rollout


def _offered(tool: "Tool") -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


def _reply(choice: Mapping[str, Any]) -> tuple[Message, list[dict[str, Any]]]:
    """The reply as it is sent back, and its tool calls.

    Raises:
        AgentError: (kind model_behavior) there is nothing in it, or its tool calls cannot be answered.
    """
    message = choice["message"]
    reply = {name: value for name, value in message.items() if value not in (None, [])}
    reply |= {"role": "assistant", "content": message.get("content") or ""}
    calls: list[dict[str, Any]] = reply.get("tool_calls", [])
    try:
        for call in calls:
            _ = call["id"], call["function"]["name"], call["function"]["arguments"]
    except (KeyError, TypeError):
        raise AgentError(f"a tool call without id, name or arguments: {calls}", kind="model_behavior") from None
    if not (calls or reply["content"]) and choice.get("finish_reason") == "length":
        raise AgentError("the reply was cut off before it said anything", kind="model_behavior")
    return reply, calls


async def _result(tools: "Mapping[str, Tool]", call: Mapping[str, Any]) -> str:
    function = call["function"]
    tool = tools.get(function["name"])
    if tool is None:
        return f"Error: tool {function['name']!r} not found; there are: {', '.join(tools)}."
    return await tool(function["arguments"])
