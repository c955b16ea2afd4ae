"""Stages of a pipeline: what each did, how long it took, and where its own page is."""

from demo_bert.report import wording
from demo_bert.report.fields import finite, items, mapping, numbers, text, whole
from demo_bert.report.markup import Section, escape, table
from demo_bert.report.record import Run


def section(run: Run) -> Section | None:
    """The table of stages.

    Args:
        run: Any run.

    Returns:
        The section; None for a run that is no pipeline.
    """
    found = [mapping(entry) for entry in items(run.results.get("stages"))]
    if not found:
        return None
    rows = [_row(entry) for entry in found]
    head = ["Stage", "Status", "Work", "Wall time", "Figures", "Page"]
    return Section("Stages", table(head, rows, caption="Stages of the pipeline", numeric=(3,)))


def _row(entry: dict[str, object]) -> list[str]:
    steps, wall_s = whole(entry.get("steps")), finite(entry.get("wall_s"))
    tokens = whole(mapping(entry.get("data")).get("tokens"))
    work = "" if steps is None else wording.count(steps, "step")
    if tokens is not None and not work:
        work = f"{tokens:,} tokens"
    figures = [
        f"{escape(wording.metric_name(key))} {wording.score(value)}"
        for key, value in numbers(entry.get("metrics")).items()
    ]
    page = f"{text(entry.get('directory'))}/report.html"
    return [
        escape(text(entry.get("name"))),
        escape(text(entry.get("status"))),
        escape(work),
        "" if wall_s is None else wording.duration(wall_s),
        "<br>".join(figures),
        "" if steps is None else f'<a href="{escape(page)}">{escape(page)}</a>',
    ]
