"""Fields of JSON that other versions wrote or a stopped run left out: typed, never an error."""

import math
from typing import cast

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BEYOND_64_BITS = 2**63


def number(value: object) -> float | None:
    """The value as a number.

    Args:
        value: A field of an event or of a JSON file; "NaN", "Infinity" and "-Infinity" stand for
            what JSON has no number for.

    Returns:
        The number, which may be not finite; None for anything else.

    Example:
        >>> number(3), number("NaN"), number("3"), number(True)
        (3.0, nan, None, None)
    """
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf if value > 0 else -math.inf


def finite(value: object) -> float | None:
    """The value as a finite number.

    Args:
        value: A field of an event or of a JSON file.

    Returns:
        The number; None for anything else, and for what is not finite.
    """
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def whole(value: object) -> int | None:
    """The value as an integer.

    Args:
        value: A field of an event or of a JSON file.

    Returns:
        The integer; None for anything else, for numbers with a fraction, and beyond 64 bits.
    """
    found = finite(value)
    if found is None or abs(found) >= _BEYOND_64_BITS or found != int(found):
        return None
    return int(found)


def text(value: object) -> str:
    """The value as text.

    Args:
        value: A field of an event or of a JSON file.

    Returns:
        Strings as they are, "" for None, yes or no for booleans, everything else by `str`.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def mapping(value: object) -> dict[str, object]:
    """The value as an object of JSON.

    Args:
        value: A field of an event or of a JSON file.

    Returns:
        The object; an empty one for anything else.
    """
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The value as an array of JSON.

    Args:
        value: A field of an event or of a JSON file.

    Returns:
        The array; an empty one for anything else.
    """
    return cast("list[object]", value) if isinstance(value, list) else []


def numbers(value: object) -> dict[str, float]:
    """The finite numbers of an object of JSON, as `metrics` is one.

    Args:
        value: A field of an event or of a JSON file.

    Returns:
        Name and number, in the object's order.
    """
    found = {name: finite(entry) for name, entry in mapping(value).items()}
    return {name: entry for name, entry in found.items() if entry is not None}
