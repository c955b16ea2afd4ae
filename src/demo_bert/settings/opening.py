"""The first lines of a run: every setting, its value, where it came from, what sets it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from demo_bert.settings.option import Option
from demo_bert.settings.origin import Origin, shown
from demo_bert.settings.recorded import values_of
from demo_bert.settings.table import options_of

if TYPE_CHECKING:
    from demo_bert.settings.typed import Settings

_HEADER = ("setting", "value", "from", "variable")
_GAP = "  "
_MOST_ORIGIN = 20
_LEAST_VALUE = 12


def opening_table(
    command: str, settings: "Settings", origins: Mapping[str, Origin], *, width: int = 100
) -> str:
    """The table of all settings that can be overridden.

    Args:
        command: The command that runs.
        settings: Its settings, filled in as far as they are known.
        origins: Where each came from.
        width: Columns to keep to; a value that is longer makes its own line longer.

    Returns:
        Lines without a line end at the last: name, value, origin, environment variable. Secrets
        are hidden.
    """
    values = values_of(settings)
    rows = [_HEADER] + [
        (
            option.name,
            shown(values[option.name]),
            _where(option, values[option.name], origins.get(option.name, Origin("default"))),
            option.variable,
        )
        for option in options_of(command)
    ]
    columns = [max(len(row[place]) for row in rows) for place in range(4)]
    # One long path must not push the columns of all other lines to the right.
    left = width - columns[0] - columns[3] - 3 * len(_GAP)
    columns[2] = min(columns[2], _MOST_ORIGIN)
    columns[1] = min(columns[1], max(left - columns[2], _LEAST_VALUE))
    lines = [
        _GAP.join(f"{cell:<{columns[place]}}" for place, cell in enumerate(row)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _where(option: Option, value: object, origin: Origin) -> str:
    if value is None:
        return "not set"
    # The name of its own variable stands in the next column.
    return "environment" if origin.where == option.variable else shown(str(origin))
