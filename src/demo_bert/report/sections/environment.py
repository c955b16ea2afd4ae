"""Versions and hardware: where the numbers of this page were measured."""

from demo_bert.report.fields import items, mapping, text
from demo_bert.report.markup import Section, cell, escape, table
from demo_bert.report.record import Run

_KINDS = (("hardware", "Hardware"), ("versions", "Versions"))


def section(run: Run) -> Section | None:
    """Two tables, hardware and versions.

    Args:
        run: Any run.

    Returns:
        The section; None where `run.json` is missing.
    """
    tables: list[str] = []
    for key, title in _KINDS:
        rows = [[escape(name), cell(value)] for name, value in _flat(mapping(run.about.get(key)))]
        if rows:
            tables.append(f"<div>{table([title, ''], rows, caption=title)}</div>")
    return (
        Section("Environment", f'<div class="columns">{"".join(tables)}</div>') if tables else None
    )


def _flat(entries: dict[str, object], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in entries.items():
        label = before + name.replace("_", " ")
        if mapping(value):
            found += _flat(mapping(value), f"{label}, ")
        elif items(value):
            found.append((label, ", ".join(map(text, items(value)))))
        elif value not in ({}, []):
            found.append((label, "unknown" if value is None else text(value)))
    return found
