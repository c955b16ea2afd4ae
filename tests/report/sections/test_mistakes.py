from pathlib import Path

from demo_bert.report.record import Evaluation, Mistake, Run
from demo_bert.report.sections.mistakes import marked, section
from report.runs import PAIRS


def shown(*mistakes: Mistake) -> str:
    evaluation = Evaluation(1, "validation", None, {}, (), (), mistakes, None)
    return section(Run(Path("out"), evaluations=(evaluation,))).body


def test_words_of_one_text_only_are_marked_whatever_their_case_and_place():
    one, other = "In May, sales rose 3 %.", "Sales fell 3 % in may."
    assert marked(one, other) == "In May, sales <mark>rose</mark> 3 %."
    assert marked(other, one) == "Sales <mark>fell</mark> 3 % in may."


def test_a_word_is_marked_from_the_time_on_that_the_other_text_lacks_it():
    assert marked("a b a", "a b") == "a b <mark>a</mark>"


def test_neighbours_share_a_mark():
    assert marked("he will not go", "he") == "he <mark>will not go</mark>"


def test_signs_without_spaces_are_compared_one_by_one():
    one, other = PAIRS[-1]
    assert marked(one, other) == f"<mark>{one[:2]}</mark>{one[2:]}"


def test_a_mark_never_opens_what_the_text_says():
    assert marked("<b>&amp;", "") == "&lt;<mark>b</mark>&gt;&amp;<mark>amp</mark>;"


def test_a_single_text_has_no_marks():
    html = shown(Mistake("3", "a film", "", "good", "bad", 0.75))
    assert "<mark>" not in html and "a film" in html and "0.750" in html


def test_a_long_text_is_cut_and_says_by_how_much():
    html = shown(Mistake("3", "x " * 5000, "y", "good", "bad", None))
    assert "[... 9,300 more characters]" in html and len(html) < 3000


def test_at_most_twenty_are_shown():
    html = shown(*(Mistake(str(n), "a", "b", "x", "y", 0.5) for n in range(100)))
    assert html.count("<li>") == 20
