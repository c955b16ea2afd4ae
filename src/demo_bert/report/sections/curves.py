"""Curves: loss, scores, learning rate, throughput and gradient norm over the steps."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from demo_bert.report import wording
from demo_bert.report.baseline import majority
from demo_bert.report.fields import text, whole
from demo_bert.report.markup import Section
from demo_bert.report.record import Run
from demo_bert.report.series import Point, smoothed
from demo_bert.report.svg import Chart, Level, Series, figure

_NOT_DRAWN = ("total", "best_")  # counts, and what another threshold would reach
_PARTS = (("mlm_loss", "masked LM"), ("nsp_loss", "next sentence"))


def section(run: Run) -> Section | None:
    """The charts.

    Args:
        run: Any run.

    Returns:
        The section; None for a run without steps and with fewer than two evaluations.
    """
    steps = [*(x for x, _ in run.curve("step")), *(entry.step for entry in run.evaluations)]
    if not steps:
        return None
    x_range = (min(steps), max(steps))
    marks = _marks(run)
    charts = [_loss(run), *_scores(run), _learning_rate(run), _throughput(run), _gradient(run)]
    known = [replace(chart, marks=marks, x_range=x_range) for chart in charts if chart is not None]
    if not known:
        return None
    body = f'<div class="charts">{"".join(map(figure, known))}</div>'
    window = smoothing_window(len(run.steps))
    if window > 1:
        body = f"<p>Smoothed: an exponential mean over about {window} steps.</p>{body}"
    return Section("Curves", body)


def smoothing_window(num_points: int) -> int:
    """How many steps a smoothed curve looks back on.

    Args:
        num_points: The curve's steps.

    Returns:
        A twenty-fifth of them, at least 1.
    """
    return max(1, num_points // 25)


def _noisy(points: Sequence[Point], *, before: str = "") -> list[Series]:
    """The smoothed curve, with each step faintly behind it."""
    window = smoothing_window(len(points))
    if window == 1:
        return [Series(f"{before}each step", points)]
    behind = Series(f"{before}each step", points, style="faint")
    return [behind, Series(f"{before}smoothed", smoothed(points, window=window))]


def _loss(run: Run) -> Chart | None:
    points = run.curve("loss")
    if not points:
        return None
    window = smoothing_window(len(points))
    series = _noisy(points, before="training, ")
    for colour, (key, part) in enumerate(_PARTS, start=2):
        curve = smoothed(run.curve(key), window=window)
        series += [Series(f"training, {part}", curve, colour=colour)] if curve else []
    losses: dict[str, list[Point]] = {}
    for entry in run.evaluations:
        if entry.loss is not None:
            losses.setdefault(entry.split, []).append((entry.step, entry.loss))
    for colour, (split, curve) in enumerate(losses.items()):
        series.append(Series(split, curve, style="dots", colour=(1, 4, 5)[colour % 3]))
    return Chart("Loss", series)


def _scores(run: Run) -> list[Chart]:
    curves: dict[str, list[Point]] = {}
    for entry in run.evaluations:
        for key, value in entry.metrics.items():
            if key.startswith(_NOT_DRAWN) or key.endswith(_NOT_DRAWN):
                continue
            curves.setdefault(f"{entry.split}, {wording.metric_name(key)}", []).append(
                (entry.step, value)
            )
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    small = {name: points for name, points in curves.items() if max(y for _, y in points) <= 1}
    large = {name: points for name, points in curves.items() if name not in small}
    baseline = majority(run.last_evaluation())
    level = [Level(baseline.accuracy, "majority class, accuracy")] if baseline else []
    charts: list[Chart] = []
    for group in (small, large):
        series = [
            Series(name, points, style="dots", colour=colour)
            for colour, (name, points) in enumerate(group.items())
        ]
        levels = level if group is small else ()
        charts += [Chart("Scores", series, levels=levels, y_words=wording.score)] if series else []
    return charts


def _learning_rate(run: Run) -> Chart | None:
    points = run.curve("learning_rate")
    return Chart("Learning rate", [Series("", points)], from_zero=True) if points else None


def _throughput(run: Run) -> Chart | None:
    points = run.curve("examples_per_s")
    if not points:
        return None
    middle = statistics.median(y for _, y in points)
    levels = [Level(middle, f"median {wording.rate(middle)}")]
    return Chart(
        "Examples per second",
        _noisy(points),
        from_zero=True,
        levels=levels,
        y_words=wording.rate,
    )


def _gradient(run: Run) -> Chart | None:
    points = run.curve("grad_norm")
    return Chart("Gradient norm", _noisy(points), from_zero=True) if points else None


def _marks(run: Run) -> list[Level]:
    """Where a phase begins and where the run went on after a stop."""
    marks: list[Level] = []
    before = ""
    for event in run.steps:
        phase = text(event.get("phase"))
        if phase and before and phase != before:
            marks.append(Level(whole(event["step"]) or 0, f"phase {phase}"))
        before = phase or before
    resumed = [whole(event.get("step")) for event in run.history if event["event"] == "resume"]
    named = [Level(step, "resumed") for step in resumed if step is not None]
    # The words of many resumes would lie on each other.
    return marks + [Level(mark.value, mark.name if len(named) == 1 else "") for mark in named]
