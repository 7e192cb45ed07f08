"""The math agent: the OpenAI Agents SDK's loop with a calculator over MCP.

What all rollouts of a worker share is made once: the tool servers, their tools, the agent. A rollout adds its
policy.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from guerdon.errors import AgentError, ComponentError
from guerdon.policy import Policy
from guerdon.task import Task

if TYPE_CHECKING:
    from agents import FunctionTool
    from mcp_types import Tool

    from guerdon_agents.tool_server import ToolServer

# after the math agent of Agent Lightning's Unsloth example
INSTRUCTIONS = (
    "Solve the problem with the calculator tool. Then output only the numeric answer, as a valid float, "
    "wrapped in three hash marks, like this: ### <answer> ###"
)


@asynccontextmanager
async def math_agent(
    *,
    instructions: str = INSTRUCTIONS,
    max_turns: PositiveInt = 8,
    mcp_servers: list[dict[str, Any]] = [],  # noqa: B006  shown as the default, never changed
    tool_timeout: PositiveFloat = 30.0,
) -> AsyncIterator[Callable[[Task, Policy], Awaitable[str]]]:
    """Solves a problem in turns with a calculator, by the OpenAI Agents SDK and MCP.

    Args:
        instructions: system prompt; empty for none.
        max_turns: model calls after which a rollout fails.
        mcp_servers: further MCP servers, each {command, args, env} or {url, headers}, and a name if you like.
        tool_timeout: seconds that a tool may take; after that the rollout fails and the server is restarted.

    Raises:
        ComponentError: an MCP server is described wrongly, or two servers offer a tool of one name.
        AgentError: a rollout failed; kind is max_turns, model_behavior (an unusable reply) or tool_server.
    """
    from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner
    from agents.exceptions import MaxTurnsExceeded, ModelBehaviorError, UserError

    from guerdon_agents.client import PolicyClient
    from guerdon_agents.tool_server import ToolServer, calculator, from_settings

    offered = [calculator(), *(from_settings(spec) for spec in mcp_servers)]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(ToolServer(name, connect, timeout=tool_timeout))
            for name, connect in offered
        ]
        agent = Agent(name="math", instructions=instructions or None, tools=list(_tools(servers)))

        async def rollout(task: Task, policy: Policy) -> str:
            client: Any = PolicyClient(policy)
            config = RunConfig(
                model=OpenAIChatCompletionsModel(policy.model, client),
                tracing_disabled=True,
                tool_not_found_behavior="return_error_to_model",
            )
            messages: Any = task.messages
            try:
                result = await Runner.run(agent, messages, max_turns=max_turns, run_config=config)
            except MaxTurnsExceeded:
                raise AgentError(f"no answer after {max_turns} turns", kind="max_turns") from None
            except (ModelBehaviorError, UnicodeError, RecursionError) as error:
                # the last two: arguments of a tool call with half a surrogate pair, or nested too deeply
                raise AgentError(str(error), kind="model_behavior") from error
            except UserError as error:
                # the SDK wraps what a tool raises
                if isinstance(error.__cause__, AgentError):
                    raise error.__cause__ from None
                raise
            return str(result.final_output)

        yield rollout


def _tools(servers: "list[ToolServer]") -> "list[FunctionTool]":
    owners: dict[str, str] = {}
    for server in servers:
        for tool in server.tools:
            if tool.name in owners:
                both = f"{owners[tool.name]!r} and {server.name!r}"
                raise ComponentError(f"mcp_servers: {both} both offer a tool named {tool.name!r}")
            owners[tool.name] = server.name
    return [_function_tool(server, tool) for server in servers for tool in server.tools]


def _function_tool(server: "ToolServer", tool: "Tool") -> "FunctionTool":
    from agents import FunctionTool

    async def invoke(_: Any, arguments: str) -> str:
        try:
            parsed = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            return f"Error: the arguments of {tool.name} must be a JSON object."
        return await server.call(tool, parsed)

    return FunctionTool(
        name=tool.name,
        description=tool.description or "",
        params_json_schema=tool.input_schema,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )
