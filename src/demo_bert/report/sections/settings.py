"""Settings: value, where it came from, and the environment variable that sets it."""

from demo_bert.report.fields import items, mapping, text
from demo_bert.report.markup import Section, cell, code, folded, table
from demo_bert.report.record import Run

_DEFAULTS = ("default", "recipe")


def section(run: Run) -> Section | None:
    """The settings that somebody gave, and all others folded away.

    Args:
        run: Any run.

    Returns:
        The section; None where `run.json` is missing.
    """
    entries = [mapping(entry) for entry in items(run.about.get("settings"))]
    argv = " ".join(text(word) for word in items(run.about.get("argv")))
    body = f"<p>Started with {code(argv)}</p>" if argv else ""
    given = [entry for entry in entries if not _is_default(entry)]
    rest = [entry for entry in entries if _is_default(entry)]
    if given:
        body += _table(given, caption="Settings that were given")
    if rest:
        title = f"{len(rest)} more settings, as the recipe has them"
        body += folded(title, _table(rest, caption="Settings by default"))
    model = mapping(run.about.get("model_config"))
    if model:
        rows = [[code(name), cell(text(value))] for name, value in model.items()]
        config = table(["Name", "Value"], rows, caption="Model configuration")
        body += folded("Model configuration", config)
    return Section("Settings", body) if body else None


def _is_default(entry: dict[str, object]) -> bool:
    return text(entry.get("source")).lower().startswith(_DEFAULTS)


def _table(entries: list[dict[str, object]], *, caption: str) -> str:
    rows = [
        [
            code(text(entry.get("name"))),
            cell(_words(entry.get("value"))),
            cell(text(entry.get("source"))),
            code(text(entry.get("variable"))),
        ]
        for entry in entries
    ]
    return table(["Name", "Value", "From", "Variable"], rows, caption=caption)


def _words(value: object) -> str:
    found = items(value)
    return " ".join(map(text, found)) if found else "" if value == [] else text(value)
