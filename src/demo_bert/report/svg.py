"""Line charts as SVG, by hand: no script, no font, nothing to fetch.

Colours and sizes of text are classes of `page.css`: a chart follows the page from light to dark.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from demo_bert.report import wording
from demo_bert.report.markup import escape
from demo_bert.report.series import Point, height, thinned, ticks

NUM_COLOURS = 6
"""Series beyond them start over, with dashes."""

_WIDTH, _HEIGHT = 460.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 12.0, 12.0, 40.0


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: What the legend says; "" for none.
        points: (x, y), x ascending; y that is not finite breaks the line.
        style: A line, a faint line behind it, or a line with a dot at each point.
        colour: Which of the page's colours, from 0.
    """

    name: str
    points: Sequence[Point]
    style: Literal["line", "faint", "dots"] = "line"
    colour: int = 0


@dataclass(frozen=True)
class Level:
    """A value to compare with, or a place on the x axis to point out.

    Attributes:
        value: Where.
        name: What it is.
    """

    value: float
    name: str


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        title: Above it.
        series: Its lines.
        from_zero: Whether the y axis starts at 0.
        levels: Horizontal dashed lines.
        marks: Vertical dashed lines.
        x_name: What the x axis counts.
        y_words: How a value of y is written.
        x_range: What the x axis must reach; None for the points alone.
    """

    title: str
    series: Sequence[Series]
    from_zero: bool = False
    levels: Sequence[Level] = ()
    marks: Sequence[Level] = ()
    x_name: str = "step"
    y_words: Callable[[float], str] = wording.compact
    x_range: tuple[float, float] | None = None


def figure(chart: Chart) -> str:
    """A chart with its title and legend.

    Args:
        chart: What to show.

    Returns:
        A `figure` element; "" where no series has a finite point.
    """
    frame = _Frame.around(chart)
    if frame is None:
        return ""
    parts = [_axes(chart, frame)]
    parts += [_level(level, frame) for level in chart.levels]
    parts += [
        _mark(mark, frame) for mark in chart.marks if frame.x_low <= mark.value <= frame.x_high
    ]
    parts += [_line(series, frame) for series in chart.series]
    words = escape(f"{chart.title}. {_in_words(chart)}")
    above = _above(chart, frame)
    return (
        f'<figure class="chart"><figcaption><strong>{escape(chart.title)}</strong>{_legend(chart)}'
        f'</figcaption><svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>{above}</figure>\n"
    )


@dataclass(frozen=True)
class _Frame:
    """The ranges of both axes, and where their values lie in the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @classmethod
    def around(cls, chart: Chart) -> "_Frame | None":
        points = [p for series in chart.series for p in series.points if math.isfinite(p[1])]
        if not points:
            return None
        xs = [x for x, _ in points]
        xs += chart.x_range or ()
        shown = [y for series in chart.series for y in _shown_heights(series)]
        shown += [level.value for level in chart.levels]
        y_low, y_high = min(shown), max(shown)
        if chart.from_zero:
            y_low, y_high = min(y_low, 0.0), max(y_high, 0.0)
        share = 0.12 if chart.levels else 0.06  # the words of a level stand above it
        room = (y_high - y_low) * share or abs(y_high) * 0.1 or 1.0
        y_low = y_low if chart.from_zero and y_low == 0 else y_low - room
        x_room = 0.5 if min(xs) == max(xs) else 0.0
        return cls(min(xs) - x_room, max(xs) + x_room, y_low, y_high + room)

    def has_x(self, value: float) -> bool:
        return self.x_low <= value <= self.x_high

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        # What lies outside is drawn at the edge, not far beyond the picture.
        return _HEIGHT - _BOTTOM - min(1.0, max(0.0, share)) * (_HEIGHT - _TOP - _BOTTOM)


def _shown_heights(series: Series) -> list[float]:
    """What the y axis must reach; single outliers of a noisy line are not let flatten the rest."""
    heights = sorted(y for _, y in series.points if math.isfinite(y))
    if series.style != "faint" or len(heights) < 50:
        return heights
    outer = len(heights) // 100 + 1
    low, high = heights[outer], heights[-1 - outer]
    room = (high - low) or math.inf
    return [y for y in heights if low - room <= y <= high + room]


def _axes(chart: Chart, frame: _Frame) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts: list[str] = []
    for value in ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT:g} {y:.1f}H{right:g}"/>')
        parts.append(
            f'<text x="{_LEFT - 7:g}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>'
        )
    for value in ticks(frame.x_low, frame.x_high):
        if value == int(value):
            x = frame.x(value)
            anchor = "end" if x > right - 16 else "middle"
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 17:g}" text-anchor="{anchor}">{value:,.0f}</text>'
            )
    middle = (_LEFT + right) / 2
    parts.append(f'<path class="axis" d="M{_LEFT:g} {bottom:g}H{right:g}"/>')
    parts.append(
        f'<text class="name" x="{middle:g}" y="{_HEIGHT - 5:g}" text-anchor="middle">'
        f"{escape(chart.x_name)}</text>"
    )
    return "".join(parts)


def _tick(value: float) -> str:
    if value and (abs(value) < 0.001 or abs(value) >= 1e6):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.10g}"


def _line(series: Series, frame: _Frame) -> str:
    colour = f"c{series.colour % NUM_COLOURS}" + (" dashed" if series.colour >= NUM_COLOURS else "")
    path: list[str] = []
    pen_up = True
    dots: list[str] = []
    for x, y in thinned(series.points):
        if not math.isfinite(y):
            pen_up = True
            continue
        px, py = f"{frame.x(x):.1f}", f"{frame.y(y):.1f}"
        path.append(f"{'M' if pen_up else 'L'}{px} {py}")
        pen_up = False
        if series.style == "dots":
            dots.append(f'<circle class="{colour}" cx="{px}" cy="{py}" r="3.5"/>')
    if len(path) == 1:  # a line of one point would not be seen
        dots = [f'<circle class="{colour}" cx="{px}" cy="{py}" r="3.5"/>' for px, py in _only(path)]
    faint = " faint" if series.style == "faint" else ""
    return f'<path class="line {colour}{faint}" d="{"".join(path)}"/>{"".join(dots)}'


def _only(path: Sequence[str]) -> list[tuple[str, str]]:
    px, py = re.findall(r"[-\d.]+", path[0])
    return [(px, py)]


def _level(level: Level, frame: _Frame) -> str:
    y = frame.y(level.value)
    return (
        f'<path class="level" d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}"/>'
        f'<text class="on" x="{_WIDTH - _RIGHT:g}" y="{y - 5:.1f}" text-anchor="end">'
        f"{escape(level.name)}</text>"
    )


def _mark(mark: Level, frame: _Frame) -> str:
    x = frame.x(mark.value)
    is_right = x > _WIDTH * 0.75
    return (
        f'<path class="level" d="M{x:.1f} {_TOP:g}V{_HEIGHT - _BOTTOM:g}"/>'
        f'<text class="on" x="{x - 5 if is_right else x + 5:.1f}" y="{_TOP + 11:g}" '
        f'text-anchor="{"end" if is_right else "start"}">{escape(mark.name)}</text>'
    )


def _legend(chart: Chart) -> str:
    entries: list[str] = []
    for series in chart.series:
        if not series.name:
            continue
        colour = f"c{series.colour % NUM_COLOURS}"
        faint = " faint" if series.style == "faint" else ""
        dashed = " dashed" if series.colour >= NUM_COLOURS else ""
        dot = f'<circle class="{colour}" cx="12" cy="5" r="3.5"/>' if series.style == "dots" else ""
        entries.append(
            '<span class="key"><svg viewBox="0 0 24 10" width="24" height="10" aria-hidden="true">'
            f'<path class="line {colour}{faint}{dashed}" d="M1 5H23"/>{dot}</svg>'
            f"{escape(series.name)}</span>"
        )
    return "".join(entries)


def _above(chart: Chart, frame: _Frame) -> str:
    """Says how many points are drawn at the edge because they lie outside."""
    outside = sum(
        not frame.y_low <= y <= frame.y_high
        for series in chart.series
        for _, y in series.points
        if math.isfinite(y)
    )
    broken = sum(not math.isfinite(y) for series in chart.series for _, y in series.points)
    said = [
        f"{wording.count(outside, 'point')} beyond the axis, drawn at its edge" if outside else "",
        f"{wording.count(broken, 'value')} not finite, left out" if broken else "",
    ]
    words = "; ".join(filter(None, said))
    return f'<p class="small">{words}</p>' if words else ""


def _in_words(chart: Chart) -> str:
    said: list[str] = []
    for series in chart.series:
        points = [point for point in series.points if math.isfinite(point[1])]
        if not series.name or not points or series.style == "faint":
            continue
        (x0, y0), (x1, y1) = points[0], points[-1]
        lowest, highest = min(points, key=height)[1], max(points, key=height)[1]
        words = chart.y_words
        said.append(
            f"{series.name}: {words(y0)} at {chart.x_name} {x0:g}, {words(y1)} at {chart.x_name}"
            f" {x1:g}, lowest {words(lowest)}, highest {words(highest)}."
        )
    said += [f"{level.name}: {chart.y_words(level.value)}." for level in chart.levels]
    return " ".join(said)
