"""Dumps: every page is counted, damage costs its page alone, ranges lose nothing."""

import bz2
import gzip
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from demo_bert.corpus import wikipedia
from demo_bert.corpus.document import Tally
from demo_bert.errors import DataError

HEAD = '<mediawiki xmlns="x" xml:lang="en">\n  <siteinfo><sitename>W</sitename></siteinfo>\n'


def page(title: str, text: str, *, namespace: int = 0, redirect: str = "") -> str:
    target = f'\n    <redirect title="{redirect}" />' if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>{target}\n"
        "    <revision>\n      <id>1</id>\n"
        f'      <text xml:space="preserve">{escape(text)}</text>\n    </revision>\n  </page>\n'
    )


def written(path: Path, *pages: str) -> Path:
    path.write_text(HEAD + "".join(pages) + "</mediawiki>\n", "utf-8")
    return path


def articles(path: Path, tally: Tally | None = None) -> list[list[str]]:
    counted: Tally = Counter() if tally is None else tally
    pieces = wikipedia.plan("wikipedia", path, tally=counted)
    return [found for piece in pieces for found in wikipedia.read(piece, tally=counted)]


RAIN = page("Rain", "'''Rain''' is <ref>x</ref> [[water]] & <i>more</i>.")
SNOW = page("Snow", "Snow is ice.")


def test_pages_that_are_no_articles_are_left_out_and_counted(tmp_path: Path) -> None:
    items = "".join(f"* item {n}\n" for n in range(40))
    path = written(
        tmp_path / "x.xml",
        RAIN,
        page("Rains", "#REDIRECT [[Rain]]", redirect="Rain"),
        page("Talk:Rain", "What?", namespace=1),
        page("Rain (disambiguation)", "Rain may be.\n* [[Rain]]"),
        page("Mercury", "Mercury may be:\n* [[A]]\n{{disambiguation}}"),
        page("List of rains", f"These are rains.\n{items}"),
        page("Nothing", "{{template}}"),
        SNOW,
    )
    tally: Tally = Counter()
    assert articles(path, tally) == [["Rain is water & more."], ["Snow is ice."]]
    assert tally == {
        "articles": 2,
        "redirects": 1,
        "pages of other namespaces": 1,
        "disambiguation pages": 2,
        "lists": 1,
        "pages without prose": 1,
    }


def test_a_list_by_title_with_prose_for_its_items_is_an_article(tmp_path: Path) -> None:
    items = "".join(
        f"* {n}\n\n{'This rain is one that falls on many days. ' * 4}\n" for n in range(9)
    )
    assert len(articles(written(tmp_path / "x", page("List of rains", items)))) == 1


def test_damaged_xml_costs_its_page_alone_and_is_counted(tmp_path: Path) -> None:
    whole = written(tmp_path / "x", RAIN, SNOW, page("Ice", "Ice is cold.")).read_bytes()
    at = whole.index(b"Snow is ice.")
    tally: Tally = Counter()
    (tmp_path / "cut").write_bytes(whole[:at] + whole[whole.index(b"  <page>", at) :])
    assert articles(tmp_path / "cut", tally) == [["Rain is water & more."], ["Ice is cold."]]
    assert tally == {"articles": 2, "damaged pages skipped": 1}


def test_a_plain_dump_that_ends_too_early_keeps_its_whole_pages(tmp_path: Path) -> None:
    content = written(tmp_path / "x", RAIN, SNOW).read_bytes()
    (tmp_path / "cut").write_bytes(content[: content.index(b"Snow is")])
    tally: Tally = Counter()
    assert articles(tmp_path / "cut", tally) == [["Rain is water & more."]]
    assert tally["damaged pages skipped"] == 1


@pytest.mark.parametrize("form", ["plain", "bz2", "multistream", "gz"])
def test_every_form_of_a_dump_has_each_page_once(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wikipedia, "_PLAIN_RANGE_BYTES", 1500)
    monkeypatch.setattr(wikipedia, "_PACKED_RANGE_BYTES", 500)
    pages = [page(f"P{n}", f"Page {n} is a page.") for n in range(60)]
    content = written(tmp_path / "x", *pages).read_bytes()
    if form == "bz2":
        content = bz2.compress(content)
    elif form == "gz":
        content = gzip.compress(content)
    elif form == "multistream":
        groups = ["".join(pages[at : at + 7]) for at in range(0, 60, 7)]
        parts = [HEAD, *groups, "</mediawiki>"]
        content = b"".join(bz2.compress(part.encode()) for part in parts)
    (tmp_path / "dump").write_bytes(content)
    tally: Tally = Counter()
    found = articles(tmp_path / "dump", tally)
    assert found == [[f"Page {n} is a page."] for n in range(60)]
    assert tally == {"articles": 60}
    pieces = wikipedia.plan("wikipedia", tmp_path / "dump", tally=tally)
    assert (len(pieces) > 3) == (form in ("plain", "multistream"))


def test_no_entity_but_those_of_xml_is_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>\n'
    (tmp_path / "x").write_text(bomb + HEAD + RAIN.replace("Rain'''", "R&b;n'''"), "utf-8")
    assert articles(tmp_path / "x") == [["R&b;n is water & more."]]


def test_what_is_no_dump_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("It rains.")
    with pytest.raises(DataError, match="is no Wikipedia dump .* with --text"):
        articles(tmp_path / "x")


def test_an_empty_dump_is_counted(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    tally: Tally = Counter()
    assert articles(tmp_path / "x", tally) == []
    assert tally == {"empty files": 1}


def test_a_real_dump_loses_no_article() -> None:
    dump = next(
        (
            found
            for parent in Path(__file__).resolve().parents
            for found in (parent / "shared" / "data" / "text").glob("enwiki-latest-*.bz2")
        ),
        None,
    )
    if dump is None:
        pytest.skip("no directory `shared` with a dump beside the checkout")
    content = bz2.decompress(dump.read_bytes())
    pages = content.split(b"<page>")[1:]
    in_main = [one for one in pages if b"<ns>0</ns>" in one and b"<redirect" not in one]
    tally: Tally = Counter()
    articles(dump, tally)
    kinds = ("articles", "disambiguation pages", "lists", "pages without prose")
    assert sum(tally[kind] for kind in kinds) == len(in_main) == 106
    assert sum(tally.values()) == len(pages) == 206
