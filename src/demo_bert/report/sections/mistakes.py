"""The most confident mistakes: what the model was surest of, and wrong."""

import re
from collections import Counter

from demo_bert.report.markup import Section, escape
from demo_bert.report.record import Mistake, Run

_MOST_CHARACTERS = 700
_MOST_MISTAKES = 20
# Words; ideographs, kana and Hangul syllables one by one, as they stand without spaces.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\\w+")


def section(run: Run) -> Section | None:
    """The list of mistakes.

    Args:
        run: Any run.

    Returns:
        The section; None for a run without known mistakes.
    """
    last = run.last_evaluation()
    if last is None or not last.mistakes:
        return None
    entries = "".join(_entry(mistake) for mistake in last.mistakes[:_MOST_MISTAKES])
    is_pair = any(mistake.text_b for mistake in last.mistakes)
    lede = f"Of {escape(last.split)}, after step {last.step:,}, the surest first."
    if is_pair:
        lede += " Words that only one of the two texts has are <mark>marked</mark>."
    return Section("Most confident mistakes", f'<p>{lede}</p><ol class="mistakes">{entries}</ol>')


def marked(words: str, other: str) -> str:
    """A text with the words marked that another text lacks.

    Args:
        words: The text to show.
        other: The text to compare with; case does not count, how often a word stands there does.

    Returns:
        HTML.

    Example:
        >>> marked("He bought it", "he sold it")
        'He <mark>bought</mark> it'
    """
    left = Counter(word.casefold() for word in _WORD.findall(other))
    spans: list[tuple[int, int]] = []
    for found in _WORD.finditer(words):
        word = found.group().casefold()
        left[word] -= 1
        if left[word] >= 0:
            continue
        if spans and not words[spans[-1][1] : found.start()].strip():
            spans[-1] = (spans[-1][0], found.end())  # neighbours share one mark
        else:
            spans.append(found.span())
    parts: list[str] = []
    end = 0
    for start, stop in spans:
        parts.append(f"{escape(words[end:start])}<mark>{escape(words[start:stop])}</mark>")
        end = stop
    return "".join(parts) + escape(words[end:])


def _entry(mistake: Mistake) -> str:
    score = "" if mistake.score is None else f' <span class="score">{mistake.score:.3f}</span>'
    number = f'<span class="index">example {escape(mistake.index)}</span>' if mistake.index else ""
    first, second = mistake.text[:_MOST_CHARACTERS], mistake.text_b[:_MOST_CHARACTERS]
    texts = [escape(first) + _rest(mistake.text)]
    if second:
        texts = [
            marked(first, second) + _rest(mistake.text),
            marked(second, first) + _rest(mistake.text_b),
        ]
    lines = "".join(f'<p dir="auto"><bdi>{line}</bdi></p>' for line in texts)
    return (
        '<li><p class="answer"><span>predicted '
        f'<strong class="bad">{escape(mistake.prediction)}</strong>{score}, gold '
        f'<strong class="good">{escape(mistake.label)}</strong></span>{number}</p>{lines}</li>'
    )


def _rest(words: str) -> str:
    left_out = len(words) - _MOST_CHARACTERS
    return f" [... {left_out:,} more characters]" if left_out > 0 else ""
