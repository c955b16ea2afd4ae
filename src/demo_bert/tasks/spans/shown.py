"""Questions with the model's answers, for people to look at. Standard library alone at import."""

import hashlib
from collections.abc import Sequence

from demo_bert.tasks.spans.answers import Candidate
from demo_bert.tasks.spans.questions import Question
from demo_bert.tasks.spans.scores import is_right

NUM_SHOWN = 30
_LONGEST_PASSAGE = 4000  # characters


def shown_questions(
    examples: Sequence[Question], chosen: Sequence[Candidate]
) -> list[dict[str, object]]:
    """Up to 30 questions: right and wrong ones in equal parts, and ones without an answer.

    Args:
        examples: The questions, their answers known.
        chosen: The model's answers, in their order.

    Returns:
        For each: `id`, `title`, `question`, `context` (a long one is cut around the answers),
        `gold` (texts), `gold_span` and `span` (characters of `context`; None for no answer),
        `answer`, `score` (its probability), `is_right`, `is_answerable`. Which ones is a function
        of their ids and of what is right.
    """
    order = sorted(range(len(examples)), key=lambda place: _number(examples[place].id))
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for place in order:
        one = examples[place]
        kind = (bool(one.answers), is_right(one.answers, chosen[place].text))
        kinds.setdefault(kind, []).append(place)
    picked: list[int] = []
    for turn in range(max(map(len, kinds.values()), default=0)):
        picked += [places[turn] for places in kinds.values() if turn < len(places)]
        if len(picked) >= NUM_SHOWN:
            break
    return [_shown(examples[place], chosen[place]) for place in sorted(picked[:NUM_SHOWN])]


def _shown(one: Question, answer: Candidate) -> dict[str, object]:
    marked = [span for span in ((one.start, one.end), (answer.start, answer.end)) if span[1] > 0]
    begin, end = 0, len(one.context)
    if end > _LONGEST_PASSAGE:
        middle = marked[-1][0] if marked else 0
        begin = max(0, middle - _LONGEST_PASSAGE // 2)
        end = begin + _LONGEST_PASSAGE

    def span(start: int, stop: int) -> list[int] | None:
        return [start - begin, stop - begin] if begin <= start < stop <= end else None

    return {
        "id": one.id,
        "title": one.title,
        "question": one.question,
        "context": one.context[begin:end],
        "gold": list(dict.fromkeys(one.answers)),
        "gold_span": span(one.start, one.end),
        "answer": answer.text,
        "span": span(answer.start, answer.end),
        "score": round(answer.probability, 6),
        "is_right": is_right(one.answers, answer.text),
        "is_answerable": bool(one.answers),
    }


def _number(name: str) -> int:
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
