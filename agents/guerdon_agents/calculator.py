"""A calculator as an MCP server over stdio: `python -m guerdon_agents.calculator`.

One tool, `calculate(expression: str) -> str`; what it computes is written in `guerdon_agents.expression`. It ends
when its standard input does. Start it with -m: run as a file, its folder would be on the import path.

It speaks the protocol itself, in both of its eras (the initialize handshake, and 2026-07-28's envelope in every
request): importing the mcp package would take twenty times as long as all else here, in every worker process.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from guerdon_agents.expression import ExpressionError, evaluate

HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
ENVELOPE = "2026-07-28"
INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, PARSE_ERROR, UNSUPPORTED_VERSION = -32600, -32601, -32602, -32700, -32022

ABOUT = {"name": "calculator", "version": "1"}
CAN = {"tools": {"listChanged": False}}
TOOL = {
    "name": "calculate",
    "description": "Evaluates arithmetic, such as (3 + 4) * 2 or 15% of 80.",
    # no titles, no output schema: they would only lengthen a small model's prompt
    "inputSchema": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
    "annotations": {"readOnlyHint": True, "idempotentHint": True},
}

Object = dict[str, Any]


class Refusal(Exception):
    """A request that is answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


def main(lines: Iterable[str], write: Callable[[str], Any]) -> None:
    for line in lines:
        if line.strip() and (reply := answer(line)):
            write(json.dumps({"jsonrpc": "2.0", **reply}) + "\n")


def answer(line: str) -> Object | None:
    """What to answer to a message; nothing to a notification."""
    number = None
    try:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Refusal(PARSE_ERROR, "Parse error") from None
        if not isinstance(message, dict):
            raise Refusal(INVALID_REQUEST, "Invalid request")
        number, method = message.get("id"), message.get("method")
        if number is None or method is None:  # a notification, or an answer to what was never asked
            return None
        params = message.get("params") or {}
        if not isinstance(params, dict):
            raise Refusal(INVALID_PARAMS, "Invalid request parameters")
        return {"id": number, "result": result(method, params)}
    except Refusal as refusal:
        return {"id": number, "error": refusal.error}


def result(method: str, params: Object) -> Object:
    modern = enveloped(params)
    lasting = {"ttlMs": 0, "cacheScope": "private"} if modern else {}
    complete = {"resultType": "complete"} if modern else {}
    match method:
        case "tools/call":
            return called(params) | complete
        case "tools/list":
            return {"tools": [TOOL]} | lasting | complete
        case "server/discover" if modern:
            stamp = {"io.modelcontextprotocol/serverInfo": ABOUT}
            return {"supportedVersions": [ENVELOPE], "capabilities": CAN, "_meta": stamp} | lasting | complete
        case "initialize" if not modern:
            asked = params.get("protocolVersion")
            version = asked if asked in HANDSHAKE else HANDSHAKE[0]
            return {"protocolVersion": version, "capabilities": CAN, "serverInfo": ABOUT}
        case "ping" if not modern:
            return {}
    raise Refusal(NO_METHOD, "Method not found")


def enveloped(params: Object) -> bool:
    """Whether the request is of the era without a handshake."""
    meta = params.get("_meta")
    version = meta.get("io.modelcontextprotocol/protocolVersion") if isinstance(meta, dict) else None
    if version not in (None, ENVELOPE):
        raise Refusal(UNSUPPORTED_VERSION, "Unsupported protocol version", supported=[ENVELOPE], requested=version)
    return version is not None


def called(params: Object) -> Object:
    name, arguments = params.get("name"), params.get("arguments") or {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise Refusal(INVALID_PARAMS, "Invalid request parameters")
    if name != TOOL["name"]:
        raise Refusal(INVALID_PARAMS, f"Unknown tool: {name}")
    try:
        # taken loosely: small models send numbers and leave arguments out
        text, refused = evaluate(str(arguments.get("expression", ""))), False
    except ExpressionError as error:
        text, refused = f"Error: {error}", True
    return {"content": [{"type": "text", "text": text}], "isError": refused}


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    main(sys.stdin, write)
