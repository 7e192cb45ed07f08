"""JSON by pydantic's core, which is at hand: 2 to 4 times as fast as Python's own, with the same results.

Exact for infinities, NaN, numbers of any length and halves of surrogate pairs, which models do sample. orjson is faster
still, by a tenth of a millisecond on a reply with the token ids and logprobs of 400 tokens (0.2 and 0.3 ms to read it);
but it writes a logprob of -inf as null, and reads 2**64 as a float, without a word.
"""

import json
from typing import Any


def encoded(data: Any) -> bytes:
    """Compact JSON; infinities and NaN as Python's own writes them.

    Raises:
        TypeError: something in it is no JSON.
    """
    from pydantic_core import to_json

    try:
        return to_json(data, inf_nan_mode="constants")
    except ValueError:  # half of a surrogate pair is no UTF-8, and Python's own escapes it
        return json.dumps(data, separators=(",", ":")).encode()


def dumps(data: Any) -> str:
    """As text, see `encoded`."""
    return encoded(data).decode()


def loads(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is no JSON, or is nested without end.
    """
    from pydantic_core import from_json

    try:
        return from_json(text)
    except ValueError:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
