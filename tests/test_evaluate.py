"""Values of syntax trees: exact where rational, proven differences, and bounds that no tree gets past."""

import tempfile
import time
from fractions import Fraction
from threading import Thread

import flint
import pytest
from flint import acb, fmpq
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from guerdon_rewards.mathematics.evaluate import (
    Expression,
    NoValue,
    TooBig,
    Undefined,
    Unsupported,
    constant_equal,
    evaluate,
    free_symbols,
    identical,
    less,
    proportional,
    sign,
)
from guerdon_rewards.mathematics.syntax import parse

set_hypothesis_home_dir(tempfile.gettempdir())  # a folder of it here would be in pytest's way


def number(value):
    return "num", Fraction(value), Fraction(0)


def call(name, *arguments):
    return "call", name, *arguments


X, N, ONE, OO = ("sym", "x"), ("sym", "n"), number(1), ("const", "oo")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\frac13 + \frac16", Fraction(1, 2)),
        ("2^{-3}", Fraction(1, 8)),
        ("4^{3/2}", 8),
        (r"\sqrt{\frac{4}{9}}", Fraction(2, 3)),
        ("(-8)^{1/3}", -2),
        ("(-8)^{2/3}", 4),
        (r"\sqrt[3]{-27}", -3),
        (r"\log_4 8", Fraction(3, 2)),
        (r"\log_2 \frac18", -3),
        ("10!", 3628800),
        (r"\binom{10}{3}", 120),
        (r"\binom{3}{10}", 0),
        ("50\\%", Fraction(1, 2)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        (r"\lfloor \pi \rfloor", 3),
        (r"\lceil -\sqrt{2} \rceil", -1),
        (r"|{-3}|", 3),
        (r"\gcd(12, 18)", 6),
        (r"\sum_{k=1}^{10} k^2", 385),
        (r"\sum_{i=1}^{4} i", 10),
        (r"\prod_{k=1}^{5} k", 120),
        (r"\sum_{k=1}^{0} k", 0),
        ("90°", 90),
        (r"e^0 + \ln 1 + \cos 0", 2),
    ],
)
def test_rational_values_are_exact(text, value):
    found = evaluate(parse(text))
    assert isinstance(found, fmpq)
    assert Fraction(int(found.p), int(found.q)) == value


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (call("mod", number(-7), number(3)), 2),
        (call("lcm", number(4), number(6)), 12),
        (call("max", number(1), number(Fraction(3, 2))), Fraction(3, 2)),
        (call("min", number(1), ("const", "pi")), 1),
        (call("perm", number(7), number(3)), 210),
        (call("sign", ("neg", ("const", "pi"))), -1),
        (call("det", ("matrix", ((number(1), number(2)), (number(3), number(4))))), -2),
        (call("tr", ("matrix", ((number(1), number(2)), (number(3), number(4))))), 5),
        (("base", "1011", 2), 11),
        (("repeat", "-1.2", "34"), Fraction(-1222, 990)),
        (call("binom", number(Fraction(1, 2)), number(2)), Fraction(-1, 8)),
        (call("gamma", number(Fraction(1, 2))), None),
    ],
)
def test_functions(node, value):
    if value is None:
        assert constant_equal(node, parse(r"\sqrt{\pi}"))
    else:
        assert constant_equal(node, number(value))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\sqrt{5+2\sqrt6}", r"\sqrt2+\sqrt3"),
        (r"\sqrt[3]{2+\sqrt5} + \sqrt[3]{2-\sqrt5}", "1"),
        (r"\sin 30°", r"\frac12"),
        (r"\sin\frac{\pi}{5}", r"\sqrt{\frac{5-\sqrt5}{8}}"),
        (r"\sin \pi", "0"),
        (r"\sin \pi + \sqrt2 + e^{-100}", r"\sqrt2 + e^{-100}"),
        (r"e^{i\pi}", "-1"),
        (r"\sqrt{-4}", "2i"),
        (r"(1+i)^8", "16"),
        (r"\ln 8", r"3\ln 2"),
        (r"\log_{9} 5", r"\frac{\log 5}{2 \log 3}"),
        (r"\arctan\frac12 + \arctan\frac13", r"\frac{\pi}{4}"),
        (r"4\arctan\frac15 - \arctan\frac1{239}", r"\frac{\pi}{4}"),
        (r"2^{10000}", "4^{5000}"),
        (r"\frac{2004!}{2003!}", "2004"),
        (r"\int_0^1 x^2 dx", r"\frac13"),
        (r"\int_0^{\pi} \sin x dx", "2"),
        (r"\infty", r"\infty"),
    ],
)
def test_constants_that_are_equal(a, b):
    assert constant_equal(parse(a), parse(b)) is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("2^{100}", "2^{100}+1"),
        ("2^{10000}", "2^{10000}+1"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        (r"e^{\pi\sqrt{163}}", "262537412640768744"),
        (r"\sqrt{1+10^{-400}}", "1"),
        (r"\tanh 1000", "1"),
        (r"e^{-1000} + 1", "1"),
        (r"\cosh 1000", r"\sinh 1000"),
        ("e^{-1000}", "0"),
        (r"\sqrt2", "1.414213562373095048801688724209698078570"),
        ("\\int_0^1 x^2 dx", "0.3333"),
        (r"\infty", r"-\infty"),
        (r"\infty", "10^{100}"),
    ],
)
def test_constants_that_differ_however_little(a, b):
    assert constant_equal(parse(a), parse(b)) is False


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac10", r"\frac10 + 1"),
        (r"\tan 90°", "5"),
        (r"\ln 0", "0"),
        (r"2^{10^9}", "2^{10^9}+1"),
        (r"\lim_{x\to 0} \frac{\sin x}{x}", "1"),
        (r"\int_0^{10^{60}} \pi dx", r"\pi 10^{60} + 1"),
        (r"\infty", r"\infty \cdot 1"),
        (r"\int_0^1 \frac1x dx", "7"),
    ],
)
def test_what_cannot_be_told_is_not_claimed(a, b):
    assert constant_equal(parse(a), parse(b)) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x^2-1", "(x-1)(x+1)"),
        (r"\frac{x^2-y^2}{x-y}", "x+y"),
        (r"(a^2-b^2)^2 + (2ab)^2", "(a^2+b^2)^2"),
        (r"\sin^2 x + \cos^2 x", "1"),
        (r"\sin 2x", r"2\sin x\cos x"),
        (r"\tan x", r"\frac{\sin x}{\cos x}"),
        (r"\cosh^2 x - \sinh^2 x", "1"),
        (r"\ln(x^2)", r"2\ln x"),
        (r"(\sqrt x)^2", "x"),
        (r"\sqrt{x^2}", "|x|"),
        (r"x^{1/3}", r"\sqrt[3]{x}"),
        (r"x^a x^b", "x^{a+b}"),
        (r"e^{ix}", r"\cos x + i\sin x"),
        (r"\sqrt{-x^2-1}", r"i\sqrt{x^2+1}"),
        (r"\binom{n}{k}", r"\frac{n!}{k!(n-k)!}"),
        (r"\binom{n+1}{k}", r"\binom{n}{k} + \binom{n}{k-1}"),
        ("n!", "n (n-1)!"),
        (r"(-1)^n", r"\cos(n\pi)"),
        (r"\sum_{k=1}^n k^3", r"\frac{n^2(n+1)^2}{4}"),
        (r"\sum_{k=0}^n \binom{n}{k}", "2^n"),
        (r"\prod_{j=1}^n j", "n!"),
        (r"\sum_{k=1}^{5} k x", r"\sum_{m=1}^{5} m x"),
        (r"\frac{d}{dx} x^3", "3x^2"),
        (r"\frac{d}{dx} \frac{\sin x}{x}", r"\frac{x\cos x - \sin x}{x^2}"),
        ("f(x)+f(x)", "2f(x)"),
        (r"\int 2x dx", r"2\int t dt"),
        (r"\int_0^a x dx", r"\frac{a^2}{2}"),
        (r"x + \lim_{h\to0} \frac{h}{x}", r"\lim_{k\to0} \frac{k}{x} + x"),
    ],
)
def test_expressions_that_are_identical(a, b):
    assert identical(parse(a), parse(b)) is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x^2-1", "x^2+1"),
        ("x", "y"),
        ("x", "5"),
        (r"\sqrt{x^2}", "x"),
        ("|x-10|+x", "10"),
        (r"\sqrt{(x-10)^2}", "10-x"),
        ("x", "ix"),
        (r"\sin 2x", r"2\sin x"),
        (r"\binom{n}{k}", r"\binom{n}{k+1}"),
        ("2^n", "n^2"),
        ("(-1)^n", "(-1)^{n+1}"),
        ("f(x)", "g(x)"),
        ("f(x)", "f(x+1)"),
        (r"x^{20}", r"x^{20}+10^{-30}"),
        (r"e^{100} \sin x", r"e^{100} \sin x + 10^{-9}"),
        (r"\cosh(x+300)", r"\sinh(x+300)"),
        (r"\frac{d}{dx} x^3", "3x"),
    ],
)
def test_expressions_that_differ(a, b):
    assert identical(parse(a), parse(b)) is False


def test_an_unknown_proves_no_difference():
    assert identical(parse(r"\int x dx"), parse(r"\frac{x^2}{2}")) is None
    assert constant_equal(parse(r"\lim_{x\to0} x"), number(0)) is True  # continuous: its value there
    assert constant_equal(parse(r"\lim_{x\to0} \frac{\sin x}{x}"), number(1)) is None


def test_an_expression_kept_gives_the_same_answers():
    kept = Expression(parse("x^2-1"))
    for _ in range(2):
        assert identical(kept, parse("(x-1)(x+1)"))
        assert identical(parse("(x+1)^2"), kept) is False
        assert identical(kept, parse("(-1)^x x^2 - 1")) is False  # x is an integer here
    assert identical(Expression(parse(r"\sqrt 4")), ("num", Fraction(2), Fraction(0)))


def test_proportional():
    assert proportional(parse("2x-4y"), parse("x-2y")) == 2
    assert proportional(parse("3-3x^2"), parse("x^2-1")) == -3
    ratio = proportional(parse(r"\sqrt2 x"), X)
    assert ratio is not None and ratio.overlaps(flint.arb(2).sqrt()) and not isinstance(ratio, fmpq)
    assert proportional(parse("x^2-1"), parse("x-1")) is None
    assert proportional(number(0), X) is None
    assert proportional(X, number(0)) is None


def test_sign_and_order():
    assert sign(parse(r"\sqrt2 - \sqrt3")) == -1
    assert sign(parse(r"\sqrt{5+2\sqrt6} - \sqrt2 - \sqrt3")) == 0
    assert sign(parse("i")) is None
    assert less(parse(r"\sqrt2"), parse("1.5")) is True
    assert less(parse("1.5"), parse(r"\sqrt2")) is False
    assert less(ONE, ONE) is False
    assert less(("neg", OO), ONE) and less(ONE, OO) and less(("neg", OO), OO)
    assert less(OO, OO) is False and less(OO, ONE) is False
    assert less(ONE, parse(r"\frac10")) is None


def test_free_symbols():
    assert free_symbols(parse("x_1 + 2y")) == {"x_1", "y"}
    assert free_symbols(parse(r"\sum_{k=1}^n k x")) == {"n", "x"}
    assert free_symbols(("interval", X, OO, False, False)) == {"x"}
    assert free_symbols(("matrix", ((X, ONE), (ONE, N)))) == {"x", "n"}


@pytest.mark.parametrize(
    ("node", "error"),
    [
        (("div", ONE, number(0)), Undefined),
        (call("fact", number(-1)), Undefined),
        (call("gcd", call("sqrt", number(2)), ONE), Undefined),
        (call("floor", call("sin", ("const", "pi"))), Undefined),
        (X, Unsupported),
        (OO, Unsupported),
        (("set", ONE), Unsupported),
        (("unit", ONE, "cm"), Unsupported),
        (("pm", ONE, ONE), Unsupported),
        (call("sin", ONE, ONE), Unsupported),
        (call("frobnicate", ONE), Unsupported),
        (("base", "129", 2), Unsupported),
        (parse("9^{9^{9^9}}"), TooBig),
        (parse("10^{10^{10}}"), TooBig),
    ],
)
def test_errors(node, error):
    with pytest.raises(error):
        evaluate(node)


def nested(make, times, node):
    for _ in range(times):
        node = make(node)
    return node


K, J = ("sym", "k"), ("sym", "j")
HOSTILE = {
    "tower": parse("9^{9^{9^9}}"),
    "factorial": call("fact", number(10**9)),
    "factorials": nested(lambda a: call("fact", a), 4, number(9)),
    "binomial": call("binom", number(10**8), number(5 * 10**7)),
    "gamma": call("gamma", number(10**7)),
    "gamma of a half": call("gamma", number(Fraction(10**7 + 1, 2))),
    "gammas": ("add", *(call("gamma", number(Fraction(10**5 * k + 1, 7))) for k in range(8, 400))),
    "zeta": call("zeta", ("add", number(Fraction(1, 2)), ("mul", number(999), ("const", "i")))),
    "zetas": ("add", *(call("zeta", number(Fraction(k, 7))) for k in range(8, 200))),
    "product": ("prod", "k", ONE, number(10**7), K),
    "long product": ("prod", "k", ONE, number(4999), K),
    "nested sums": ("sum", "k", ONE, number(4000), ("sum", "j", ONE, number(4000), ("mul", K, J))),
    "roots": nested(lambda a: call("sqrt", a), 1000, number(2)),
    "deep": nested(lambda a: ("neg", a), 20_000, ONE),
    "squares": nested(lambda a: ("pow", a, number(2)), 60, number(3)),
    "squares of balls": nested(lambda a: ("pow", a, number(2)), 60, call("sqrt", number(3))),
    "power": parse("2^{10^9}"),
    "negative power": ("pow", number(-3), number(10**17 + 1)),
    "complex power": ("pow", ("add", ONE, ("const", "i")), number(10**6)),
    "sine": parse(r"\sin(10^{10^6})"),
    "exponentials": parse("e^{e^{e^{100}}}"),
    "tiny": parse("e^{-10^9}"),
    "many exponentials": ("add", *(call("exp", number(Fraction(k, 7))) for k in range(4000))),
    "many fractions": ("add", *(number(Fraction(1, k)) for k in range(1, 4000))),
    "digits": number(10**100_000),
    "long fraction": number(Fraction(10**20_000 + 1, 3**30_000)),
    "tiny part": ("add", parse("i"), ("pow", parse("e^{-10^{15}}"), number(10**15))),
    "tiny middle": ("add", call("sin", ("const", "pi")), ("pow", parse("e^{-10^{15}}"), number(10**15))),
    "floor": call("floor", parse("2^{10^9}")),
    "remainder": call("mod", parse("2^{10^9}"), number(7)),
    "lcm": call("lcm", *(number(k) for k in range(1, 400))),
    "permutations": call("perm", number(10**9), number(10**6)),
    "high root": call("root", number(7), number(10**9)),
    "error function": ("add", call("erf", number(10**9)), number(-1)),
    "wild integral": ("int", "x", number(0), ONE, call("sin", ("div", ONE, X))),
    "long integral": ("int", "x", number(0), number(1000), call("sin", ("pow", X, number(2)))),
    "integral of a sum": ("int", "x", number(0), ONE, ("sum", "k", ONE, number(4000), ("pow", X, K))),
    "derivative": ("diff", "x", 4, nested(lambda a: call("sin", ("mul", a, a)), 6, X)),
    "wide derivative": ("diff", "x", 4, ("mul", *(call("sin", ("add", X, number(k))) for k in range(60)))),
    "determinant": call(
        "det", ("matrix", tuple(tuple(call("sqrt", number(8 * i + j + 2)) for j in range(8)) for i in range(8)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_tree_gets_past_the_bounds(name):
    node = HOSTILE[name]
    questions = (
        lambda: evaluate(node),
        lambda: evaluate(node, {"x": fmpq(3, 7)}),
        lambda: constant_equal(node, ONE),
        lambda: constant_equal(node, ("add", node, number(0))),
        lambda: less(node, number(0)),
        lambda: identical(("mul", node, X), ("mul", X, node)),
        lambda: identical(("mul", node, X), ("add", ("mul", X, node), ONE)),
        lambda: proportional(("mul", node, X), X),
    )
    for question in questions:
        start = time.thread_time()
        try:
            found = question()
        except NoValue:
            found = None
        assert time.thread_time() - start < 1  # 20 ms where nothing else runs; what has no bound takes hours
        if isinstance(found, acb):
            for part in (found.real, found.imag):  # no trap for the caller
                assert part.mid().fmpq() - part.rad().fmpq() <= part.abs_upper().fmpq()
    assert identical(("mul", node, X), ("add", ("mul", X, node), ONE)) is not True
    assert flint.ctx.prec == 53


def test_other_precisions_and_threads_do_not_disturb():
    pairs = [(parse(r"\sqrt2"), parse(r"\sqrt[4]{4}")), (parse(r"\sin x \cos x"), parse(r"\frac12\sin 2x"))]
    failures = []

    def work():
        for _ in range(30):
            if not (constant_equal(*pairs[0]) and identical(*pairs[1])):
                failures.append(flint.ctx.prec)

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and flint.ctx.prec == 53


rationals = st.fractions(min_value=-50, max_value=50, max_denominator=30)
trees = st.recursive(
    st.one_of(rationals.map(number), st.just(X)),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("add", *parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("mul", *parts)),
        st.tuples(st.just("div"), inner, inner),
        st.tuples(st.just("neg"), inner),
        st.tuples(st.just("pow"), inner, st.integers(-3, 3).map(number)),
    ),
    max_leaves=12,
)


def by_fractions(node, x):
    tag, *parts = node
    if tag == "sym":
        return x
    if tag == "num":
        return parts[0]
    values = [by_fractions(part, x) for part in parts]
    if tag == "add":
        return sum(values, Fraction(0))
    if tag == "neg":
        return -values[0]
    if tag == "div":
        return values[0] / values[1]
    if tag == "pow":
        return values[0] ** int(values[1])
    product = Fraction(1)
    for value in values:
        product *= value
    return product


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(trees, rationals)
def test_rational_trees_are_evaluated_as_fractions_are(node, x):
    try:
        value = by_fractions(node, x)
    except ZeroDivisionError:
        with pytest.raises(Undefined):
            evaluate(node, {"x": fmpq(x.numerator, x.denominator)})
        return
    found = evaluate(node, {"x": fmpq(x.numerator, x.denominator)})
    if isinstance(found, fmpq):
        assert Fraction(int(found.p), int(found.q)) == value
    else:
        assert found.contains(fmpq(value.numerator, value.denominator))


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(trees, trees)
def test_sums_and_products_commute(a, b):
    assert identical(("add", a, b), ("add", b, a)) is not False
    assert identical(("mul", a, b, X), ("mul", X, b, a)) is not False
    assert identical(("add", a, b, ONE), ("add", b, a)) is not True
