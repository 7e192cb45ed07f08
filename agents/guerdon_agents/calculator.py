"""A calculator as an MCP server over stdio: `python -m guerdon_agents.calculator`.

One tool, `calculate(expression: str) -> str`; what it computes is written in `guerdon_agents.expression`. It ends
when its standard input does. Start it with -m: run as a file, its folder would be on the import path.
"""

from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations

from guerdon_agents.expression import ExpressionError, evaluate


async def calculate(expression: Any = "") -> str:
    """Evaluates arithmetic, such as (3 + 4) * 2 or 15% of 80."""
    # typed loosely, because small models send numbers and leave arguments out: pydantic's error would be long
    try:
        return evaluate(str(expression))
    except ExpressionError as error:
        raise ToolError(str(error)) from None


def server() -> MCPServer:
    tool = Tool.from_function(
        calculate,
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True),
        structured_output=False,
    )
    # the generated one has titles too, which only lengthen a small model's prompt
    tool.parameters = {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    }
    return MCPServer("calculator", tools=[tool], log_level="WARNING")


if __name__ == "__main__":
    server().run("stdio")
