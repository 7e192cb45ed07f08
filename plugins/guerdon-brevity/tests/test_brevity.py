"""The plugin is found, both keep to guerdon's contract, the reward counts words, and the agent asks for few."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import guerdon
import pytest
from guerdon.pytest_plugin import Conforms

from guerdon_brevity.agent import brief
from guerdon_brevity.reward import brevity


def test_it_is_installed() -> None:
    found = [c for c in guerdon.Plugins().components if c.package == "guerdon-brevity"]
    assert [(c.kind, c.name) for c in found] == [("agents", "brief"), ("rewards", "brevity")]


@pytest.mark.parametrize("name", ["brevity", "brief"])
def test_it_keeps_to_the_contract(conformance: Conforms, name: str) -> None:
    conformance(name)


def test_it_keeps_to_the_contract_with_settings(conformance: Conforms) -> None:
    rows = [{"prompt": "Why?", "completion": "word " * words, "expected": 2 - words / 10} for words in (10, 15, 20)]
    conformance("brevity", tasks=rows, max_words=10)


@pytest.mark.parametrize(("words", "score"), [(0, 1.0), (4, 1.0), (5, 0.75), (6, 0.5), (8, 0.0), (50, 0.0)])
def test_words_beyond_the_limit_cost(words: int, score: float) -> None:
    assert brevity("word\n" * words, max_words=4) == score


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="max_words is 0"):
        brevity("word", max_words=0)


class Parrot:
    """A policy that answers with what it was asked."""

    base_url = "http://127.0.0.1:9/v1"
    api_key = "none"
    model = "parrot"
    sampling: Mapping[str, Any] = {}

    async def complete(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), **params: Any
    ) -> dict[str, Any]:
        text = " | ".join(m["content"] for m in messages)
        return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_the_agent_asks_for_a_brief_answer() -> None:
    answer = asyncio.run(brief(guerdon.Task("1", "2+2?"), Parrot(), words=7))
    assert answer == "Answer in at most 7 words. | 2+2?"
