"""HTML by function calls, in which a text is always escaped.

>>> h("p", "1 < 2, ", h("b", "she said"), class_="quiet")
'<p class="quiet">1 &lt; 2, <b>she said</b></p>'
"""

from collections.abc import Iterable
from html import escape
from typing import Any

VOID = {"meta", "input", "br", "hr"}
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Markup(str):
    """A text that is HTML already; only `h` and `join` are to make one, and what is known to need no escaping."""

    __slots__ = ()


def h(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element. `class_` is class, and `data_x` data-x; attributes that are `None` or `False` are left out."""
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{tag}{given}>" if tag in VOID else f"<{tag}{given}>{join(children)}</{tag}>")


def section(title: str, *children: Any, about: str = "") -> Markup:
    """A part of a page, with a heading and perhaps a sentence about it."""
    head = [h("h2", title), h("p", about, class_="about") if about else None]
    return h("section", head, children, id=title.lower().replace(" ", "-"))


def join(parts: Iterable[Any]) -> Markup:
    """Several, one after the other; lists within are flattened, `None` is nothing."""
    return Markup("".join(join(p) if isinstance(p, list | tuple) else "" if p is None else text(p) for p in parts))


def text(value: Any) -> str:
    """Escaped, unless it is markup. What no HTML may hold, as half a surrogate pair, is shown as �."""
    if isinstance(value, Markup):
        return value
    plain = str(value).encode("utf-8", "replace").decode().replace("\r\n", "\n")
    return escape(plain).translate(_CONTROLS)
