"""The calculator: right values, exactness, hostile input in bounded time, and the real MCP server."""

import asyncio
import os
import sys
import time
from fractions import Fraction

import pytest
from mcp import Client, StdioServerParameters

from guerdon_agents.expression import MAX_LENGTH, ExpressionError, compute, evaluate

VALUES = {
    # exactness
    "2 + 2": "4",
    "0.1 + 0.2": "0.3",
    "7 / 2": "3.5",
    "6 / 2": "3",
    "1/3": "0.333333333333",
    "1/3*3": "1",
    "-1/8": "-0.125",
    "1.10 * 3": "3.3",
    "2.675*100": "267.5",
    "10**20 / 3": "3.33333333333e+19",
    "123456789 * 987654321": "121932631112635269",
    "1e3": "1000",
    "1.5e-3": "0.0015",
    "3. + .5": "3.5",
    # precedence and signs
    "2 + 3 * 4": "14",
    "-2**2": "-4",
    "2^3^2": "512",
    "2**-2": "0.25",
    "- -3": "3",
    "+5": "5",
    "3*-2": "-6",
    "7 // 2": "3",
    "-7 // 2": "-4",
    "-7 % 3": "2",
    "5.5 % 2": "1.5",
    "3 × 4 ÷ 2 − 1": "5",
    "3²": "9",
    # percent
    "20%": "0.2",
    "15% of 80": "12",
    "100 + 10%": "100.1",
    "50% - 10%": "0.4",
    "80 / 20%": "400",
    "7 % 3": "1",
    "7%(3)": "1",
    "10%%": "0.001",
    "percent(15)": "0.15",
    "percent(15, 80)": "12",
    # commas and currency
    "1,234.5 * 2": "2469",
    "1,234,567 + 1": "1234568",
    "$1,200 + $300": "1500",
    "sqrt(1,024)": "32",
    "max((1,234), 5)": "1234",
    "max(1, 234)": "234",
    "max(1,234)": "234",
    "gcd(12,100,8)": "4",
    # functions and constants
    "sqrt(16)": "4",
    "sqrt(1/4)": "0.5",
    "sqrt(2)": "1.41421356237",
    "sqrt(2)**2": "2",
    "root(27, 3)": "3",
    "root(-8, 3)": "-2",
    "root(10**300, 100)": "1000",
    "8 ** (2/3)": "4",
    "(-8) ** (1/3)": "-2",
    "2 ** 0.5": "1.41421356237",
    "abs(-3.5)": "3.5",
    "round(2.5)": "3",
    "round(-2.675, 2)": "-2.68",
    "round(1234, -2)": "1200",
    "floor(-2.5)": "-3",
    "ceil(2.1)": "3",
    "min(3, 1/2, sqrt(2))": "0.5",
    "factorial(20)": "2432902008176640000",
    "lcm(4, 6)": "12",
    "PI * 2": "6.28318530718",
    "e": "2.71828182846",
    "2**1000 % 1000": "376",
    "(-1) ** (10**9)": "1",
}

REFUSED = {
    "": "empty",
    "1/0": "division by zero",
    "5 % (1-1)": "division by zero",
    "0 ** -1": "division by zero",
    "0 ** -0.5": "division by zero",
    "sqrt(-1)": "not real",
    "(-8) ** 0.5": "not real",
    "(-2) ** pi": "not real",
    "(1 + 2": "closing parenthesis",
    "1 + 2)": "unexpected '\\)'",
    "1 +": "ends too early",
    "1 2": "unexpected '2' after '1'",
    "2(3)": "unexpected '\\('",
    "1,23": "groups thousands",
    "0,500": "groups thousands",
    "max(1,000)": "ambiguous commas",
    "max(1,200, 1,500)": "ambiguous commas",
    "sqrt 4": "parentheses",
    "root(4)": "takes 2 arguments, got 1",
    "round(1, 2, 3)": "takes 1 or 2 arguments, got 3",
    "factorial(2.5)": "whole number",
    "gcd(1.5, 2)": "gcd needs whole numbers",
    "round(1, 0.5)": "whole number of places",
    "root(2, 0)": "at least 1",
    "(1/3) ** 1000": "too small",
    "10 ** 308": "too large",
    "1e999": "out of range",
}

HOSTILE = {
    "power tower": "9**9**9**9",
    "power of a power": "(9**300)**9**300",
    "fraction power": "(1/3)**(10**300)",
    "root of a tower": "2**(1/10**300)",
    "factorial": "factorial(10**9)",
    "nested factorials": "factorial(factorial(factorial(9)))",
    "a megabyte": "1+" * 500_000 + "1",
    "a megabyte of digits": "9" * 1_000_000,
    "many digits": "9" * MAX_LENGTH,
    "exponent": "1e" + "9" * (MAX_LENGTH - 2),
    "parentheses": "(" * 5000 + "1" + ")" * 5000,
    "some parentheses": "(" * 400 + "1" + ")" * 400,
    "calls": "abs(" * 200 + "1" + ")" * 200,
    "signs": "-" * (MAX_LENGTH - 1) + "1",
    "powers": "1**" * 300 + "1",
    "percents that grow": "2" + "%" * (MAX_LENGTH - 1),
    "harmonic sum": "+".join(f"1/{n}" for n in range(2, 160)),
    "huge fractions": "+".join(f"1/7**{n}" for n in range(100, 200)),
    "products": "*".join(["9**300"] * 140),
    "lcm": "lcm(" + ", ".join(f"{n}**80+1" for n in range(10, 90)) + ")",
    "shift": "1 << 10**9",
    "import": "__import__('os').system('true')",
    "attribute": "(1).__class__",
    "comprehension": "[x for x in range(10**9)]",
    "lambda": "(lambda: 1)()",
    "walrus": "(x := 1)",
    "string": "'a' * 10**9",
    "bytes": "b'a'",
    "complex": "3j ** 2",
    "names": "nan + inf",
    "underscores": "1_000",
    "hexadecimal": "0xff",
    "other digits": "１ + ٣",
    "null": "1\0+1",
    "surrogate": "\ud800",
    "format": "{1}",
    "starred": "max(*1)",
    "keyword": "round(1, ndigits=2)",
    "comparison": "1 < 2",
}

HAVE_A_VALUE = {"root of a tower", "harmonic sum", "huge fractions"}


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_value(text: str, value: str) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(("text", "message"), REFUSED.items())
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        evaluate(text)


def test_exact_types() -> None:
    assert compute("0.1 + 0.2") == Fraction(3, 10)
    assert compute("sqrt(9/4)") == Fraction(3, 2)
    assert compute("2**100") == 2**100
    assert isinstance(compute("sqrt(2)"), float)
    assert isinstance(compute("1/2 + 1/2"), int)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_cheap(name: str) -> None:
    start = time.process_time()
    try:
        said = evaluate(HOSTILE[name])
    except ExpressionError as error:
        said = str(error)
    assert time.process_time() - start < 1
    assert 0 < len(said) < 310


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in HAVE_A_VALUE])
def test_hostile_input_is_refused(name: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(HOSTILE[name])


def test_server() -> None:
    async def session() -> None:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "guerdon_agents.calculator"],
            env={k: v for k, v in os.environ.items() if k.startswith("PYTHON")},
        )
        async with Client(server) as client:
            (tool,) = (await client.list_tools()).tools
            assert tool.name == "calculate"
            assert tool.input_schema == {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            }

            async def call(**arguments: object) -> tuple[str, bool]:
                result = await client.call_tool("calculate", arguments)
                return result.content[0].text, result.is_error

            assert await call(expression="12 * 7") == ("84", False)
            assert await call(expression=12) == ("12", False)
            for arguments, message in (
                ({"expression": "1/0"}, "division by zero"),
                ({"expression": "9**9**9**9"}, "too large"),
                ({"expression": HOSTILE["a megabyte"]}, "too long"),
                ({"expression": ["x"]}, "unexpected '['"),
                ({}, "the expression is empty"),
            ):
                text, is_error = await call(**arguments)
                assert is_error and message in text and len(text) < 200
            assert await call(expression="1 + 1") == ("2", False)

    asyncio.run(session())
