"""Reading answers: spellings of one thing are one tree, other things are other trees, and the rest is not read."""

import time

import pytest

from guerdon_rewards.mathematics.syntax import Unread, parse

SAME = [
    # numbers
    (r"1\frac12", r"1 \frac{1}{2}", "1 1/2", "1½"),
    ("1,234,567", r"1{,}234{,}567", r"1\,234\,567", "1234567", "1.234.567", r"1,\!234,\!567", "$1,234,567$"),
    ("1,234.56", "1.234,56", "1234.56"),
    (r"0.\overline{3}", r"0.\dot{3}", "0.333...", "0.(3)", r"0.\bar3", "0.3\u0305"),
    (r"0.\overline{142857}", r"0.\dot{1}4285\dot{7}", r"0.142857142857\ldots"),
    (r"0.1\overline{6}", "0.1666..."),
    ("1.2e-3", "1.2E-3"),
    (r"1.2 \times 10^{-3}", "1.2*10^-3", "1.2×10⁻³", "1.2 · 10^{-3}"),
    (r"\$5", "$5", "5€", r"5\$"),
    ("50%", r"50\%", "50 percent", r"50\text{ percent}", r"50\text{%}"),
    (r"30^\circ", "30°", r"30^{\circ}", r"30\degree"),
    ("30°15'", r"30^\circ 15'", r"30^{\circ}15^{\prime}"),
    (r"5^{\text{th}}", "5th", "5"),
    # arithmetic
    (r"\sin 2x \cos x", "sin(2x)cos(x)", r"\sin(2x)\cos(x)"),
    (r"\ln x^2", "ln(x^2)", r"\ln{\left(x^{2} \right)}"),
    (r"\sqrt2x", "sqrt(2)x", r"\sqrt{2} x", "√2x"),
    (r"\frac1{2x}", r"\dfrac{1}{2x}", r"\cfrac{1}{2x}"),
    (r"\log_2^2 x", r"(\log_2 x)^2", r"\log_2^2(x)"),
    (r"\sqrt[3]{2}", "cbrt(2)", "∛2"),
    ("x**2", "x^2", "x²", "x^{2}", r"{x}^{2}"),
    ("xy^2", r"x y^2", "x*y**2", r"x \cdot y^{2}"),
    ("x^{12}", "x**12", "x¹²"),
    ("|x-1|-|x+2|", r"\left|x-1\right|-\left|x+2\right|", "Abs(x-1)-Abs(x+2)", r"\lvert x-1\rvert-\lvert x+2\rvert"),
    ("n!", r"\left(n\right)!", "factorial(n)"),
    (r"\binom{n}{k}", "C(n,k)", "nCk", "{}_nC_k", "^nC_k", r"{}^{n}C_{k}", "C_n^k", r"{n \choose k}", "binomial(n, k)"),
    (r"\binom52", "5C2", "C_5^2", "C^2_5", "{}_5C_2", r"\dbinom{5}{2}"),
    ("E**x", "e^x", r"e^{x}"),
    ("pi*I", r"\pi I", "π I"),
    (r"\int \frac{dx}{x}", r"\int \frac{1}{x} dx", r"\int \frac1x \, \mathrm{d}x"),
    (r"\frac{d}{dx} x^2", r"\frac{d}{d x} x^{2}", r"\frac{\partial}{\partial x} x^2"),
    (r"\frac{dy}{dx}", "y'", r"y^\prime", r"y^{\prime}"),
    (r"\frac{d^2y}{dx^2}", "y''", r"y^{\prime\prime}"),
    (r"3\mathbf{i}+2\mathbf{j}", r"3\hat{i}+2\hat{j}", r"3\vec{i}+2\vec{j}", r"3\hat{\imath}+2\hat{\jmath}"),
    # damage
    ("\frac{1}{2}", r"\frac{1}{2}", r"\\frac{1}{2}"),
    ("3 \times 4", r"3 \times 4", "3 imes 4"),
    ("x \neq 3", r"x \neq 3", "x ≠ 3", "x != 3", r"x \not= 3"),
    ("\\left(1,2\right]", "(1,2]", r"\\left(1,2\\right]"),
    ("\beta+1", r"\beta+1", "β+1"),
    (r"-5\lex\le1", r"-5 \le x \le 1", "-5<=x<=1"),
    (r"\boxed{5", r"\boxed{5}", "5"),
    (r"5 \text{ cm", "5 cm", r"5\mathrm{cm}", r"\text{5 cm}"),
    (r"5\text{ m/s}", r"5\ \mathrm{m/s}"),
    # structures
    ("(1,2)", r"\langle 1,2 \rangle", r"\left( 1, \  2\right)", "(1; 2)", "⟨1, 2⟩"),
    ("]0,1[", r"\left]0;1\right[", "Interval.open(0, 1)"),
    ("[0,1[", "[0,1)", r"\left[0, 1\right)", "Interval.Ropen(0, 1)", "Interval(0, 1, False, True)"),
    (r"(-\infty,2)\cup[3,\infty)", "(-oo,2)U[3,oo)", "(−∞,2)∪[3,∞)", "(-inf, 2) union [3, inf)"),
    (r"\{x \mid x > 0\}", r"\{x : x>0\}", "{x | x > 0}", r"\left\{x\; \middle|\; x > 0 \right\}", r"\{x|x \gt 0\}"),
    (r"\{x \in \mathbb{R} : x>0\}", r"\{x \in \mathbb{R} \mid x>0\}", "{x ∈ R : x > 0}", r"\{x\in\mathbb R, x>0\}"),
    (r"\{1,2\}", "{1, 2}", "FiniteSet(1, 2)", r"\left\{1, 2\right\}", "set([1, 2])"),
    (r"\emptyset", r"\{\}", "∅", "set()", r"\varnothing"),
    (r"\mathbb{R} \setminus \{0\}", r"\mathbb{R}-\{0\}", r"\mathbb{R}\backslash\{0\}", r"\mathbb{R}^*", "ℝ∖{0}"),
    (r"\mathbb{Z}^+", r"\mathbb{Z}_{>0}", r"\mathbb{N}^*", r"\mathbb{Z}_{+}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\[2pt] 3 & 4 \end{bmatrix}", "[[1,2],[3,4]]",
     r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]", "Matrix([[1, 2], [3, 4]])"),
    ("[(1, 2), (3, 4)]", "(1,2), (3,4)", r"(1,2)\text{ and }(3,4)"),
    (r"\begin{cases} x & x>0 \\ 0 & \text{otherwise}\end{cases}",
     r"\begin{cases} x, & \text{if } x>0, \\ 0, & \text{otherwise.}\end{cases}", "Piecewise((x, x > 0), (0, True))"),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", r"\begin{aligned} x&=1 \\ y&=2 \end{aligned}", "x=1, y=2"),
    # statements
    ("x ≥ 3", r"x \geqslant 3", "x => 3", "x >= 3", r"x \not< 3", r"x \nless 3", "Ge(x, 3)"),
    ("x=1 or x=2", r"x=1 \text{ or } x=2", "x=1orx=2", r"x = 1 \vee x = 2", "x=1, or x=2"),
    ("(11,7)or(7,11)", "(11,7) or (7,11)"),
    ("three", r"\text{three}"),
    ("2, 3, and 5", "2; 3; 5", "2, 3, 5", r"2, 3 \text{ and } 5"),
    ("Answer: 5", "5", "The answer is 5", "x-intercept: 5"),
    (r"x \equiv 3 \pmod 7", "x ≡ 3 (mod 7)", r"x \equiv 3 \pmod{7}", r"x\equiv 3 (\bmod 7)"),
    (r"n \equiv 0, 1 \pmod 4", r"n \equiv 0 \text{ or } 1 \pmod{4}"),
    ("3:4", "3 to 4", r"3\text{:}4", "3∶4"),
]  # fmt: skip

DIFFERENT = [
    ("1 1/2", "1*1/2"), ("x^12", "x^1 2"), ("1/2x", "1/(2x)"), ("C(5,2)", "(5,2)"), (r"\frac{dy}{dx}", r"\frac{y}{x}"),
    ("[0,1[", "[0,1]"), ("(0,1)", "[0,1]"), ("0.333", "0.333..."), ("3.14159...", r"3.\overline{14159}"),
    ("1,23", "1.23"), (r"\mathbb{N}", r"\mathbb{Z}^+"), ("n!", "n!!"), ("x_1^2", "x_2^1"), ("a to b", "a:b:c"),
    (r"\begin{cases} x & x>0 \\ 0 & x<0 \end{cases}", r"\begin{cases} x & x<0 \\ 0 & x>0 \end{cases}"),
    (r"n \equiv 2 \pmod{3}, n \equiv 1 \pmod 5", r"n \equiv 2, 1 \pmod{5}"), ("f'(2)", "f(2)"), (r"\zzz", r"\yyy"),
    ("xy^2", "(xy)^2"), ("30°15'", "30.15°"), ("x-y: 3", "3"), (r"\mathbf{i}", r"\mathbf{i}+\mathbf{j}"),
]  # fmt: skip

NOT_READ = [
    "2 3", "x +", "(1, 2", r"\frac{1}", "", r"\begin{foo}1\end{foo}", r"\foo{1}{2}", r"a \prec b", "[1, 2}", "5 cm 3",
    "3 +* 4", r"\begin{pmatrix}1&2\\3\end{pmatrix}", "{}x", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("spellings", SAME, ids=lambda s: s[0])
def test_spellings_of_one_thing_are_one_tree(spellings):
    first, *others = spellings
    wanted = parse(first)
    assert [(o, parse(o)) for o in others] == [(o, wanted) for o in others]


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_other_things_are_other_trees(a, b):
    assert read(a) != read(b)


def read(text):
    try:
        return parse(text)
    except Unread:
        return text


@pytest.mark.parametrize("text", NOT_READ)
def test_what_is_not_understood_whole_is_not_read(text):
    with pytest.raises(Unread):
        parse(text)


@pytest.mark.parametrize(
    "piece",
    [
        "C_", "C(", "(", "[", "{", "|", "-", r"\frac", r"\sqrt{", "x^", "x_{", "a,", r"\text{", "||x", "0.3...",
        r"\int d", "sin ",
        r"\begin{cases}", r"\mathbb{R}^", "Matrix(", "x or ", r"30^\circ 15'", "{x|", "1 1/", r"1\,000",
        "1or", "abc", r"\%", "!", "5 ÷ dots",
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [60, 380, 1000])
def test_reading_takes_little_time(piece, times):
    started = time.process_time()
    for _ in range(3):
        read((piece * times)[:4096])
    assert time.process_time() - started < 1
