"""Templates of Wikipedia that hold words of their sentence; all others leave nothing."""

import re
from collections.abc import Callable, Mapping, Sequence

_NAMED = re.compile(r"\s*[\w -]+\s*=")
_NO_TEMPLATE = ""


def text_of_template(content: str) -> str:
    """What a template leaves in the text.

    Args:
        content: Between its braces; templates within are resolved already.

    Returns:
        Its words, or an empty text.

    Example:
        >>> text_of_template("convert|12|km|mi|abbr=on"), text_of_template("Infobox|name=x")
        ('12 km', '')
    """
    name, _, rest = content.partition("|")
    reader = _TEXTS.get(name.strip().lower().replace("_", " "))
    if reader is None:
        return _NO_TEMPLATE
    return reader([part for part in _arguments(rest) if not _NAMED.match(part)])


def _arguments(text: str) -> list[str]:
    """Arguments of a template; a bar within a link separates none."""
    if "[[" not in text:
        return text.split("|")
    parts: list[str] = []
    for part in text.split("|"):
        if parts and parts[-1].count("[[") > parts[-1].count("]]"):
            parts[-1] += f"|{part}"
        else:
            parts.append(part)
    return parts


def _at(place: int) -> Callable[[Sequence[str]], str]:
    def text(parts: Sequence[str]) -> str:
        return parts[place].strip() if len(parts) > place else ""

    return text


def _fixed(text: str) -> Callable[[Sequence[str]], str]:
    return lambda parts: text


def _convert(parts: Sequence[str]) -> str:
    if len(parts) > 3 and parts[1].strip() in ("-", "to", "and", "or", "x", "by"):
        return f"{parts[0].strip()} {parts[1].strip()} {parts[2].strip()} {parts[3].strip()}"
    return " ".join(part.strip() for part in parts[:2])


def _joined(separator: str) -> Callable[[Sequence[str]], str]:
    return lambda parts: separator.join(part.strip() for part in parts if part.strip())


def _prefixed(prefix: str) -> Callable[[Sequence[str]], str]:
    return lambda parts: f"{prefix}{parts[0].strip()}" if parts and parts[0].strip() else ""


def _fraction(parts: Sequence[str]) -> str:
    if len(parts) == 3:
        return f"{parts[0].strip()} {parts[1].strip()}/{parts[2].strip()}"
    return "/".join(part.strip() for part in parts) if len(parts) == 2 else ""


_FIRST, _SECOND, _LAST = _at(0), _at(1), _at(-1)
_TEXTS: Mapping[str, Callable[[Sequence[str]], str]] = {
    **dict.fromkeys(
        (
            "nowrap nobold nobr noitalic small smaller big larger quote blockquote cquote quotation"
            " poemquote ill abbr tooltip em strong var mono smallcaps sc nihongo vanchor center"
        ).split(),
        _FIRST,
    ),
    "no italic": _FIRST,
    "interlanguage link": _FIRST,
    "visible anchor": _FIRST,
    "lang": _SECOND,
    "transl": _LAST,
    "transliteration": _LAST,
    "convert": _convert,
    "cvt": _convert,
    "val": lambda parts: " ".join(part.strip() for part in parts[:1]),
    "frac": _fraction,
    "fraction": _fraction,
    "sfrac": _fraction,
    "circa": _prefixed("c. "),
    "c.": _prefixed("c. "),
    "ca.": _prefixed("c. "),
    "as of": _prefixed("as of "),
    "uss": _prefixed("USS "),
    "hms": _prefixed("HMS "),
    "gaps": _joined(""),
    "formatnum": _FIRST,
    "sic": _FIRST,
    "color": _SECOND,
    "rp": _fixed(""),
    "ndash": _fixed("\u2013"),
    "en dash": _fixed("\u2013"),
    "spaced ndash": _fixed(" \u2013 "),
    "snd": _fixed(" \u2013 "),
    "mdash": _fixed("\u2014"),
    "em dash": _fixed("\u2014"),
    "nbsp": _fixed(" "),
    "spaces": _fixed(" "),
    "'": _fixed("'"),
    "'s": _fixed("'s"),
    "\"'": _fixed("\"'"),
    "'\"": _fixed("'\""),
    "=": _fixed("="),
    "!": _fixed("|"),
    "dot": _fixed("\u00b7"),
}
"""Name in lower case -> what its unnamed arguments become."""
