"""The confusion matrix of the last evaluation, with what each class reached."""

from demo_bert.report import wording
from demo_bert.report.markup import Section, escape, table
from demo_bert.report.record import Evaluation, Run

_MOST_CLASSES = 16
_MOST_PAIRS = 20


def section(run: Run) -> Section | None:
    """The matrix, or for many classes the most frequent confusions.

    Args:
        run: Any run.

    Returns:
        The section; None where the task has no confusion matrix.
    """
    last = run.last_evaluation()
    if last is None or not last.confusion:
        return None
    body = _matrix(last) if len(last.labels) <= _MOST_CLASSES else _pairs(last)
    lede = (
        f"<p>{wording.count(last.num_examples(), 'example')} of {escape(last.split)}, after step "
        f"{last.step:,}. Shares are of the row: of the examples that truly have the label.</p>"
    )
    columns = f'<div class="columns"><div>{body}</div><div>{_classes(last)}</div></div>'
    return Section("Confusion matrix", lede + columns)


def _matrix(last: Evaluation) -> str:
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in last.labels)
    rows: list[str] = []
    for place, counts in enumerate(last.confusion):
        total = sum(counts)
        cells = "".join(
            _cell(count, total, is_right=column == place) for column, count in enumerate(counts)
        )
        rows.append(
            f'<tr><th scope="row">{escape(last.labels[place])}</th>{cells}'
            f'<td class="sum">{total:,}</td></tr>'
        )
    sums = "".join(
        f'<td class="sum">{sum(column):,}</td>' for column in zip(*last.confusion, strict=True)
    )
    return (
        '<div class="scroll" role="region" aria-label="Confusion matrix" tabindex="0">'
        '<table class="confusion"><caption class="unseen">Rows are gold labels, columns are '
        "predictions</caption><thead><tr><td></td>"
        f'<th scope="colgroup" colspan="{len(last.labels)}">predicted</th><td></td></tr>'
        f'<tr><th scope="col" class="corner">gold</th>{head}'
        f'<th scope="col" class="sum">all</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        f'<tfoot><tr><th scope="row" class="sum">all</th>{sums}'
        f'<td class="sum">{last.num_examples():,}</td></tr></tfoot></table></div>'
    )


def _cell(count: int, total: int, *, is_right: bool) -> str:
    share = count / total if total else 0.0
    kind = "right" if is_right else "wrong"
    words = f"{100 * share:.1f} %" if total else "&ndash;"
    return (
        f'<td class="cell {kind}" style="--share:{share:.3f}"><b>{count:,}</b>'
        f"<span>{words}</span></td>"
    )


def _pairs(last: Evaluation) -> str:
    found = [
        (count, gold, predicted)
        for gold, counts in enumerate(last.confusion)
        for predicted, count in enumerate(counts)
        if gold != predicted and count
    ]
    found.sort(key=lambda entry: (-entry[0], entry[1:]))
    rows = [
        [
            escape(last.labels[gold]),
            escape(last.labels[predicted]),
            f"{count:,}",
            f"{100 * count / sum(last.confusion[gold]):.1f} %",
        ]
        for count, gold, predicted in found[:_MOST_PAIRS]
    ]
    head = ["Gold", "Predicted", "Count", "Share"]
    return table(head, rows, caption="The most frequent confusions", numeric={2, 3})


def _classes(last: Evaluation) -> str:
    rows: list[list[str]] = []
    columns = [sum(column) for column in zip(*last.confusion, strict=True)]
    for place, label in enumerate(last.labels):
        right, gold, predicted = (
            last.confusion[place][place],
            sum(last.confusion[place]),
            columns[place],
        )
        values = (
            _ratio(right, predicted),
            _ratio(right, gold),
            _ratio(2 * right, gold + predicted),
        )
        rows.append([escape(label), *values, f"{gold:,}"])
    head = ["Class", "Precision", "Recall", "F1", "Examples"]
    return table(head, rows, caption="Precision, recall and F1 of each class", numeric=range(1, 5))


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "&ndash;"
