"""Plain text: forms of files, books, directories, WikiExtractor's output."""

from collections import Counter
from pathlib import Path

import pytest

from demo_bert.corpus import plain_text
from demo_bert.corpus.document import Tally
from demo_bert.corpus.text_form import form_of
from demo_bert.errors import DataError

WRAPPED = (
    "It was a dark and stormy night; the rain\n"
    "fell in torrents, except at occasional\n"
    "intervals, when it was checked by a wind.\n"
    "\n"
    "Through one of the obscurest quarters of\n"
    "London, and among haunts little loved by\n"
    "the gentlemen of the police, a man went.\n"
)
JOINED = [
    "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals,"
    " when it was checked by a wind.",
    "Through one of the obscurest quarters of London, and among haunts little loved by the"
    " gentlemen of the police, a man went.",
]
EXTRACTED = (
    '<doc id="1" url="https://en.wikipedia.org/wiki?curid=1" title="Rain">\nRain\n\n'
    "Rain is <i>water</i>.\nIt falls.\n\n</doc>\n"
    '<doc id="2" url="https://en.wikipedia.org/wiki?curid=2" title="Snow">\nSnow\n\nSnow is ice.\n'
    "</doc>\n"
)


def documents(path: Path, kind: str = "text", tally: Tally | None = None) -> list[list[str]]:
    counted: Tally = Counter() if tally is None else tally
    pieces = plain_text.plan(kind, path, tally=counted)
    return [found for piece in pieces for found in plain_text.read(piece, tally=counted)]


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("kind", ["text", "books"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "bom"])
def test_hard_wrapped_lines_are_joined(tmp_path: Path, kind: str, end: str, mark: str) -> None:
    path = written(tmp_path / "x.txt", (mark + WRAPPED).replace("\n", end))
    assert documents(path, kind) == [JOINED]


def test_wrapped_lines_without_blank_lines_end_a_paragraph_where_a_line_is_short(
    tmp_path: Path,
) -> None:
    text = WRAPPED.replace("\n\n", "\nHe went on.\n")
    assert documents(written(tmp_path / "x", text)) == [[JOINED[0] + " He went on.", JOINED[1]]]


def test_blocks_of_lines_are_documents(tmp_path: Path) -> None:
    text = "It rains.\nIt is wet.\n\n\nThe sun is out.\nAll is dry.\n"
    assert documents(written(tmp_path / "x", text)) == [
        ["It rains.", "It is wet."],
        ["The sun is out.", "All is dry."],
    ]


def test_a_file_of_paragraphs_is_one_document(tmp_path: Path) -> None:
    text = "It rains. It is wet.\n\nThe sun is out.\n\nAll is dry."
    assert documents(written(tmp_path / "x", text)) == [
        ["It rains. It is wet.", "The sun is out.", "All is dry."]
    ]


def test_blocks_keep_to_themselves_whatever_the_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"Line one of {n}.\nIts other line.\n\n" for n in range(200))
    path = written(tmp_path / "x", text)
    expected = documents(path)
    assert len(expected) == 200
    for most in (97, 100, 333, 1000, 5000):
        monkeypatch.setattr(plain_text, "_RANGE_BYTES", most)
        assert documents(path) == expected


def test_extracted_articles_lose_title_and_marks(tmp_path: Path) -> None:
    path = written(tmp_path / "wiki_00", EXTRACTED)
    assert documents(path) == [["Rain is water.", "It falls."], ["Snow is ice."]]


def test_a_books_front_matter_and_licence_are_left_out(tmp_path: Path) -> None:
    prose = "word " * 45
    text = (
        "RAIN\n\nBY A WRITER\n\nCONTENTS\n\nI. The Rain\n\n"
        f"{prose.strip()}.\n\nShe said no.\n\n" + "More of it went on.\n\n" * 60 + "THE END\n"
    )
    (book,) = documents(written(tmp_path / "x", text), "books")
    assert book[0].startswith("word word")
    assert book[-1] == "THE END"
    framed = (
        f"About this file.\n\n*** START OF THE PROJECT GUTENBERG EBOOK RAIN ***\n\n{text}\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK RAIN ***\n\nLicence.\n"
    )
    assert documents(written(tmp_path / "y", framed), "books") == [book]


def test_a_book_that_is_all_short_lines_is_kept_whole(tmp_path: Path) -> None:
    text = "To be,\nor not to be.\nThat is it.\n"
    assert documents(written(tmp_path / "x", text), "books") == [
        ["To be,", "or not to be.", "That is it."]
    ]


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a.txt", "b/10.txt", ".hidden"):
        written(tmp_path / "d" / name, f"This is {name}.\n")
    assert documents(tmp_path / "d") == [
        ["This is a.txt."],
        ["This is b/10.txt."],
        ["This is b/2.txt."],
    ]


def test_empty_and_binary_files_of_a_directory_are_counted(tmp_path: Path) -> None:
    written(tmp_path / "d" / "a", "It rains.\n")
    written(tmp_path / "d" / "b", b"")
    written(tmp_path / "d" / "c", b"\x00\x01\x02")
    tally: Tally = Counter()
    assert documents(tmp_path / "d", tally=tally) == [["It rains."]]
    assert tally == {"empty files": 1, "files that are no text, left out": 1}


def test_a_binary_file_that_is_named_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.zip", b"PK\x03\x04\x00\x00")
    with pytest.raises(DataError, match=r"is no text \(it has NUL bytes\)"):
        documents(path)


def test_a_directory_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="holds no text files"):
        documents(tmp_path / "d")


def test_a_document_of_many_megabytes_is_cut_into_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo_bert.corpus.text_form._LARGEST_DOCUMENT", 1000)
    path = written(tmp_path / "x", "It rains all day long.\n\n" * 200)
    found = documents(path)
    assert len(found) > 3
    assert [line for one in found for line in one] == ["It rains all day long."] * 200


def test_the_form_of_verse_is_not_wrapped() -> None:
    verse = ["Tyger, tyger, burning bright", "In the forests of the night,"] * 10
    assert form_of(verse) != "wrapped"
