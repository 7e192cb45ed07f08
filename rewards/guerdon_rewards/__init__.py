"""guerdon's own rewards; they reach guerdon as those of any other package do."""

import guerdon
from guerdon.hookspecs import Register


@guerdon.hookimpl
def register_rewards(register: Register) -> None:
    register("xml_format", "guerdon_rewards.xml_format:xml_format", inline=True)
    register("correctness", "guerdon_rewards.correctness:correctness", inline=True)
    register("integer", "guerdon_rewards.integer:integer", inline=True)
    register("numeric", "guerdon_rewards.numeric:numeric", inline=True)
    register("equivalence", "guerdon_rewards.equivalence:equivalence", extra="equivalence")
    register("length", "guerdon_rewards.length:length", inline=True)
