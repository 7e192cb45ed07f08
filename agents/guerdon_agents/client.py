"""A policy in the shape of `openai.AsyncOpenAI`, as far as the OpenAI Agents SDK uses one.

Building a real client costs tens of milliseconds of CPU, and its request path as much as the rest of a rollout.
"""

from typing import Any

from openai import NotGiven, Omit
from openai.types.chat import ChatCompletion

from guerdon.policy import Policy

_TRANSPORT = {"extra_headers", "extra_query", "extra_body", "timeout", "model", "messages", "tools"}
_FINISH = {"stop", "length", "tool_calls", "content_filter"}


class PolicyClient:
    """`client.chat.completions.create(...)` is `policy.complete(...)`. Streaming is not supported."""

    base_url = "guerdon://policy"

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def chat(self) -> "PolicyClient":
        return self

    @property
    def completions(self) -> "PolicyClient":
        return self

    async def create(self, **request: Any) -> ChatCompletion:
        given = {k: v for k, v in request.items() if v is not None and not isinstance(v, (Omit, NotGiven))}
        params = {k: v for k, v in given.items() if k not in _TRANSPORT} | given.get("extra_body", {})
        tools = [_lean(tool) for tool in given.get("tools", ())]
        return _completion(await self._policy.complete(given["messages"], tools=tools, **params))


def _lean(tool: dict[str, Any]) -> dict[str, Any]:
    """The tool without `strict: false`, which is the default: it would only lengthen the prompt."""
    function = {k: v for k, v in tool["function"].items() if (k, v) != ("strict", False)}
    return {**tool, "function": function}


def _completion(response: dict[str, Any]) -> ChatCompletion:
    """The response as the SDK's type, without token ids and logprobs: the policy keeps those."""
    choice = response["choices"][0]
    finish = choice.get("finish_reason")
    return ChatCompletion.model_validate(
        {
            "id": response.get("id", ""),
            "object": "chat.completion",
            "created": response.get("created", 0),
            "model": response.get("model", ""),
            "usage": response.get("usage"),
            "choices": [
                {
                    "index": 0,
                    "message": choice["message"],
                    "finish_reason": finish if finish in _FINISH else "stop",
                    "logprobs": None,
                }
            ],
        }
    )
