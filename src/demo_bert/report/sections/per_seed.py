"""The runs of `--seeds N`: the scores of each, mean and deviation, and all curves together."""

from urllib.parse import quote

from demo_bert.report import wording
from demo_bert.report.fields import items, mapping, numbers, text
from demo_bert.report.markup import Section, escape, note, table
from demo_bert.report.record import Run
from demo_bert.report.sections.curves import smoothing_window
from demo_bert.report.series import Point, smoothed
from demo_bert.report.svg import Chart, Series, figure


def section(run: Run) -> Section | None:
    """The table of seeds and their overlaid curves.

    Args:
        run: Any run.

    Returns:
        The section; None for a run of one seed.
    """
    scores = _scores(run)
    if not scores:
        return None
    collapsed = [text(seed) for seed in items(run.results.get("collapsed"))]
    body = _table(run, scores, collapsed)
    if collapsed:
        body += note(
            f"Seed {escape(', '.join(collapsed))}: the model always gives the majority class. The "
            "mean and the deviation include it.",
            kind="warning",
        )
    charts = [_losses(run), *_validations(run)]
    body += f'<div class="charts">{"".join(map(figure, charts))}</div>'
    return Section("Seeds", body)


def _scores(run: Run) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for entry in map(mapping, items(run.results.get("per_seed"))):
        found[text(entry.get("seed"))] = numbers(entry.get("metrics")) or {
            key: value for key, value in numbers(entry).items() if key != "seed"
        }
    if not found:
        found = {_name(seed): seed.metrics() for seed in run.seeds}
    return found


def _table(run: Run, scores: dict[str, dict[str, float]], collapsed: list[str]) -> str:
    keys = list(dict.fromkeys(key for metrics in scores.values() for key in metrics))
    known = {_name(seed) for seed in run.seeds}
    rows: list[list[str]] = []
    for name, metrics in scores.items():
        cells = [wording.score(metrics[key]) if key in metrics else "" for key in keys]
        page = f'<a href="seed-{quote(name)}/report.html">page</a>' if name in known else ""
        remark = "majority class only" if name in collapsed else ""
        rows.append([escape(name), *cells, remark, page])
    sums = (("mean", run.results.get("metrics")), ("deviation", run.results.get("metrics_std")))
    for name, source in sums:
        values = numbers(source)
        cells = [wording.score(values[key]) if key in values else "" for key in keys]
        rows += [[name, *cells, "", ""]] if values else []
    head = ["Seed", *map(wording.capital, keys), "", ""]
    strong = [place for place, row in enumerate(rows) if row[0] == "mean"]
    numeric = range(1, 1 + len(keys))
    return table(head, rows, caption="Scores of each seed", numeric=numeric, strong_rows=strong)


def _losses(run: Run) -> Chart:
    series: list[Series] = []
    for colour, seed in enumerate(run.seeds):
        points = seed.curve("loss")
        window = smoothing_window(len(points))
        series.append(Series(f"seed {_name(seed)}", smoothed(points, window=window), colour=colour))
    return Chart("Training loss, smoothed", series)


def _validations(run: Run) -> list[Chart]:
    curves: dict[str, list[Series]] = {}
    for colour, seed in enumerate(run.seeds):
        points: dict[str, list[Point]] = {}
        for entry in seed.evaluations:
            for key, value in entry.metrics.items():
                name = f"{entry.split}, {wording.metric_name(key)}"
                points.setdefault(name, []).append((entry.step, value))
        for name, curve in points.items():
            line = Series(f"seed {_name(seed)}", curve, style="dots", colour=colour)
            curves.setdefault(name, []).append(line)
    return [
        Chart(name[:1].upper() + name[1:], series, y_words=wording.score)
        for name, series in curves.items()
    ]


def _name(seed: Run) -> str:
    return seed.directory.name.removeprefix("seed-")
