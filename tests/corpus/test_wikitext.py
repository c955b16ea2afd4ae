"""Markup to prose: whole articles checked by eye, and each kind of markup alone."""

from pathlib import Path

import pytest

from demo_bert.corpus.wikitext import paragraphs_of

GOLDEN = Path(__file__).parents[1] / "fixtures" / "wikitext"
ARTICLES = ("abacus", "actinopterygii", "allah", "constructive_vote_of_no_confidence")


@pytest.mark.parametrize("name", ARTICLES)
def test_an_article_is_as_it_was_checked(name: str) -> None:
    markup = (GOLDEN / f"{name}.wikitext").read_text("utf-8")
    assert paragraphs_of(markup) == (GOLDEN / f"{name}.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    ("markup", "prose"),
    [
        ("{{Infobox|a={{b|{{c}}}}}}Rain.", ["Rain."]),
        ("Rain {{unclosed|x=1\n\nSnow falls.", ["Rain", "Snow falls."]),
        ("It is {{convert|12|km|mi|abbr=on}} long.", ["It is 12 km long."]),
        ("From {{convert|3|to|5|m|ft}}.", ["From 3 to 5 m."]),
        ("{{lang|fr|pluie}} is rain.", ["pluie is rain."]),
        ("Rain{{ndash}}water {{frac|1|2}}.", ["Rain\u2013water 1/2."]),
        ("{{nowrap|[[a|b c]]}} x", ["b c x"]),
        ("{|\n! a\n|-\n| {{x}} {|\n|b\n|}\n|}\nRain.", ["Rain."]),
        (":{| class=x\n|a\n|}\nRain.", ["Rain."]),
        ("Rain.<ref>A [[b]].</ref> Snow.<ref name=x /> Ice.", ["Rain. Snow. Ice."]),
        ('A<ref name="x/y">B</ref>.', ["A."]),
        ("[[File:a.jpg|thumb|A [[b|c]] of [http://d e]]]Rain.", ["Rain."]),
        ("[[Category:Rain]]\n[[fr:Pluie]]\nRain.", ["Rain."]),
        ("[[:Category:Rain|rain]] [[water]]s [[a|b]].", ["rain waters b."]),
        ("[[wikt:rain|rain]] falls.", ["rain falls."]),
        ("[https://a.example/b rain] https://c.example falls.", ["rain falls."]),
        ("Let <math>x \\in [[0]]</math> be 1.", ["Let be 1."]),
        ("A<!-- no [[b -->c.", ["Ac."]),
        ("''Rain'' and '''''snow'''''.", ["Rain and snow."]),
        ("Rain (; {{x}}, born 1900) and () snow .", ["Rain (born 1900) and snow."]),
        ("Tom &amp; Eve&nbsp;ran.", ["Tom & Eve ran."]),
        ("One.\n== Head ==\nTwo.\n=== Sub ===\nThree.", ["One.", "Two.", "Three."]),
        ("One.\n== See also ==\nx y.\n=== z ===\nno.\n== After ==\nTwo.", ["One.", "Two."]),
        ("* short\n* This item of a list is a sentence of its own.\nA.", None),
        ("__NOTOC__\nRain.<br />Snow.", ["Rain.", "Snow."]),
        ("<gallery>\nFile:a.jpg|b\n</gallery>Rain.", ["Rain."]),
        ("[[broken and [[a|b]] c", ["broken and b c"]),
        ("It is [[[sic]]] and [[[rain|a shower]]] [[[fr:b|c]]].", ["It is [sic] and [a shower]."]),
        ("A {|x\n{|\n|a|} |}\n|}B {| C", ["A {|x", "B {| C"]),
        ("", []),
    ],
)
def test_each_kind_of_markup_leaves_its_words_alone(markup: str, prose: list[str] | None) -> None:
    if prose is None:
        prose = ["This item of a list is a sentence of its own.", "A."]
    assert paragraphs_of(markup) == prose


@pytest.mark.parametrize(
    "markup", ["{{" * 3000, "[[" * 3000, "<ref>" * 3000, "'" * 9000, "{|" * 900]
)
def test_markup_that_is_never_closed_takes_no_long_time(markup: str) -> None:
    assert len(paragraphs_of(f"{markup} rain")) <= 1
