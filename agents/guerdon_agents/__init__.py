"""guerdon's own agents, and tasks for them: `chat` (one turn), `math` (OpenAI Agents SDK, a calculator over MCP) and
`tool` (the same by a loop of our own).

An agent has one of two forms:

    async def agent(task, policy, *, setting=1) -> str

    @contextlib.asynccontextmanager
    async def agent(*, setting=1):             # for what all rollouts of a worker share: servers, pools
        async def rollout(task, policy) -> str: ...
        yield rollout

It returns the final answer. It records nothing, the policy does. What it raises fails that rollout only;
`AgentError` with a `kind` of max_turns, tool_server or model_behavior says more.
"""

from typing import Any

import guerdon


@guerdon.hookimpl
def register_agents(register: Any) -> None:
    register("chat", "guerdon_agents.chat:chat")
    register("math", "guerdon_agents.math_agent:math_agent", extra="agents")
    register("tool", "guerdon_agents.tool_agent:tool_agent")


@guerdon.hookimpl
def register_tasks(register: Any) -> None:
    register("arithmetic", "guerdon_agents.arithmetic:arithmetic")
