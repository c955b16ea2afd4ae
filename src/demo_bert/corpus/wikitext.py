"""MediaWiki's markup to paragraphs of plain text.

Templates, tables, references, files, formulas and navigation go; links, quotations and the few
templates that hold words of the sentence leave their text. A heading is a boundary: no paragraph
goes beyond it, and its words are left out. Of lists only items that are sentences stay.
"""

import html
import re
from collections.abc import Iterator

from demo_bert.corpus.document import Paragraphs
from demo_bert.corpus.inline_templates import text_of_template

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# What begins with one fixed character is found several times as fast as what does not.
_REFERENCE = re.compile(
    r"<(?:[rR]ef\b[^<>]*?/>"
    r"|[rR][eE][fF]\b[^<>]*>[^<]*(?:<(?!/[rR][eE][fF]\s*>)[^<]*)*</[rR][eE][fF]\s*>)"
)
_ELEMENTS = (
    "math|gallery|score|timeline|syntaxhighlight|source|pre|imagemap|hiero|chem|ce|graph|mapframe"
    "|templatestyles|table|div|references|noinclude|code"
)
_ELEMENT = re.compile(
    rf"<({_ELEMENTS})\b[^<>]*?(?:/>|>(?:(?!<\1\b).)*?</\1\s*>)", re.DOTALL | re.IGNORECASE
)
_BREAK = re.compile(r"<(?:br|p|/p|hr|li|/li|/?blockquote|/?poem)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,400}>")
_TEMPLATE = re.compile(r"\{\{([^{}]*+)\}\}")
_WEB_LINK = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\]]+[ \t]*([^\]\n]*)\]", re.IGNORECASE)
_LINK_START = re.compile(r"\[(?=\[)")
_PLAIN_LINK = re.compile(r"\[\[(?:[^\[\]|:]*\|)?([^\[\]|:]+)\]\]")
_LINK = re.compile(r"\[\[((?!\[)(?:[^\[\]]++|\[(?!\[)|\](?!\]))*+)\]\]")
_DROPPED_LINK = re.compile(
    r"\s*(?:file|image|category|media|template|portal|draft|help|wikipedia|wp|user|module|special"
    r"|bild|datei|kategorie|fichier|imagen|archivo|immagine|[a-z]{2,3}(?:-[a-z]+)*)\s*:",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"'''{0,3}")
_SWITCH = re.compile(r"__[A-Z]+__")
_HEADING = re.compile(r"(={1,6})\s*(.*?)\s*\1\s*")
_BARE_ADDRESS = re.compile(r"http(?<=\bhttp)s?://\S+")
_EMPTY_BRACKETS = re.compile(r"\(\s*(?:[,;:]\s*)*\)|\[\s*\]")
_BRACKET_START = re.compile(r"\((?:\s+|(?:\s*[,;:])+\s*)")
_BRACKET_END = re.compile(r"\s*(?:[,;]\s*)+\)")
_EMPTY_ITEMS = re.compile(r"(?:\s*,){2,}")
_SPACE_BEFORE = re.compile(r" +([,.;:!?)](?:\s|$))")
_HOLE = re.compile(r"[,.;:!?)\]](?<=[ (\[,;].)")
_SENTENCE_END = (".", "!", "?", '."', '!"', '?"')
_LEAST_ITEM_WORDS = 8
_MOST_PASSES = 40

END_SECTIONS = frozenset(
    (
        "references",
        "external links",
        "see also",
        "further reading",
        "notes",
        "bibliography",
        "sources",
        "citations",
        "footnotes",
        "notes and references",
        "references and notes",
        "works cited",
        "literature",
        "discography",
        "filmography",
        "gallery",
        "explanatory notes",
    )
)
"""Headings, in lower case, of sections that are no prose."""


def paragraphs_of(markup: str) -> Paragraphs:
    """The prose of a page.

    Args:
        markup: Its source, XML entities resolved.

    Returns:
        Paragraphs without markup, each on one line; empty where the page has no prose.

    Example:
        >>> paragraphs_of("'''Rain''' is [[liquid water|water]]{{cite}}.<ref>X</ref>")
        ['Rain is water.']
    """
    text = _without_elements(markup)
    text = _without_templates(text)
    text = _plain_links(text)
    if "<" in text:
        text = _TAG.sub("", _BREAK.sub("\n", text))
    text = _QUOTES.sub("", text)
    if "__" in text:
        text = _SWITCH.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    return _tidied(_prose_lines(text))


def _without_elements(text: str) -> str:
    if "<!--" in text:
        text = _COMMENT.sub("", text)
    if "<" not in text:
        return text
    text = _REFERENCE.sub("", text)
    for _ in range(3):
        shorter = _ELEMENT.sub("", text)
        if len(shorter) == len(text):
            break
        text = shorter
    return text


def _without_templates(text: str) -> str:
    """Templates from the innermost out, then tables and what is not balanced."""
    for _ in range(_MOST_PASSES):
        if "{" not in text:
            return text
        text, count = _TEMPLATE.subn(_template, text)
        if not count:
            break
    return _without_tables(text) if "{" in text else text


def _template(match: re.Match[str]) -> str:
    return text_of_template(match[1])


def _without_tables(text: str) -> str:
    kept: list[str] = []
    open_marks: list[str] = []
    begin = last = 0
    for mark, last, end in _braces(text):
        if mark in ("{{", "{|"):
            if not open_marks:
                kept.append(text[begin:last])
            open_marks.append(mark)
        elif open_marks:
            wanted = "{{" if mark == "}}" else "{|"
            if wanted in open_marks:
                while open_marks.pop() != wanted:
                    pass
                if not open_marks:
                    begin = end
    if not open_marks:
        return "".join((*kept, text[begin:]))
    # Never closed: what follows the paragraph of the last mark is taken for text again.
    gap = text.find("\n\n", last)
    return "".join((*kept, text[gap:] if gap >= 0 else ""))


def _braces(text: str) -> Iterator[tuple[str, int, int]]:
    """Each mark of a template or table, its begin and its end; a table's is first on its line."""
    end = 0
    for at in sorted((*_places(text, "{"), *_places(text, "}"))):
        if at < end:
            continue
        pair = text[at : at + 2]
        begin = None
        if pair == "{|":
            begin = _line_start(text, at, after=end, also=":")
        elif pair in ("{{", "}}"):
            begin = at
        if at > end and text[at - 1 : at + 1] == "|}":
            if (line_start := _line_start(text, at - 1, after=end)) is not None:
                pair, begin = "|}", line_start
        if begin is not None:
            end = at + (1 if pair == "|}" else 2)
            yield pair, begin, end


def _places(text: str, character: str) -> Iterator[int]:
    at = text.find(character)
    while at >= 0:
        yield at
        at = text.find(character, at + 1)


def _line_start(text: str, at: int, *, after: int, also: str = "") -> int | None:
    """Where a line begins from which white space, or `also`, alone leads to a place."""
    begin = at
    while begin > after and (text[begin - 1].isspace() or text[begin - 1] in also):
        begin -= 1
    if begin and text[begin - 1] != "\n":
        return text.find("\n", begin, at) + 1 or None
    return begin


def _plain_links(text: str) -> str:
    """The text of links, from the innermost out."""
    if "//" in text:
        text = _WEB_LINK.sub(r"\1", text)
    # Most links are words, or a target and words: these are split off without a call for each.
    text = "".join(_PLAIN_LINK.split(text))
    for _ in range(_MOST_PASSES):
        if _LINK_START.search(text) is None:
            break
        text, count = _LINK.subn(_link, text)
        if not count:
            break
    return text.replace("[[", "").replace("]]", "")


def _link(match: re.Match[str]) -> str:
    target, bar, label = match[1].partition("|")
    if ":" in target:
        if target.startswith(":"):
            target = target[1:]
        elif _DROPPED_LINK.match(target):
            return ""
    if not bar:
        return target
    return label.rpartition("|")[2] or target.partition("(")[0].rpartition(":")[2].strip()


def _prose_lines(text: str) -> Paragraphs:
    """Lines that are prose; sections at the end of a page are left out."""
    kept: Paragraphs = []
    left_out = 0
    for line in text.split("\n"):
        line = line.strip()
        if not line:
            continue
        first = line[0]
        if first == "=" and (heading := _HEADING.fullmatch(line)):
            level = len(heading[1])
            if left_out and level <= left_out:
                left_out = 0
            if not left_out and heading[2].lower() in END_SECTIONS:
                left_out = level
            continue
        if left_out or first in "|!{}":
            continue
        if first in "*#;:":
            line = line.lstrip("*#:; ")
            if not (line.endswith(_SENTENCE_END) and line.count(" ") >= _LEAST_ITEM_WORDS):
                continue
        kept.append(line)
    return kept


def _tidied(lines: Paragraphs) -> Paragraphs:
    """Lines without the holes that markup left; those that are empty then are left out."""
    tidy: Paragraphs = []
    for line in lines:
        if "http" in line:
            line = _BARE_ADDRESS.sub("", line)
        # White space other than single spaces is no printable character.
        if "  " in line or not line.isprintable():
            line = " ".join(line.split())
        # Single characters are looked for first: they are found many times as fast as two.
        has_start = ("(" in line and "( " in line) or ("[" in line and "[ " in line)
        line = _without_holes(line) if has_start or _HOLE.search(line) else line.strip()
        if line:
            tidy.append(line)
    return tidy


def _without_holes(line: str) -> str:
    if "(" in line or "[" in line:
        line = _BRACKET_START.sub("(", _EMPTY_BRACKETS.sub("", line))
        if " )" in line or ",)" in line or ";)" in line:
            line = _BRACKET_END.sub(")", line)
    if ",," in line or ", ," in line:
        line = _EMPTY_ITEMS.sub(",", line)
    return " ".join(_SPACE_BEFORE.sub(r"\1", line).split())
