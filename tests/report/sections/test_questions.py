"""Questions on the page: marked where the answers stand, filtered without a script."""

import re
from pathlib import Path

from demo_bert.report.events import EventLog
from demo_bert.report.record import AskedQuestion, Evaluation, Run, read_run
from demo_bert.report.sections import curves
from demo_bert.report.sections.questions import marked, section
from report.runs import write_events

CONTEXT = "The old town lies by a river."


def asked(number: int = 0, **changes: object) -> AskedQuestion:
    fields = {
        "question": f"Where, {number}?",
        "context": CONTEXT,
        "title": "Town",
        "gold": ("by a river",),
        "gold_span": (18, 28),
        "answer": "a river",
        "span": (21, 28),
        "score": 0.75,
        "is_right": False,
        "is_answerable": True,
    }
    return AskedQuestion(**(fields | changes))  # type: ignore[arg-type]


def body(*questions: AskedQuestion) -> str:
    evaluation = Evaluation(1, "validation", None, {}, (), (), (), None, questions)
    found = section(Run(Path("out"), evaluations=(evaluation,)))
    assert found is not None
    return found.body


def test_both_answers_are_marked_where_they_stand() -> None:
    assert marked(CONTEXT, (18, 28), (21, 28)) == (
        'The old town lies <mark class="gold">by </mark><mark class="gold ours">a river</mark>.'
    )
    assert marked(CONTEXT, None, (4, 7)).startswith('The <mark class="ours">old</mark> town')
    assert "<mark" not in marked(CONTEXT, None, None)


def test_a_long_passage_is_cut_far_from_the_answers() -> None:
    context = "x" * 5000 + "here" + "y" * 5000
    html = marked(context, (5000, 5004), None)
    assert html.startswith("[...] x") and html.endswith("y [...]")
    assert "here</mark>" in html and len(html) < 1400
    assert marked(context, None, None) == context, "why there is no answer is seen in the whole"


def test_each_question_can_be_filtered_by_what_it_is() -> None:
    html = body(
        asked(1),
        asked(2, is_right=True),
        asked(3, is_answerable=False, gold=(), gold_span=None),
        asked(4, is_answerable=False, gold=(), gold_span=None, answer="", span=None, is_right=True),
    )
    assert re.findall('<li class="([^"]+)"', html) == [
        "wrong",
        "right",
        "wrong unanswerable",
        "right unanswerable",
    ]
    assert re.findall(r"</?label[^>]*>([^<]+)</label>", html) == [
        "all (4)",
        "right (2)",
        "wrong (2)",
        "without an answer (2)",
    ]
    assert html.count(" checked>") == 1
    assert "<script" not in html
    style = Path(section.__code__.co_filename).parents[1].joinpath("page.css").read_text("utf-8")
    for kind in ("right", "wrong", "unanswerable"):
        assert f"#asked-{kind}:checked ~ .mistakes li:not(.{kind})" in style


def test_what_no_question_is_has_no_button() -> None:
    assert "without an answer" not in body(asked())


def test_a_question_never_opens_what_it_says() -> None:
    html = body(asked(question="<script>", context="<b>x</b>", gold_span=(0, 3), span=(3, 4)))
    assert "<script>" not in html and "<b>" not in html
    assert '<mark class="gold">&lt;b&gt;</mark><mark class="ours">x</mark>' in html


def test_at_most_thirty_are_shown() -> None:
    assert body(*(asked(number) for number in range(50))).count("<li") == 30


def test_a_run_without_questions_has_no_such_section(tmp_path: Path) -> None:
    write_events(tmp_path, num_steps=4, num_evaluations=1)
    assert section(read_run(tmp_path)) is None


def test_counts_and_best_thresholds_are_no_curves(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl", 0) as log:
        for step in (1, 2):
            metrics = {"f1": 40.0 + step, "total": 300.0, "HasAns_total": 150.0, "best_f1": 60.0}
            log.append("step", step=step, loss=1.0, learning_rate=1e-4)
            log.append("evaluation", step=step, split="validation", metrics=metrics, loss=1.0)
    made = curves.section(read_run(tmp_path))
    assert made is not None
    assert "F1" in made.body and "total" not in made.body and "best" not in made.body
