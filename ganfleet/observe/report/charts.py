"""Curves as inline SVG: axes with round numbers, one line and one row of a table for each curve.

Own SVG, because a page must work without network, follow the reader's light or dark colours, and be read by a screen
reader; what plotting libraries write does one or two of these, and the smallest is larger than all of a report.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 480, 250  # of the picture, in its own units
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 22, 42  # margins around the field
POINTS = 300  # along a curve; of more, as many means are drawn, each within the range that it stands for
COLOURS = 8  # that page.html defines

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Curve:
    """``points`` (x, y) by ascending x, where a y of None interrupts the line; ``errors`` are half as high as a bar."""

    name: str
    points: Sequence[Point]
    errors: Sequence[float | None] = ()


@dataclass(frozen=True)
class Mark:
    """A vertical line at ``x``, and what to call it."""

    x: float
    label: str


@dataclass(frozen=True)
class Bin:
    """Some points of a curve as one: their mean and range, None where no y is finite."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


def chart(title: str, curves: Sequence[Curve], unit: str = "", marks: Sequence[Mark] = (), end: float = 0) -> str:
    """A figure of HTML: the title, the picture, and a table with the last, lowest and highest value of each curve.

    Args:
        unit: of the values.
        marks: shown where they lie within the curves.
        end: the axis of kimg reaches at least so far.
    """
    binned = [bins(curve.points) for curve in curves]
    xs = [point.x for each in binned for point in each]
    last = max([*xs, end]) or 1
    y_ticks = ticks(*_range(curves, binned))
    x_scale = _Scale(0, last, LEFT, WIDTH - RIGHT)
    y_scale = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(title, curves))}">']
    for value in y_ticks:
        y = y_scale(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{number(value)}</text>')
    for value in (each for each in ticks(0, last) if each <= last):
        x = x_scale(value)
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>')
        parts.append(f'<text class="x" x="{x}" y="{HEIGHT - BOTTOM + 17}">{number(value)}</text>')
    parts.append(f'<text class="x" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">thousand images (kimg)</text>')
    if unit:
        parts.append(f'<text class="unit" x="4" y="13">{escape(unit)}</text>')
    for mark in marks:
        x = x_scale(mark.x)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="mark" x="{x + 3}" y="{TOP - 4}">{escape(mark.label)}</text>')
    for index, (curve, each) in enumerate(zip(curves, binned, strict=True)):
        parts += _drawn(curve, each, index % COLOURS, x_scale, y_scale)
    parts.append(f'<line class="cursor" hidden x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg>')
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{"".join(parts)}{_table(curves)}'
        f'<script type="application/json">{_data(binned, last)}</script></figure>'
    )


def bins(points: Sequence[Point]) -> list[Bin]:
    """``points`` as they are, or where there are more than POINTS, means of neighbours."""
    if len(points) <= POINTS:
        return [Bin(x, y, y, y) for x, y in points]
    edges = [round(i * len(points) / POINTS) for i in range(POINTS + 1)]
    found = []
    for first, last in pairwise(edges):
        values = [y for _, y in points[first:last] if y is not None]
        x = points[last - 1][0]
        found.append(Bin(x, sum(values) / len(values), min(values), max(values)) if values else Bin(x, None))
    return found


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, about ``count`` of them, the first at or below ``low`` and the last at or above ``high``."""
    if not low < high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if high else (0, 1)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 2.5, 5, 10) if times * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float | None) -> str:
    """``value`` with four figures; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if 10_000 <= abs(value) < 1e7 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


class _Scale:
    """From values between ``low`` and ``high`` to places in the picture."""

    def __init__(self, low: float, high: float, first: float, last: float):
        self._low, self._high, self._first, self._last = low, high, first, last

    def __call__(self, value: float) -> float:
        share = (min(max(value, self._low), self._high) - self._low) / (self._high - self._low)
        return round(self._first + share * (self._last - self._first), 1)


def _range(curves: Sequence[Curve], binned: list[list[Bin]]) -> tuple[float, float]:
    """What the axis of y must show: every mean, and every bar of errors."""
    values = [point.y for each in binned for point in each if point.y is not None]
    for curve in curves:
        for (_, y), error in zip(curve.points, curve.errors, strict=False):
            if y is not None and error is not None:
                values += [y - error, y + error]
    return (min(values), max(values)) if values else (0, 1)


def _drawn(curve: Curve, points: list[Bin], colour: int, x_scale: _Scale, y_scale: _Scale) -> list[str]:
    """The range, the line and the bars of a curve."""
    parts = []
    for run in _runs(points):
        places = [(x_scale(point.x), y_scale(point.y)) for point in run]
        if any(point.low != point.high for point in run):
            around = [(x_scale(point.x), y_scale(point.high)) for point in run]
            around += [(x_scale(point.x), y_scale(point.low)) for point in reversed(run)]
            parts.append(f'<polygon class="c{colour}" points="{_joined(around)}"/>')
        parts.append(f'<polyline class="c{colour}" points="{_joined(places)}"/>')
        if len(points) <= 30:
            parts += [f'<circle class="c{colour}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in places]
    for (x, y), error in zip(curve.points, curve.errors, strict=False):
        if y is not None and error is not None:
            x, low, high = x_scale(x), y_scale(y - error), y_scale(y + error)
            parts.append(f'<line class="c{colour}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>')
    return parts


def _runs(points: list[Bin]) -> list[list[Bin]]:
    """The parts of a curve between its gaps."""
    found: list[list[Bin]] = [[]]
    for point in points:
        if point.y is None:
            found.append([])
        else:
            found[-1].append(point)
    return [run for run in found if run]


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _finite(curve: Curve) -> list[Point]:
    return [(x, y) for x, y in curve.points if y is not None]


def _spoken(title: str, curves: Sequence[Curve]) -> str:
    """What a screen reader says in place of the picture."""
    return f"{title} over thousand images: " + ", ".join(curve.name for curve in curves) + "; the table has values"


def _table(curves: Sequence[Curve]) -> str:
    rows = []
    for index, curve in enumerate(curves):
        values = [y for _, y in _finite(curve)]
        cells = (curve.points[-1][1], min(values, default=None), max(values, default=None))
        rows.append(
            f'<tr><th scope="row">{_key(index % COLOURS)}{_breaking(curve.name)}'
            f'</th>{"".join(f"<td>{number(value)}</td>" for value in cells)}<td class="at"></td></tr>'
        )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("last", "lowest", "highest"))
    head = f'<thead><tr><td></td>{heads}<th scope="col" class="at"></th></tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _breaking(name: str) -> str:
    """A name that may be broken behind its underscores and slashes."""
    return re.sub(r"([_/])", r"\1<wbr>", escape(name))


def _key(colour: int) -> str:
    return (
        f'<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><line class="c{colour}" x2="28" y1="4" y2="4"/></svg>'
    )


def _data(binned: list[list[Bin]], last: float) -> str:
    """The points for the reading at the pointer, and where the axis of x is in the picture."""
    curves = [[[point.x, point.y] for point in each] for each in binned]
    return json.dumps({"curves": curves, "from": LEFT, "to": WIDTH - RIGHT, "width": WIDTH, "last": last})
