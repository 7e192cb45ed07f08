"""The math agent: the OpenAI Agents SDK's loop with a calculator over MCP.

What all rollouts of a worker share is made once: the tool servers, their tools, the agent. A rollout adds its
policy.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from guerdon.errors import AgentError
from guerdon.policy import Policy
from guerdon.task import Task

if TYPE_CHECKING:
    from agents import FunctionTool

    from guerdon_agents.tool_server import Tool

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
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, RunConfig, Runner
    from agents.exceptions import MaxTurnsExceeded, ModelBehaviorError, UserError

    from guerdon_agents.client import PolicyClient
    from guerdon_agents.tool_server import tools_of

    async with tools_of(mcp_servers, timeout=tool_timeout) as tools:
        offered: Any = [_function_tool(tool) for tool in tools.values()]
        template = Agent(
            name="math",
            instructions=instructions or None,
            tools=offered,
            # both given: the defaults are those of OpenAI's models, copied deeply in every turn
            model="policy",
            model_settings=ModelSettings(),
        )

        async def rollout(task: Task, policy: Policy) -> str:
            client: Any = PolicyClient(policy)
            config = RunConfig(
                model=OpenAIChatCompletionsModel(policy.model, client),
                tracing_disabled=True,
                tool_not_found_behavior="return_error_to_model",
            )
            messages: Any = task.messages
            # of its own: the SDK compares the tools of all runs that share an agent, with each other, in every turn
            agent = copy(template)
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


def _function_tool(tool: "Tool") -> "FunctionTool":
    from agents import FunctionTool

    async def invoke(_: Any, arguments: str) -> str:
        return await tool(arguments)

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=tool.schema,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )
