"""Points of a curve, made ready to be drawn: smoothed, thinned out, and round values beside."""

import math
from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
"""(x, y)."""

_NUM_BUCKETS = 300
_NUM_TICKS = 5


def height(point: Point) -> float:
    """A point's y, to compare points by.

    Args:
        point: (x, y).

    Returns:
        Its y.
    """
    return point[1]


def smoothed(points: Sequence[Point], *, window: int) -> list[Point]:
    """The points' exponential mean, without the usual pull towards the start.

    Args:
        points: (x, y); y that is not finite is passed over.
        window: About how many points the mean looks back on.

    Returns:
        A point for each finite one.

    Example:
        >>> smoothed([(1, 4.0), (2, 4.0), (3, 4.0)], window=2)
        [(1, 4.0), (2, 4.0), (3, 4.0)]
    """
    keep = 1 - 1 / max(1, window)
    total = weight = 0.0
    found: list[Point] = []
    for x, y in points:
        if math.isfinite(y):
            total, weight = keep * total + y, keep * weight + 1
            found.append((x, total / weight))
    return found


def thinned(points: Sequence[Point], num_buckets: int = _NUM_BUCKETS) -> list[Point]:
    """The points' outline: the lowest and the highest of each stretch of x.

    Args:
        points: (x, y), x ascending.
        num_buckets: Stretches of equal numbers of points.

    Returns:
        At most two points for each stretch, and the first and the last point; all points where
        there are not more than that.
    """
    if len(points) <= 2 * num_buckets:
        return list(points)
    kept = [points[0]]
    inner = points[1:-1]
    for place in range(num_buckets):
        start, end = (len(inner) * k // num_buckets for k in (place, place + 1))
        stretch = [point for point in inner[start:end] if math.isfinite(point[1])] or inner[
            start : start + 1
        ]
        low, high = min(stretch, key=height), max(stretch, key=height)
        kept += sorted({low, high})
    return [*kept, points[-1]]


def ticks(low: float, high: float, *, count: int = _NUM_TICKS) -> list[float]:
    """Round values that divide a range.

    Args:
        low: The range's start.
        high: Its end, above the start.
        count: About how many are wanted.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten, inside the range.

    Example:
        >>> ticks(0, 344)
        [0.0, 100.0, 200.0, 300.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((f * power for f in (1, 2, 5) if f * power >= rough), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]
