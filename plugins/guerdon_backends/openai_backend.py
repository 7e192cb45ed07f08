"""Any OpenAI-compatible server that already runs somewhere."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import NonNegativeInt, PositiveFloat

from guerdon.errors import BackendError
from guerdon.policy import Endpoint

PUBLIC = "https://api.openai.com/v1"


@asynccontextmanager
async def openai(
    model: str,
    *,
    base_url: str = "",
    api_key_env: str = "OPENAI_API_KEY",
    timeout: PositiveFloat = 120,
    retries: NonNegativeInt = 4,
    token_ids: bool = False,
) -> AsyncIterator[Endpoint]:
    """A remote model behind an OpenAI-compatible URL: OpenAI, vLLM, llama.cpp, a gateway.

    Args:
        base_url: Where the server is, with its /v1; empty: the variable OPENAI_BASE_URL, else OpenAI's public API.
        api_key_env: The environment variable that holds the key; the key itself is never in a recipe.
        timeout: Seconds for one attempt of one call.
        retries: How often a call is tried again after 429, 5xx or a dropped connection.
        token_ids: Ask for token ids and logprobs; true only for servers that give them (vLLM, guerdon's own).

    Raises:
        BackendError: The key is missing or malformed, nobody listens at the URL, or the key is refused.
    """
    from guerdon_backends.endpoint import HttpEndpoint

    url = (base_url or os.environ.get("OPENAI_BASE_URL") or PUBLIC).strip()
    key = os.environ.get(api_key_env, "").strip()  # a file with Windows line ends leaves a \r
    if not (key.isascii() and key.isprintable()):  # the HTTP client's own error would show it
        raise BackendError(
            f"The key in the environment variable {api_key_env} has a line break or a character that is not ASCII "
            "in it: copy it again.",
            kind="http_401",
        )
    if not key:
        if url.rstrip("/") == PUBLIC:
            raise BackendError(
                f"OpenAI's API needs a key: set the environment variable {api_key_env}, or point `base_url` "
                "(or OPENAI_BASE_URL) at another server.",
                kind="http_401",
            )
        key = "dummy"  # clients and some servers insist on one
    endpoint = HttpEndpoint(url, model, key, timeout=timeout, retries=retries, token_ids=token_ids, key_env=api_key_env)
    try:
        await endpoint.check()
        yield endpoint
    finally:
        await endpoint.aclose()


openai.serves_adapters = False  # type: ignore[attr-defined]
