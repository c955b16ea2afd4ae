"""HTML by hand: everything that comes from outside is escaped here."""

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Control characters, and halves of surrogate pairs, have no place in an HTML file.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


_LONGEST_WORD = 24


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: What the link to it says; its anchor is made from it.
        body: Ready HTML below the heading.
    """

    name: str
    body: str

    def anchor(self) -> str:
        """The section's id in the page.

        Returns:
            Lower-case letters, digits and dashes.
        """
        return re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")


def escape(value: str) -> str:
    """Text as HTML shows it literally, in an element or in an attribute.

    Args:
        value: Any text.

    Returns:
        HTML; what no file may hold is shown as a replacement character.

    Example:
        >>> escape('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(_FORBIDDEN.sub("\ufffd", value), quote=True)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    numeric: Collection[int] = (),
    strong_rows: Collection[int] = (),
) -> str:
    """A table that scrolls sideways inside its own box on a narrow screen.

    Args:
        head: Titles of the columns, as plain text.
        rows: Ready HTML for each cell; the first of a row is its header.
        caption: What the table shows, for those who do not see it.
        numeric: Columns of numbers, which are set flush right.
        strong_rows: Rows to stress.

    Returns:
        HTML.
    """

    def kind(place: int) -> str:
        return ' class="number"' if place in numeric else ""

    titles = "".join(f'<th scope="col"{kind(p)}>{escape(name)}</th>' for p, name in enumerate(head))
    lines: list[str] = []
    for place, row in enumerate(rows):
        cells = [f'<th scope="row"{kind(0)}>{row[0]}</th>']
        cells += [f"<td{kind(p)}>{cell}</td>" for p, cell in enumerate(row) if p]
        stress = ' class="strong"' if place in strong_rows else ""
        lines.append(f"<tr{stress}>{''.join(cells)}</tr>")
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>'
        f'<caption class="unseen">{label}</caption><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def note(body: str, *, kind: str = "") -> str:
    """A paragraph that stands out.

    Args:
        body: Ready HTML.
        kind: "" for a remark, "warning" or "failure".

    Returns:
        HTML.
    """
    return f'<p class="note {kind}">{body}</p>\n'


def code(value: str) -> str:
    """Text in a typewriter face, broken anywhere where it is too long.

    Args:
        value: Any text.

    Returns:
        HTML.
    """
    return f"<code>{escape(value)}</code>" if value else ""


def cell(value: str) -> str:
    """Text for a table's cell: words stay whole, unless they are as long as paths are.

    Args:
        value: Any text.

    Returns:
        HTML.
    """
    is_long = any(len(word) > _LONGEST_WORD for word in value.split())
    return f'<span class="long">{escape(value)}</span>' if is_long else escape(value)


def folded(title: str, body: str) -> str:
    """A part that is closed until it is asked for; printing opens it.

    Args:
        title: What the line to click says, as plain text.
        body: Ready HTML.

    Returns:
        HTML.
    """
    return f"<details><summary>{escape(title)}</summary>{body}</details>\n"
