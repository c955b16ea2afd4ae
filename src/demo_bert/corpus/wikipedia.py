"""Wikipedia's XML dumps: `--wikipedia`, plain, packed, or multistream bzip2.

A dump is cut at its `<page>` marks as bytes, which cannot occur within a page's text; so a damaged
page costs itself alone, no entity is ever expanded but the five of XML, and memory holds one page.
Redirects, other namespaces, disambiguation pages and lists are left out, and counted.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from demo_bert.corpus.document import Paragraphs, Piece, Tally, ranges, whole
from demo_bert.corpus.streams import Stream, marked_records, packing_of
from demo_bert.corpus.wikitext import END_SECTIONS, paragraphs_of
from demo_bert.errors import DataError

_PLAIN_RANGE_BYTES = 32 << 20
_PACKED_RANGE_BYTES = 8 << 20
_PAGE = b"<page>"
_PAGE_END = b"</page>"
_TITLE = re.compile(rb"<title>([^<]*)</title>")
_NAMESPACE = re.compile(rb"<ns>(-?\d+)</ns>")
_REDIRECT_MARKUP = re.compile(r"\s*#redirect", re.IGNORECASE)
_DISAMBIGUATION = re.compile(
    r"\{\{(?i:\s*(?:disambig\w*|dab|hndis|geodis|[\w -]+[ -]disambiguation|disambiguation[\w -]*"
    r"|human name disambig\w*|letter-number combination disambig\w*|set index article|sia"
    r"|surname|given name|mathdab|schooldis|hospitaldis|airport disambig\w*)\s*)[|}]"
)
_DISAMBIGUATION_SWITCH = "__DISAMBIG__"
_SECTION = re.compile(r"\n==([^=\n][^\n]*?)==[ \t]*(?=\n)")
_ENTITY = re.compile(r"(&(?:lt|gt|quot|amp|#039);)")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&", "&#039;": "'"}
_LIST_TITLE = re.compile(r"(?:lists? of|index of|outline of|timeline of) ", re.IGNORECASE)
_LIST_LINE = re.compile(r"^[*#|]", re.MULTILINE)
_LISTS_WORDS_AN_ITEM = 12
_MANY_ITEMS = 20
_FEW_WORDS = 240


def plan(kind: str, path: Path, *, tally: Tally) -> list[Piece]:
    """The pieces of a dump.

    Args:
        kind: "wikipedia".
        path: The dump.
        tally: Counts empty files.

    Returns:
        The pieces, in order: ranges of bytes of a plain or bzip2 file, else the whole.

    Raises:
        DataError: It cannot be read, or holds no pages.
    """
    packing, size = packing_of(path), path.stat().st_size
    if not size:
        tally["empty files"] += 1
        return []
    with Stream(whole(kind, str(path), num_bytes=size)) as stream:
        head = stream.read()
    if b"<mediawiki" not in head and _PAGE not in head:
        raise DataError(
            f"{path}: is no Wikipedia dump (it has neither <mediawiki> nor <page>); give plain text"
            " and what WikiExtractor wrote with --text"
        )
    if packing not in (None, "bzip2"):
        return [whole(kind, str(path), num_bytes=size)]
    most = _PLAIN_RANGE_BYTES if packing is None else _PACKED_RANGE_BYTES
    return ranges(kind, str(path), num_bytes=size, most_bytes=most)


def read(piece: Piece, *, tally: Tally) -> Iterator[Paragraphs]:
    """The articles of a piece.

    Args:
        piece: From `plan`.
        tally: Counts pages, by what became of them.

    Yields:
        Paragraphs of each article.

    Raises:
        DataError: The file is damaged beyond its pages, or cannot be read.
    """
    with Stream(piece) as stream:
        for record in marked_records(stream, _PAGE, tally=tally):
            article = _article(record, tally)
            if article:
                yield article


def _article(page: bytes, tally: Tally) -> Paragraphs | None:
    """The page's prose; None where it is left out, which is counted."""
    end = page.find(_PAGE_END)
    text = _last_text(page[:end]) if end >= 0 else None
    title = _TITLE.search(page)
    if text is None or title is None:
        tally["damaged pages skipped"] += 1
        return None
    namespace = _NAMESPACE.search(page, 0, end)
    if namespace is not None and namespace[1] != b"0":
        tally["pages of other namespaces"] += 1
        return None
    if page.find(b"<redirect", 0, page.find(b"<revision>")) >= 0:
        tally["redirects"] += 1
        return None
    markup = _decoded(text, tally)
    name = _resolved(_decoded(title[1], tally))
    kind = _left_out(name, markup)
    paragraphs = None if kind else paragraphs_of(_resolved(_without_last_sections(markup)))
    if paragraphs is not None and not paragraphs:
        kind = "pages without prose"
    if paragraphs and _is_list(name, paragraphs, markup):
        kind = "lists"
    tally[kind or "articles"] += 1
    return None if kind else paragraphs


def _last_text(page: bytes) -> bytes | None:
    """The text of the newest revision, which is the last; None where there is no whole one."""
    text: bytes | None = None
    begin = page.find(b"<text")
    while begin >= 0:
        start = page.find(b">", begin) + 1
        end = start if page[start - 2 : start] == b"/>" else page.find(b"</text>", start)
        if not start or end < 0:
            return None
        text = page[start:end]
        begin = page.find(b"<text", end)
    return text


def _left_out(title: str, markup: str) -> str | None:
    if _REDIRECT_MARKUP.match(markup):
        return "redirects"
    is_marked = _DISAMBIGUATION_SWITCH in markup or _DISAMBIGUATION.search(markup)
    if title.endswith("(disambiguation)") or is_marked:
        return "disambiguation pages"
    return None


def _without_last_sections(markup: str) -> str:
    """A page without the sections at its end that are no prose, which are much of its markup."""
    for section in _SECTION.finditer(markup):
        if section[1].strip().lower() in END_SECTIONS:
            rest = _SECTION.finditer(markup, section.end())
            if all(other[1].strip().lower() in END_SECTIONS for other in rest):
                return markup[: section.start() + 1]
    return markup


def _is_list(title: str, paragraphs: Paragraphs, markup: str) -> bool:
    """Whether a page has far more items than prose, which a list has sooner by its title."""
    is_list_by_title = _LIST_TITLE.match(title) is not None
    num_words = 0
    for paragraph in paragraphs:
        num_words += paragraph.count(" ")
        if num_words >= _FEW_WORDS and not is_list_by_title:
            return False
    num_items = len(_LIST_LINE.findall(markup))
    if is_list_by_title:
        return num_words < _LISTS_WORDS_AN_ITEM * num_items
    return num_items > _MANY_ITEMS and num_words < 3 * num_items


def _decoded(data: bytes, tally: Tally) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        tally["pages with invalid UTF-8, whose bytes were dropped"] += 1
        text = data.decode("utf-8", "ignore")
    return text


def _resolved(text: str) -> str:
    """Text with the entities of XML resolved; none of them is part of a mark of the markup."""
    if "&" not in text:
        return text
    parts = _ENTITY.split(text)
    parts[1::2] = map(_ENTITIES.__getitem__, parts[1::2])
    return "".join(parts)
