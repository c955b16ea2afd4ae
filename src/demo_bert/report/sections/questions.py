"""Questions on passages: what was asked, where the answer stands, and where the model found one.

Which ones are shown is chosen by radio buttons and a style sheet; there is no script.
"""

from demo_bert.report.markup import Section, escape
from demo_bert.report.record import AskedQuestion, Run

_MOST_QUESTIONS = 30
_KINDS = {
    "all": "all",
    "right": "right",
    "wrong": "wrong",
    "unanswerable": "without an answer",
}
_AROUND = 600  # characters of a passage that are shown before and after the answers


def section(run: Run) -> Section | None:
    """The list of questions, and the buttons that filter it.

    Args:
        run: Any run.

    Returns:
        The section; None for a run that answers no questions.
    """
    last = run.last_evaluation()
    if last is None or not last.questions:
        return None
    asked = last.questions[:_MOST_QUESTIONS]
    counts = {
        "all": len(asked),
        "right": sum(one.is_right for one in asked),
        "wrong": sum(not one.is_right for one in asked),
        "unanswerable": sum(not one.is_answerable for one in asked),
    }
    buttons = "".join(
        f'<input type="radio" name="asked" id="asked-{kind}"{" checked" * (kind == "all")}>'
        f'<label for="asked-{kind}">{name} ({counts[kind]})</label>'
        for kind, name in _KINDS.items()
        if counts[kind]
    )
    entries = "".join(map(_entry, asked))
    lede = (
        f"Some of the {escape(last.split)} split, after step {last.step:,}: right and wrong ones in"
        ' equal parts as far as there are. <mark class="gold">Gold answer</mark>,'
        ' <mark class="ours">the model\'s answer</mark>, <mark class="gold ours">both</mark>.'
    )
    body = f'<p>{lede}</p><div class="asked">{buttons}<ol class="mistakes">{entries}</ol></div>'
    return Section("Questions and answers", body)


def marked(context: str, gold: tuple[int, int] | None, ours: tuple[int, int] | None) -> str:
    """A passage with both answers marked, cut where they are far away; whole where none is.

    Args:
        context: The passage.
        gold: First character of the gold answer and the one after its last; None: none.
        ours: Likewise, of the model's answer.

    Returns:
        HTML.

    Example:
        >>> marked("in the old town", (7, 15), (11, 15))
        'in the <mark class="gold">old </mark><mark class="gold ours">town</mark>'
    """
    spans = {"gold": gold, "ours": ours}
    places = {place for span in spans.values() if span for place in span}
    begin = max(0, min(places, default=0) - _AROUND)
    end = min(len(context), max(places, default=len(context)) + _AROUND)
    bounds = sorted(places | {begin, end})
    parts = ["[...] " if begin else ""]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        kinds = [name for name, span in spans.items() if span and span[0] <= start < span[1]]
        piece = escape(context[start:stop])
        parts.append(f'<mark class="{" ".join(kinds)}">{piece}</mark>' if kinds else piece)
    return "".join(parts) + (" [...]" if end < len(context) else "")


def _entry(one: AskedQuestion) -> str:
    kinds = ["right" if one.is_right else "wrong"]
    if not one.is_answerable:
        kinds.append("unanswerable")
    score = "" if one.score is None else f' <span class="score">{one.score:.3f}</span>'
    verdict = "good" if one.is_right else "bad"
    gold = " / ".join(one.gold) or "no answer"
    title = f'<span class="index">{escape(one.title.replace("_", " "))}</span>' if one.title else ""
    return (
        f'<li class="{" ".join(kinds)}"><p class="answer"><span>answer '
        f'<strong class="{verdict}"><bdi>{escape(one.answer or "no answer")}</bdi></strong>{score},'
        f' gold <strong class="good"><bdi>{escape(gold)}</bdi></strong></span>{title}</p>'
        f'<p dir="auto"><strong><bdi>{escape(one.question)}</bdi></strong></p>'
        f'<p dir="auto">{marked(one.context, one.gold_span, one.span)}</p></li>'
    )
