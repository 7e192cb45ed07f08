"""Small charts as SVG: lines with a band, dots with intervals, histograms, bars. Colours are the style sheet's.

All are 340 wide and scale with the page; figures are read by pointing at them (SVG titles, which need no script).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guerdon.html.markup import Markup, h, join

WIDTH, HEIGHT = 340.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 10.0, 22.0
HOVERED = 80
"""Points that can be pointed at; of more, as many evenly chosen."""
BINS = 24


@dataclass(frozen=True, slots=True)
class Point:
    """`low` and `high` are the ends of a band or an interval; `note` is what is shown on pointing at it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def figure(title: str, svg: Markup, note: str = "") -> Markup:
    return h("figure", h("figcaption", title, h("small", note) if note else None), svg)


def lines(
    title: str, segments: Sequence[Sequence[Point]], *, x: str, note: str = "", marks: Mapping[float, str] | None = None
) -> Markup:
    """A curve, broken between segments; the band is drawn where points have one. `marks` are vertical lines."""
    points = [p for segment in segments for p in segment if math.isfinite(p.y)]
    if not points:
        return Markup("")
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    across = Scale(min(p.x for p in points), max(p.x for p in points), LEFT, WIDTH - RIGHT)
    up = Scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP, nice=True)
    parts = [*_grid(up), *_bottom(across, x, whole=True)]
    for at, label in (marks or {}).items():
        parts.append(
            h(
                "line",
                h("title", label),
                x1=_n(across(at)),
                x2=_n(across(at)),
                y1=_n(TOP),
                y2=_n(HEIGHT - BOTTOM),
                class_="mark",
            )
        )
    for segment in segments:
        parts += _segment([p for p in segment if math.isfinite(p.y)], across, up)
    return figure(title, _svg(parts, f"{title}: {points[0].y:.4g} to {points[-1].y:.4g}"), note)


def _segment(segment: Sequence[Point], across: "Scale", up: "Scale") -> list[Markup]:
    parts = []
    band = [(across(p.x), p.low, p.high) for p in segment if p.low is not None and p.high is not None]
    if len(band) > 1:
        upper = " ".join(f"{_n(x)},{_n(up(high))}" for x, _, high in band)
        lower = " ".join(f"{_n(x)},{_n(up(low))}" for x, low, _ in reversed(band))
        parts.append(h("polygon", points=f"{upper} {lower}", class_="band"))
    elif band:
        parts.append(_whisker(across(segment[0].x), up(band[0][1]), up(band[0][2])))
    if len(segment) > 1:
        parts.append(h("polyline", points=" ".join(f"{_n(across(p.x))},{_n(up(p.y))}" for p in segment), class_="line"))
    chosen = segment if len(segment) <= HOVERED else [segment[i * len(segment) // HOVERED] for i in range(HOVERED)]
    size = 4.5 if len(segment) == 1 else 3 if len(segment) <= 12 else 0
    for p in chosen:
        cx, cy = _n(across(p.x)), _n(up(p.y))
        parts.append(
            h(
                "g",
                h("circle", cx=cx, cy=cy, r=size, class_="dot") if size else None,
                h("circle", h("title", p.note), cx=cx, cy=cy, r=6, class_="hit"),
                class_="point",
            )
        )
    return parts


def intervals(title: str, rows: Sequence[tuple[str, Point]], *, best: str = "") -> Markup:
    """One row each: a dot with its interval; `y` of the points is the value. The one called `best` stands out."""
    labels = _label_width([label for label, _ in rows])
    ys = [v for _, p in rows for v in (p.y, p.low, p.high) if v is not None]
    if not ys:
        return Markup("")
    height = TOP + 26 * len(rows) + BOTTOM
    across = Scale(min(ys), max(ys), labels, WIDTH - RIGHT - 8, nice=True)
    parts = [*_bottom(across, "", height, grid=True)]
    for i, (label, p) in enumerate(rows):
        y = TOP + 26 * i + 13
        parts.append(h("text", label, x=_n(labels - 12), y=_n(y + 4), class_="row best" if label == best else "row"))
        if p.low is not None and p.high is not None:
            parts.append(h("line", x1=_n(across(p.low)), x2=_n(across(p.high)), y1=_n(y), y2=_n(y), class_="whisker"))
        parts.append(h("circle", h("title", p.note), cx=_n(across(p.y)), cy=_n(y), r=5, class_="dot"))
    return figure(title, _svg(parts, title, height))


def histogram(title: str, groups: Mapping[str, Sequence[float]], *, x: str, note: str = "") -> Markup:
    """How values are spread, as shares; of two groups the first is an outline."""
    values = [v for group in groups.values() for v in group]
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    step = _nice((high - low) / BINS) if high > low else 1.0
    step = max(1.0, step) if all(float(v).is_integer() for v in values) else step
    start = math.floor(low / step) * step
    count = int((high - start) / step) + 1
    if count < 4:  # a few broad bars look like a wall
        start, count = start - 2 * step, count + 4
    shares = {name: _shares(group, start, step, count) for name, group in groups.items() if group}
    across = Scale(start, start + step * count, LEFT, WIDTH - RIGHT)
    up = Scale(0, max(s for share in shares.values() for s in share), HEIGHT - BOTTOM, TOP, nice=True)
    parts = [*_grid(up, percent=True), *_bottom(across, "")]
    newest = list(shares)[-1]
    for name in [newest, *list(shares)[:-1]]:  # the outline is drawn over the bars
        for i, share in enumerate(shares[name]):
            if name == newest and share:
                left, right = across(start + i * step) + 0.75, across(start + (i + 1) * step) - 0.75
                ends = f"{start + i * step:.4g}" + (f" to {start + (i + 1) * step:.4g}" if step > 1 else "")
                parts.append(
                    h(
                        "rect",
                        h("title", f"{ends} {x}: {share:.0%} ({name})"),
                        x=_n(left),
                        y=_n(up(share)),
                        width=_n(max(0.5, right - left)),
                        height=_n(up(0) - up(share)),
                        class_="bar",
                    )
                )
        if name != newest:
            corners = [f"{_n(across(start))},{_n(up(0))}"]
            for i, share in enumerate(shares[name]):
                corners += [f"{_n(across(start + k * step))},{_n(up(share))}" for k in (i, i + 1)]
            corners.append(f"{_n(across(start + count * step))},{_n(up(0))}")
            parts.append(h("polyline", points=" ".join(corners), class_="outline"))
    keys = [h("span", h("i", class_="key bar" if name == newest else "key outline"), name) for name in shares]
    return figure(title, join([_svg(parts, title), h("p", keys, class_="legend") if len(shares) > 1 else None]), note)


def _shares(values: Sequence[float], start: float, step: float, count: int) -> list[float]:
    found = [0] * count
    for value in values:
        found[min(count - 1, int((value - start) / step + 1e-9))] += 1
    return [n / len(values) for n in found]


def bars(
    title: str, rows: Sequence[tuple[str, Mapping[str, float], str]], *, parts: Sequence[str] = (), note: str = ""
) -> Markup:
    """Horizontal bars, each a label, a length in parts, and a text. `parts` names those of several colours."""
    most = max((sum(lengths.values()) for _, lengths, _ in rows), default=0.0)
    if not most:
        return Markup("")
    labels = _label_width([label for label, _, _ in rows])
    across = Scale(0, most, labels, WIDTH - 62)
    height = TOP + 26 * len(rows) + 4
    drawn = []
    for i, (label, lengths, said) in enumerate(rows):
        y, so_far = TOP + 26 * i, 0.0
        drawn.append(h("text", label, x=_n(labels - 10), y=_n(y + 15), class_="row"))
        for name, length in lengths.items():
            left, right = across(so_far), across(so_far + length)
            so_far += length
            drawn.append(
                h(
                    "rect",
                    h("title", f"{name} {length:.4g}"),
                    x=_n(left),
                    y=_n(y + 3),
                    width=_n(max(0.0, right - left - (0.75 if parts else 0))),
                    height=16,
                    class_=f"part{parts.index(name) % 6}" if parts else "bar",
                )
            )
        drawn.append(h("text", said, x=_n(across(so_far) + 6), y=_n(y + 15), class_="said"))
    keys = [h("span", h("i", class_=f"key part{i % 6}"), name) for i, name in enumerate(parts)]
    return figure(title, join([_svg(drawn, title, height), h("p", keys, class_="legend") if keys else None]), note)


class Scale:
    """From values to places; `nice` widens it to round figures, 0 included where that is near."""

    def __init__(self, low: float, high: float, start: float, end: float, *, nice: bool = False) -> None:
        if high - low < 1e-12 * max(1.0, abs(high)):
            low, high = (
                (low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)) if nice else (low - 0.5, high + 0.5)
            )
        if nice:
            if 0 < low < 0.4 * high:
                low = 0.0
            step = _nice((high - low) / 4)
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 4, whole: bool = False) -> list[float]:
        step = _nice((self.high - self.low) / count)
        step = max(1.0, math.ceil(step)) if whole else step  # of steps and iterations there are no halves
        first = math.ceil(self.low / step - 1e-9)
        return [(first + i) * step for i in range(int((self.high - first * step) / step + 1e-9) + 1)]


def _nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten.

    >>> _nice(0.13), _nice(3.0)
    (0.2, 5.0)
    """
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(float(f"{k * power:.6g}") for k in (1, 2, 2.5, 5, 10) if k * power >= step * (1 - 1e-9))


def _grid(up: Scale, percent: bool = False) -> list[Markup]:
    found = []
    for value in up.ticks():
        y = up(value)
        found.append(h("line", x1=_n(LEFT), x2=_n(WIDTH - RIGHT), y1=_n(y), y2=_n(y), class_="grid"))
        found.append(
            h("text", f"{value:.0%}" if percent else tick(value), x=_n(LEFT - 6), y=_n(y + 3.5), class_="left")
        )
    return found


def _bottom(
    across: Scale, name: str, height: float = HEIGHT, *, grid: bool = False, whole: bool = False
) -> list[Markup]:
    found = []
    for value in across.ticks(5, whole):
        x = across(value)
        if grid:
            found.append(h("line", x1=_n(x), x2=_n(x), y1=_n(TOP), y2=_n(height - BOTTOM), class_="grid"))
        found.append(h("text", tick(value), x=_n(x), y=_n(height - BOTTOM + 15), class_="bottom"))
    if name:
        found.append(h("text", name, x=_n(LEFT - 8), y=_n(height - BOTTOM + 15), class_="left"))
    return found


def _whisker(x: float, low: float, high: float) -> Markup:
    return h("line", x1=_n(x), x2=_n(x), y1=_n(low), y2=_n(high), class_="whisker")


def _label_width(labels: Sequence[str]) -> float:
    return min(170.0, 22 + 6.2 * max(map(len, labels), default=0))


def tick(value: float) -> str:
    """
    >>> tick(0.5), tick(12000.0), tick(0.0002), tick(-0.0)
    ('0.5', '12k', '2e-4', '0')
    """
    if abs(value) < 1e-12:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if abs(value) < 0.001 else f"{value:.4g}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(parts: Sequence[object], title: str, height: float = HEIGHT) -> Markup:
    return h("svg", list(parts), viewBox=f"0 0 {_n(WIDTH)} {_n(height)}", role="img", aria_label=title)
