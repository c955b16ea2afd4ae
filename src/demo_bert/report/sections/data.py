"""Data and weights: where they came from, under which licence, and their hashes."""

from demo_bert.report import wording
from demo_bert.report.fields import finite, items, mapping, text
from demo_bert.report.markup import Section, cell, code, escape, note, table
from demo_bert.report.record import Run

_MOST_NAMES = 20


def section(run: Run) -> Section | None:
    """What the model was made of.

    Args:
        run: Any run.

    Returns:
        The section; None where neither file says anything.
    """
    body = _data(run) + _weights(run)
    return Section("Data and weights", body) if body else None


def _data(run: Run) -> str:
    data = run.data()
    counts = mapping(data.get("counts")).items()
    facts = [
        ("Data", text(data.get("name")) + (" (embedded sample)" if run.is_sample() else "")),
        ("Source", text(data.get("source"))),
        ("Licence", text(data.get("licence"))),
        ("Examples", ", ".join(f"{_count(value)} {name}" for name, value in counts)),
    ]
    files = [mapping(entry) for entry in items(data.get("files"))]
    rows = [
        [
            cell(text(file.get("path"))),
            _size(file.get("size_bytes")),
            code(text(file.get("sha256"))),
        ]
        for file in files
    ]
    listed = table(["File", "Size", "SHA-256"], rows, caption="Files", numeric={1}) if rows else ""
    return _facts(facts) + listed if data else ""


def _weights(run: Run) -> str:
    start = mapping(run.about.get("init_checkpoint"))
    if not start:
        return ""
    body = _facts(
        [
            ("Starting weights", text(start.get("name"))),
            ("Source", text(start.get("source"))),
            ("Licence", text(start.get("licence"))),
            ("SHA-256", text(start.get("sha256"))),
        ]
    )
    for key, words in (("missing", "made at random"), ("unexpected", "not used")):
        names = [text(name) for name in items(start.get(key))]
        if names:
            shown = ", ".join(map(code, names[:_MOST_NAMES]))
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            count = wording.count(len(names), "tensor")
            body += note(f"{count} {words} ({key} in the weights): {shown}{more}.")
    return body


def _facts(facts: list[tuple[str, str]]) -> str:
    lines = [
        f"<div><dt>{name}</dt><dd>{code(value) if name == 'SHA-256' else escape(value)}</dd></div>"
        for name, value in facts
        if value.strip()
    ]
    return f'<dl class="facts">{"".join(lines)}</dl>' if lines else ""


def _count(value: object) -> str:
    found = finite(value)
    return text(value) if found is None else f"{found:,.0f}"


def _size(value: object) -> str:
    found = finite(value)
    return "" if found is None else wording.size(found)
