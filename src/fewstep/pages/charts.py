"""Small SVG drawings in the page's colours: lines over iterations, and an interval on a scale.

They are written by hand rather than by a plotting library. Strokes and text take their colour from the page, so one
drawing serves light and dark themes, and a page stays one small file without outside references.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup, escape

WIDTH, HEIGHT = 380, 180
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 30  # margins, in px of the drawing
COLOURS = 6  # the page has this many classes c0, c1, ...


@dataclass(frozen=True)
class Series:
    """One line. Points need not be sorted; those that are not finite are left out and leave a gap."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] to [start, end] px."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    raw = (high - low) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], x_label: str, title: str) -> Markup:
    """All series on common axes. More than 80 points are shown faint, below their running median."""
    drawn = [Series(s.name, _finite(s.points)) for s in series]
    points = [point for s in drawn for point in s.points]
    if not points:
        return Markup("")
    x = Scale(*_range([p[0] for p in points], pad=0), LEFT, WIDTH - RIGHT)
    y = Scale(*_range([p[1] for p in points], pad=0.06), HEIGHT - BOTTOM, TOP)
    body = [_grid(x, y), *(_line(s, i, x, y) for i, s in enumerate(drawn))]
    body.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(x_label)}</text>')
    said = f"{title}: " + ", ".join(f"{s.name} ends at {s.points[-1][1]:.3g}" for s in drawn if s.points)
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
    return Markup(f"{head}{''.join(body)}</svg>")


def interval(
    value: float, low: float | None, high: float | None, span: tuple[float, float], at: float | None = 1.0
) -> Markup:
    """A dot with its interval on the scale `span`, and a mark at `at` (equal to the teacher) if there is one."""
    x = Scale(*span, 4, 116)
    whisker = "" if low is None or high is None else f'<path class="whisker" d="M{x(low):.1f} 9H{x(high):.1f}"/>'
    mark = "" if at is None else f'<path class="mark" d="M{x(at):.1f} 1V17"/>'
    return Markup(
        f'<svg class="interval" viewBox="0 0 120 18" aria-hidden="true">{mark}'
        f'{whisker}<circle cx="{x(value):.1f}" cy="9" r="3.5"/></svg>'
    )


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return sorted((float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y))


def _range(values: Sequence[float], pad: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        half = abs(low) / 2 or 0.5
        return low - half, high + half
    return low - pad * (high - low), high + pad * (high - low)


def _grid(x: Scale, y: Scale) -> str:
    parts = []
    for value in ticks(y.low, y.high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="axis" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{_number(value)}</text>'
        )
    for value in ticks(x.low, x.high, 5):
        where = f'x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 14}"'
        parts.append(f'<text class="axis" {where} text-anchor="middle">{_number(value)}</text>')
    return "".join(parts)


def _line(series: Series, index: int, x: Scale, y: Scale) -> str:
    colour = f"c{index % COLOURS}"
    if not series.points:
        return ""
    if len(series.points) == 1:
        return (
            f'<circle class="{colour} dot" cx="{x(series.points[0][0]):.1f}" cy="{y(series.points[0][1]):.1f}" r="3"/>'
        )
    if len(series.points) <= 80:
        return _path(series.points, f"{colour} line", x, y)
    return _path(series.points, f"{colour} faint", x, y) + _path(_smoothed(series.points), f"{colour} line", x, y)


def _path(points: Sequence[tuple[float, float]], style: str, x: Scale, y: Scale) -> str:
    d = "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in points)
    return f'<path class="{style}" d="M{d}"/>'


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    half = max(2, len(points) // 60)
    return [(px, median(q for _, q in points[max(0, i - half) : i + half + 1])) for i, (px, _) in enumerate(points)]


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
