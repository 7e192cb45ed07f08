"""Brief answers: a reward for them, and an agent that asks for them."""

import guerdon
from guerdon.hookspecs import Register


@guerdon.hookimpl
def register_rewards(register: Register) -> None:
    register("brevity", "guerdon_brevity.reward:brevity", inline=True)


@guerdon.hookimpl
def register_agents(register: Register) -> None:
    register("brief", "guerdon_brevity.agent:brief")
