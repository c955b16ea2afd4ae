"""Scores: every evaluation of the run, the last one stressed."""

from demo_bert.report import wording
from demo_bert.report.baseline import majority
from demo_bert.report.markup import Section, escape, table
from demo_bert.report.record import Evaluation, Run

_MOST_ROWS = 60


def section(run: Run) -> Section | None:
    """The table of scores.

    Args:
        run: Any run.

    Returns:
        The section; None for a run without an evaluation.
    """
    if not run.evaluations:
        return None
    keys = list(dict.fromkeys(key for entry in run.evaluations for key in entry.metrics))
    head = ["After step", "Split", "Loss", *map(wording.capital, keys), "Time"]
    shown = run.evaluations[-_MOST_ROWS:]
    rows = [_row(entry, keys) for entry in shown]
    last = run.last_evaluation()
    strong = [place for place, entry in enumerate(shown) if entry is last]
    baseline = majority(last)
    if baseline is not None:
        values = [baseline.value(key) for key in keys]
        cells = ["&ndash;" if value is None else wording.score(value) for value in values]
        rows.append(
            ["&ndash;", f"majority class (\u201c{escape(baseline.label)}\u201d)", "", *cells, ""]
        )
    left_out = len(run.evaluations) - len(shown)
    numeric = {0, *range(2, len(head))}
    body = table(
        head, rows, caption="Scores of each evaluation", numeric=numeric, strong_rows=strong
    )
    if left_out:
        body += f'<p class="small">{wording.count(left_out, "earlier evaluation")} not shown.</p>'
    return Section("Scores", body)


def _row(entry: Evaluation, keys: list[str]) -> list[str]:
    scores = [wording.score(entry.metrics[key]) if key in entry.metrics else "" for key in keys]
    loss = "" if entry.loss is None else wording.score(entry.loss)
    seconds = "" if entry.seconds is None else f"{entry.seconds:.1f} s"
    return [f"{entry.step:,}", escape(entry.split), loss, *scores, seconds]
