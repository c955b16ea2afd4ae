"""Several runs side by side: a table for the terminal, and a page with their curves together."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_bert.files import write_text
from demo_bert.report import wording
from demo_bert.report.fields import finite, items, mapping, text
from demo_bert.report.heading import title
from demo_bert.report.markup import Section, cell, code, escape, note, table
from demo_bert.report.page import document
from demo_bert.report.record import Run
from demo_bert.report.sections.curves import smoothing_window
from demo_bert.report.series import Point, smoothed
from demo_bert.report.svg import Chart, Series, figure

PAGE_NAME = "comparison.html"
_FACTS = ("task", "model", "dtype", "device", "seed", "status")
_NOT_COMPARED = ("output_dir",)


def write_comparison(runs: Sequence[Run], output: Path) -> Path:
    """Writes the page that compares runs.

    Args:
        runs: Two or more.
        output: The page; a directory gets `comparison.html`.

    Returns:
        The page's path.

    Raises:
        DiskError: The page cannot be written.
    """
    path = output / PAGE_NAME if output.is_dir() else output
    sections = [made for section in SECTIONS if (made := section(runs)) is not None]
    names = ", ".join(labels(runs))
    again = f"demo_bert report {' '.join(labels(runs))}"
    name = f"{wording.count(len(runs), 'run')} compared"
    heading = (
        f'<p class="eyebrow">demo_bert report</p><h1>{name}</h1>'
        f'<p class="lede">{escape(names)}</p>{_warnings(runs)}'
    )
    write_text(path, document(name, heading=heading, sections=sections, again=again))
    return path


def comparison_lines(runs: Sequence[Run]) -> list[str]:
    """The comparison as plain text.

    Args:
        runs: Two or more.

    Returns:
        Lines of a table with aligned columns, and a line for each thing to be careful about.
    """
    figures = _Figures.of(runs)
    grid = [figures.head, *figures.rows]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [f"all runs: {figures.shared}"] if figures.shared else []
    for row in grid:
        cells = [
            entry.rjust(width) if place in figures.numeric else entry.ljust(width)
            for place, (entry, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines + [f"note: {remark}" for remark in _remarks(runs)]


def labels(runs: Sequence[Run]) -> list[str]:
    """Short names of runs.

    Args:
        runs: Any runs.

    Returns:
        Their directories' names, with as many parents as tell them apart.

    Example:
        >>> labels([Run(Path("a/out")), Run(Path("b/out"))])
        ['a/out', 'b/out']
    """
    parts = [Path(os.path.abspath(run.directory)).parts for run in runs]
    for depth in range(1, max(map(len, parts), default=1)):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(run.directory) for run in runs]


@dataclass(frozen=True)
class _Figures:
    """The table of runs: what all share is said once, not in every row."""

    shared: str
    head: list[str]
    rows: list[list[str]]
    numeric: range
    """The columns of numbers; those before them are words."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "_Figures":
        facts = {
            fact: [run.status() if fact == "status" else run.setting(fact) for run in runs]
            for fact in _FACTS
        }
        kept = [fact for fact, values in facts.items() if len(set(values)) > 1]
        shared = [f"{f} {v[0]}" for f, v in facts.items() if f not in kept and v[0]]
        metrics = [run.metrics() for run in runs]
        keys = list(dict.fromkeys(key for found in metrics for key in found))
        names = map(wording.metric_name, keys)
        head = ["run", *kept, "steps", *names, "examples/s", "wall time"]
        rows: list[list[str]] = []
        for place, (name, run) in enumerate(zip(labels(runs), runs, strict=True)):
            found = metrics[place]
            scores = [wording.score(found[key]) if key in found else "-" for key in keys]
            rows.append([name, *(facts[fact][place] for fact in kept), *_pace(run, scores)])
        return cls(", ".join(shared), head, rows, range(1 + len(kept), len(head)))


def _pace(run: Run, scores: list[str]) -> list[str]:
    """The columns of numbers of a run."""
    steps = finite(run.results.get("steps"))
    pace = finite(mapping(run.results.get("throughput")).get("examples_per_s"))
    wall_s = finite(run.results.get("wall_s"))
    return [
        f"{len(run.steps) if steps is None else steps:,.0f}",
        *scores,
        "-" if pace is None else wording.rate(pace),
        "-" if wall_s is None else wording.duration(wall_s),
    ]


def _remarks(runs: Sequence[Run]) -> list[str]:
    found: list[str] = []
    tasks = sorted({run.setting("task") for run in runs if run.setting("task")})
    if len(tasks) > 1:
        found.append(f"different tasks ({', '.join(tasks)}): their scores do not compare")
    names = zip(labels(runs), runs, strict=True)
    samples = [name for name, run in names if run.is_sample()]
    if samples:
        found.append(f"embedded sample data, not the real task: {', '.join(samples)}")
    return found


def _warnings(runs: Sequence[Run]) -> str:
    return "".join(
        note(escape(remark[:1].upper() + remark[1:] + "."), kind="warning")
        for remark in _remarks(runs)
    )


def _results(runs: Sequence[Run]) -> Section:
    figures = _Figures.of(runs)
    cells = [[cell(entry) for entry in row] for row in figures.rows]
    titles = [name[:1].upper() + name[1:] for name in figures.head]
    shared = f"<p>All runs: {escape(figures.shared)}.</p>" if figures.shared else ""
    rows = table(titles, cells, caption="Results of each run", numeric=figures.numeric)
    return Section("Results", shared + rows)


def _differences(runs: Sequence[Run]) -> Section | None:
    found = [_settings(run) for run in runs]
    names = list(dict.fromkeys(name for settings in found for name in settings))
    rows = [
        [code(name), *(cell(settings.get(name, "-")) for settings in found)]
        for name in names
        if name not in _NOT_COMPARED and len({settings.get(name) for settings in found}) > 1
    ]
    if not rows:
        return None
    body = table(["Setting", *labels(runs)], rows, caption="Settings that differ")
    return Section("Settings that differ", body)


def _settings(run: Run) -> dict[str, str]:
    entries = map(mapping, items(run.about.get("settings")))
    return {text(entry.get("name")): text(entry.get("value")) for entry in entries}


def _curves(runs: Sequence[Run]) -> Section | None:
    charts = [
        _overlay(runs, "loss", title="Training loss, smoothed"),
        *_scores(runs),
        _overlay(runs, "examples_per_s", title="Examples per second, smoothed"),
    ]
    body = "".join(map(figure, charts))
    return Section("Curves", f'<div class="charts">{body}</div>') if body else None


def _overlay(runs: Sequence[Run], key: str, *, title: str) -> Chart:
    series: list[Series] = []
    for colour, (name, run) in enumerate(zip(labels(runs), runs, strict=True)):
        source = (run.seeds or (run,))[0]
        points = source.curve(key)
        window = smoothing_window(len(points))
        if points:
            series.append(Series(name, smoothed(points, window=window), colour=colour))
    return Chart(title, series, from_zero=key != "loss")


def _scores(runs: Sequence[Run]) -> list[Chart]:
    curves: dict[str, list[Series]] = {}
    for colour, (name, run) in enumerate(zip(labels(runs), runs, strict=True)):
        points: dict[str, list[Point]] = {}
        for entry in (run.seeds or (run,))[0].evaluations:
            key = wording.main_metric(entry.metrics)
            if key is not None:
                metric = f"{entry.split}, {wording.metric_name(key)}"
                points.setdefault(metric, []).append((entry.step, entry.metrics[key]))
        for metric, curve in points.items():
            line = Series(name, curve, style="dots", colour=colour)
            curves.setdefault(metric, []).append(line)
    return [
        Chart(name[:1].upper() + name[1:], series, y_words=wording.score)
        for name, series in curves.items()
    ]


def _pages(runs: Sequence[Run]) -> Section:
    rows = [
        [cell(name), escape(title(run)), code(str(run.directory))]
        for name, run in zip(labels(runs), runs, strict=True)
    ]
    return Section("Runs", table(["Run", "What", "Directory"], rows, caption="Where the runs lie"))


SECTIONS: tuple[Callable[[Sequence[Run]], Section | None], ...] = (
    _results,
    _differences,
    _curves,
    _pages,
)
"""In the page's order; a function gives None where the runs have nothing for it."""
