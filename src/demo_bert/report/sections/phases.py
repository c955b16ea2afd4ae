"""Phases of pre-training: what each was trained with, and what it reached."""

from demo_bert.report import wording
from demo_bert.report.fields import finite, items, mapping, numbers, text
from demo_bert.report.markup import Section, escape, table
from demo_bert.report.record import Run

_COLUMNS = (
    ("steps", "Steps"),
    ("max_seq_length", "Tokens per example"),
    ("global_batch_size", "Examples per step"),
    ("learning_rate", "Learning rate"),
)


def section(run: Run) -> Section | None:
    """The table of phases.

    Args:
        run: Any run.

    Returns:
        The section; None for a run without phases.
    """
    found = [mapping(entry) for entry in items(mapping(run.results.get("metrics")).get("phases"))]
    if not found:
        return None
    scores = [numbers(phase.get("metrics")) for phase in found]
    keys = list(dict.fromkeys(key for metrics in scores for key in metrics))
    head = ["Phase", *(name for _, name in _COLUMNS), *map(wording.capital, keys)]
    rows: list[list[str]] = []
    for phase, metrics in zip(found, scores, strict=True):
        values = [finite(phase.get(key)) for key, _ in _COLUMNS]
        cells = ["" if value is None else f"{value:,.6g}" for value in values]
        cells += [wording.score(metrics[key]) if key in metrics else "" for key in keys]
        rows.append([escape(text(phase.get("name"))), *cells])
    body = table(head, rows, caption="Phases of pre-training", numeric=range(1, len(head)))
    return Section("Phases", body)
