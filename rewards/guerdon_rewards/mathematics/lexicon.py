"""The words and signs of written mathematics: functions, constants, letters, relations, and what only decorates."""

FUNCTIONS: dict[str, str] = {
    name: name
    for name in (
        "sqrt abs floor ceil fact binom gcd lcm mod max min exp ln log sin cos tan cot sec csc arcsin arccos arctan "
        "arccot arcsec arccsc sinh cosh tanh coth sech csch arsinh arcosh artanh arcoth arsech arcsch erf zeta "
        "sign det tr arg"
    ).split()
}
FUNCTIONS |= {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "acot": "arccot", "asec": "arcsec", "acsc": "arccsc",
    "arcsinh": "arsinh", "arccosh": "arcosh", "arctanh": "artanh", "arccoth": "arcoth", "arcsech": "arsech",
    "arccsch": "arcsch", "asinh": "arsinh", "acosh": "arcosh", "atanh": "artanh", "acoth": "arcoth",
    "asech": "arsech", "acsch": "arcsch", "tg": "tan", "ctg": "cot", "cotg": "cot", "arctg": "arctan",
    "arcctg": "arccot", "cosec": "csc", "sh": "sinh", "ch": "cosh", "th": "tanh", "ceiling": "ceil", "Abs": "abs",
    "Gamma": "gamma", "Re": "re", "Im": "im", "re": "re", "im": "im", "trace": "tr", "sgn": "sign", "factorial": "fact",
    "conjugate": "conj", "cbrt": "cbrt", "cis": "cis", "lb": "log2", "lg": "log10", "binomial": "binom", "C": "binom",
}  # fmt: skip
PLAIN_ONLY = frozenset(("abs", "mod", "fact", "re", "im", "arg", "tr", "th", "sh", "ch", "C", "Re", "Im", "lb"))
"""Names that stand for a function only where an argument in brackets follows."""

CONSTANTS = {"pi": "pi", "oo": "oo", "inf": "oo", "infinity": "oo", "infty": "oo", "Infinity": "oo"}

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi omicron rho varrho "
    "sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi "
    "Omega ell hbar imath jmath wp nabla partial".split()
)
VARIANTS = {"varepsilon": "epsilon", "vartheta": "theta", "varrho": "rho", "varsigma": "sigma", "varphi": "phi"}

RELATIONS = {
    "=": "=", "==": "=", ":=": "=", "!=": "!=", "<>": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "=<": "<=",
    "=>": ">=", "~": "~", "\\ne": "!=", "\\neq": "!=", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=",
    "\\leqq": "<=", "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\geqq": ">=", "\\lt": "<", "\\gt": ">",
    "\\in": "in", "\\isin": "in", "\\notin": "notin", "\\approx": "~", "\\simeq": "~", "\\sim": "~", "\\cong": "cong",
    "\\equiv": "equiv", "\\doteq": "~", "\\nleq": ">", "\\ngeq": "<", "\\nless": ">=", "\\ngtr": "<=",
    "\\subset": "subset", "\\subseteq": "subset", "\\supset": "supset", "\\supseteq": "supset",
    "\\parallel": "parallel", "\\perp": "perp", "\\propto": "propto", "\\mid": "mid", "\\to": "to",
    "\\rightarrow": "to", "\\longrightarrow": "to", "\\mapsto": "to", "\\ni": "ni",
}  # fmt: skip

SETS = {
    "\\cup": "union", "\\cap": "inter", "\\setminus": "minus", "\\backslash": "minus", "\\smallsetminus": "minus",
    "\\cupdot": "union", "\\bigcup": "union",
}  # fmt: skip
NUMBER_SETS = frozenset("RNZQC")

BIG = "\\big \\Big \\bigg \\Bigg \\bigl \\bigr \\Bigl \\Bigr \\biggl \\biggr \\Biggl \\Biggr \\bigm \\Bigm"
DRESS = frozenset(
    (
        BIG + r" \left \right \mleft \mright \middle \displaystyle \textstyle \scriptstyle \limits \nolimits \quad"
        r" \qquad \enspace \thinspace \, \; \: \! \> \  \( \) \[ \] \hfill \rm \bf \it \centering \hspace \phantom"
        r" \mathstrut \$ \nonumber \therefore \because \large \Large \normalsize \small \mathopen \mathclose \dots@"
    ).split(" ")
) | {"\\ "}
"""Commands without a meaning of their own."""

WRAPPERS = frozenset(
    r"\text \textbf \textit \textrm \textsf \texttt \mathrm \mathbf \mathit \mathsf \mathtt \mathcal \mathscr"
    r" \mathfrak \mathnormal \boldsymbol \bm \mbox \hbox \operatorname \operatorname* \emph \textnormal \underline"
    r" \rm \bf \tt \it \pmb \fbox \boxed \mathbb \Bbb \mathop \ensuremath \textup \hphantom \overset@".split()
)
"""Commands whose argument in braces is read as words, or as mathematics where it is one."""

CHARACTERS = str.maketrans({
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2010": "-", "\u2011": "-", "\ufe63": "-", "\uff0d": "-",
    "\u00d7": r"\times ", "\u22c5": r"\cdot ", "\u00b7": r"\cdot ", "\u2219": r"\cdot ", "\u2217": "*",
    "\u2022": r"\cdot ", "\u00f7": r"\div ", "\u2215": "/", "\u2044": "/", "\u2264": r"\le ", "\u2265": r"\ge ",
    "\u2a7d": r"\le ", "\u2a7e": r"\ge ", "\u2260": r"\ne ", "\u2248": r"\approx ", "\u221e": r"\infty ",
    "\u03c0": r"\pi ", "\u221a": r"\sqrt ", "\u00b0": "\u00b0", "\u00ba": "\u00b0", "\u2218": r"\circ ",
    "\u2208": r"\in ", "\u2209": r"\notin ", "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2216": r"\setminus ",
    "\u2205": r"\emptyset ", "\u00b1": r"\pm ", "\u2213": r"\mp ", "\u2223": "|", "\u2016": r"\| ",
    "\u2200": r"\forall ", "\u2203": r"\exists ", "\u2227": r"\wedge ", "\u2228": r"\vee ", "\u00ac": r"\neg ",
    "\u2192": r"\to ", "\u21d2": r"\Rightarrow ", "\u2211": r"\sum ", "\u220f": r"\prod ", "\u222b": r"\int ",
    "\u2220": r"\angle ", "\u22a5": r"\perp ", "\u2225": r"\parallel ", "\u2032": "'", "\u2019": "'", "\u2033": "''",
    "\u2282": r"\subset ", "\u2286": r"\subseteq ", "\u230a": r"\lfloor ", "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ", "\u2309": r"\rceil ", "\u00b2": "^{2}", "\u00b3": "^{3}", "\u00b9": "^{1}",
    "\u2070": "^{0}", "\u2074": "^{4}", "\u2075": "^{5}", "\u2076": "^{6}", "\u2077": "^{7}", "\u2078": "^{8}",
    "\u2079": "^{9}", "\u207f": "^{n}", "\u207b": "^-", "\u2080": "_{0}", "\u2081": "_{1}", "\u2082": "_{2}",
    "\u2083": "_{3}", "\u2084": "_{4}", "\u2085": "_{5}", "\u2086": "_{6}", "\u2087": "_{7}", "\u2088": "_{8}",
    "\u2089": "_{9}", "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
    "\u2153": r"\frac{1}{3}", "\u2154": r"\frac{2}{3}", "\u2155": r"\frac{1}{5}", "\u2159": r"\frac{1}{6}",
    "\u215b": r"\frac{1}{8}", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2002": " ", "\u2003": " ",
    "\u3000": " ", "\u200a": " ", "\u211d": r"\mathbb{R}", "\u2115": r"\mathbb{N}", "\u2124": r"\mathbb{Z}",
    "\u211a": r"\mathbb{Q}", "\u2102": r"\mathbb{C}", "\uff08": "(", "\uff09": ")", "\uff0c": ",", "\uff1b": ";",
    "\uff1d": "=", "\u3002": ".", "\uff1a": ":", "\u2236": ":", "\uff05": "%", "\uff0b": "+", "\u2018": "'",
    "\u201c": '"', "\u201d": '"', "\u2026": r"\ldots ", "\u22ef": r"\cdots ", "\u20ac": "$", "\u00a3": "$",
    "\u00a5": "$", "\u20b9": "$", "\u03b1": r"\alpha ", "\u03b2": r"\beta ", "\u03b3": r"\gamma ",
    "\u03b4": r"\delta ", "\u03b5": r"\epsilon ", "\u03b6": r"\zeta ", "\u03b7": r"\eta ", "\u03b8": r"\theta ",
    "\u03b9": r"\iota ", "\u03ba": r"\kappa ", "\u03bb": r"\lambda ", "\u03bc": r"\mu ", "\u03bd": r"\nu ",
    "\u03be": r"\xi ", "\u03c1": r"\rho ", "\u03c3": r"\sigma ", "\u03c4": r"\tau ", "\u03c6": r"\phi ",
    "\u03d5": r"\phi ", "\u03c7": r"\chi ", "\u03c8": r"\psi ", "\u03c9": r"\omega ", "\u0394": r"\Delta ",
    "\u0393": r"\Gamma ", "\u03a9": r"\Omega ", "\u2113": r"\ell ", "\u2261": r"\equiv ", "\u2295": r"\oplus ",
    "\u27e8": r"\langle ", "\u27e9": r"\rangle ", "\u2245": r"\cong ", "\u223c": r"\sim ", "\u00b5": r"\mu ",
    "\u2202": r"\partial ", "\u221d": r"\propto ", "\u2099": "_n", "\u2096": "_k", "\u1d62": "_i", "\u2090": "_a",
    "\u1d40": "^T", "\u221b": r"\sqrt[3]", "\u221c": r"\sqrt[4]", "\u2150": r"\frac{1}{7}", "\u2151": r"\frac{1}{9}",
    "\u2156": r"\frac{2}{5}", "\u2157": r"\frac{3}{5}", "\u2158": r"\frac{4}{5}", "\u215a": r"\frac{5}{6}",
    "\u215c": r"\frac{3}{8}", "\u215d": r"\frac{5}{8}", "\u215e": r"\frac{7}{8}", "\u3001": ",", "\u200b": "",
    "\ufeff": "", "\u207a": "^+", "\uff1c": "<", "\uff1e": ">", "\u300c": "", "\u3010": "[", "\u3011": "]",
    "\uff3b": "[", "\uff3d": "]",
})  # fmt: skip

WORD_OPERATORS = {"union": ("set", "union"), "imes": ("op", "\\times")}
"""`imes` is what is left of a `\\times` whose tab was taken for a space."""
OPERATORS = frozenset(
    r"\frac \dfrac \tfrac \cfrac \binom \dbinom \tbinom \sqrt \surd \begin \end \int \lim \sum \prod \emptyset"
    r" \varnothing \angle \triangle \neg \lnot \lbrace \rbrace \lbrack \rbrack \lfloor \rfloor \lceil \rceil"
    r" \llcorner \lrcorner \ulcorner \urcorner \lvert \rvert \vert \lVert \rVert \Vert \langle \rangle \overline"
    r" \bar \vec \hat \tilde \overrightarrow \widehat \dot \ddot \widetilde \over \choose \pmod \bmod \mod \pm \mp"
    r" \times \cdot \ast \bullet \div \circ \degree \degrees \prime \wedge \land \vee \lor \differential"
    r" \differentialD \substack \stackrel \cr \hline \blacksquare \square \Box \qed \rightarrow \Rightarrow"
    r" \implies \iff \Leftrightarrow \leftrightarrow \Longrightarrow \longleftrightarrow \leftarrow \Leftarrow"
    r" \forall \exists \nexists \oplus \otimes \ominus \odot \star \prec \succ \preceq \succeq \ll \gg \nmid"
    r" \models \vdash \asymp \bowtie \nleq \ngeq \nless \ngtr \not \vartriangle \triangleq \leftharpoonup"
    r" \rightharpoonup \uparrow \downarrow \up \down \cancel \dagger \top \intercal \colon \amp \ltimes \rtimes \wr"
    r" \uplus \sqcup \sqcap \complement \underbrace \overbrace \underset \overset".split(" ")
)
"""Commands that are read, or are known to be no symbol; all others are symbols that we do not know."""
SEPARATORS = frozenset(("and", "or", "&"))
CLAUSES = frozenset(
    "for where when if with provided whenever unless such in some any with given as because since".split()
)
"""Words that begin a remark after the answer: `f(x) = 1 for all x`."""

FENCES = {
    "\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil"), "\\llcorner": ("\\lrcorner", "floor"),
    "\\ulcorner": ("\\urcorner", "ceil"), "\\lvert": ("\\rvert", "abs"), "\\vert": ("\\vert", "abs"),
    "|": ("|", "abs"), "\\|": ("\\|", "norm"), "\\lVert": ("\\rVert", "norm"),
}  # fmt: skip
FRACTIONS = frozenset(("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"))
BINOMIALS = frozenset(("\\binom", "\\dbinom", "\\tbinom"))
MARKS = frozenset((
    "\\overline", "\\bar", "\\vec", "\\hat", "\\tilde", "\\overrightarrow", "\\widehat", "\\dot", "\\ddot",
))  # fmt: skip
HEADS = frozenset(("f", "g", "h", "F", "G", "H", "phi", "psi"))
