"""From start and end logits to answers: the published n-best search over windows.

Candidates are pairs of the 20 best starts and the 20 best ends of each window. A pair counts where
both lie in the passage, the start does not follow the end, the answer has at most 30 tokens, and
the window is the one that shows the most context around the start. The answer is cut out of the
original text by characters; word pieces are never joined. Standard library alone at import.

Shapes: W windows of a question, N candidates kept for starts and for ends.

Source:
    `run_squad.py` of the published code (`write_predictions`). Differences: the text is cut by
    offsets instead of being aligned with the word pieces; without any candidate the answer is ""
    instead of "empty".
"""

import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NUM_BEST = 20
"""Answers of an n-best list, and starts and ends that are looked at in a window."""
LONGEST_ANSWER = 30
"""In tokens."""
_CONTEXT_BONUS = 0.01  # of a window's length, so that of equal places the longer window wins
_MARKS = ("Mn", "Me")  # what belongs to the character before it


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer.

    Attributes:
        text: Cut out of the passage; "" for no answer.
        start: Its first character in the passage.
        end: The character after its last one.
        start_logit: Of its first token; of [CLS] for no answer.
        end_logit: Of its last token; likewise.
        probability: Among the n-best, in 0..1.
    """

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float
    probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to a question.

    Attributes:
        best: Up to 20 candidates with different texts, the best first; "" among them only where no
            answer is possible, or nothing else was found.
        null_odds: Score of no answer less that of the best text; above the threshold the answer
            is none.
    """

    best: tuple[Candidate, ...]
    null_odds: float

    @property
    def text(self) -> Candidate:
        """The best candidate that has a text; an empty one where there is none."""
        return next((each for each in self.best if each.text), Candidate("", 0, 0, 0.0, 0.0))

    def chosen(self, *, threshold: float | None) -> Candidate:
        """The answer that is given.

        Args:
            threshold: Odds above which it is none; None: it never is.

        Returns:
            The candidate.
        """
        if threshold is None or self.null_odds <= threshold:
            return self.text
        return next((each for each in self.best if not each.text), Candidate("", 0, 0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class WindowLogits:
    """What the model says to the windows of one question.

    Attributes:
        first: (W,) int, each window's first token of the passage, ascending.
        count: (W,) int, its tokens of the passage.
        shift: Place of a window's first passage token in its row.
        null: (W, 2), start and end logit of [CLS].
        starts: (W, N) int, places in the row of the best starts, the best first; -1: fewer.
        start_logits: (W, N).
        ends: (W, N) int, likewise.
        end_logits: (W, N).
    """

    first: "np.ndarray"
    count: "np.ndarray"
    shift: int
    null: "np.ndarray"
    starts: "np.ndarray"
    start_logits: "np.ndarray"
    ends: "np.ndarray"
    end_logits: "np.ndarray"


def answer_of(
    logits: WindowLogits, context: str, *, offsets: "np.ndarray", may_be_none: bool
) -> Answer:
    """The n-best answers to one question.

    Args:
        logits: Of its windows.
        context: The passage.
        offsets: (n, 2) int, first character of each token of the passage and the one after its
            last.
        may_be_none: Whether "no answer" is one of the candidates (SQuAD 2.0).

    Returns:
        The answer.
    """
    import numpy as np

    scores, firsts, lasts, pairs = _candidates(logits)
    null = logits.null.sum(1, dtype=np.float64)  # (W,)
    window = int(null.argmin())
    found: list[Candidate] = []
    seen: set[str] = set()
    none = Candidate("", 0, 0, *map(float, logits.null[window]))
    is_none_due = may_be_none
    for place in np.argsort(-scores, kind="stable").tolist():
        if len(found) == NUM_BEST:
            break
        if is_none_due and scores[place] < null[window]:
            found.append(none)
            is_none_due = False
            if len(found) == NUM_BEST:
                break
        start = int(offsets[firsts[place], 0])
        end = _whole_characters(context, int(offsets[lasts[place], 1]))
        text = context[start:end]
        if text not in seen:
            seen.add(text)
            found.append(Candidate(text, start, end, *map(float, pairs[place])))
    if is_none_due:
        found.append(none)
    found = found or [Candidate("", 0, 0, 0.0, 0.0)]  # as published: a list is never empty
    best = _with_probabilities(found)
    told = next((each for each in best if each.text), Candidate("", 0, 0, 0.0, 0.0))
    return Answer(best, float(null[window]) - told.start_logit - told.end_logit)


def _candidates(
    logits: WindowLogits,
) -> tuple["np.ndarray", "np.ndarray", "np.ndarray", "np.ndarray"]:
    """Score, first and last passage token, and both logits of every pair that counts."""
    import numpy as np

    first, count = logits.first[:, None], logits.count[:, None]  # (W, 1)
    starts, ends = logits.starts - logits.shift, logits.ends - logits.shift  # (W, N)
    is_start = (starts >= 0) & (starts < count)
    is_start &= _is_shown_best(first + starts, logits)
    is_end = (ends >= 0) & (ends < count)
    length = ends[:, None, :] - starts[:, :, None] + 1  # (W, N, N)
    is_pair = is_start[:, :, None] & is_end[:, None, :] & (length > 0) & (length <= LONGEST_ANSWER)
    window, start, end = np.nonzero(is_pair)
    chosen = (logits.start_logits[window, start], logits.end_logits[window, end])
    pairs = np.stack(chosen, axis=1).astype(np.float64)  # (pairs, 2)
    return (
        pairs.sum(1),
        logits.first[window] + starts[window, start],
        logits.first[window] + ends[window, end],
        pairs,
    )


def _is_shown_best(tokens: "np.ndarray", logits: WindowLogits) -> "np.ndarray":
    """Whether the window of each row is the one that shows the most context around a token.

    Of equal ones it is the first.
    """
    import numpy as np

    first, count = logits.first, logits.count  # (W,)
    past = first + count
    window = np.arange(len(first))[:, None]  # (W, 1)
    lowest = np.searchsorted(past, tokens, side="right")  # (W, N), the first that has the token
    highest = np.searchsorted(first, tokens, side="right")  # the one after the last
    best = np.full(tokens.shape, -1)
    best_score = np.full(tokens.shape, -np.inf)
    for step in range(int((highest - lowest).max(initial=0))):
        other = np.minimum(lowest + step, len(first) - 1)
        score = np.minimum(tokens - first[other], past[other] - 1 - tokens)
        score = score + _CONTEXT_BONUS * count[other]
        is_better = (lowest + step < highest) & (score > best_score)
        best = np.where(is_better, other, best)
        best_score = np.where(is_better, score, best_score)
    return best == window


def _whole_characters(context: str, end: int) -> int:
    """The end, moved behind marks that belong to the last character (accents of their own)."""
    while end < len(context) and unicodedata.category(context[end]) in _MARKS:
        end += 1
    return end


def _with_probabilities(found: list[Candidate]) -> tuple[Candidate, ...]:
    """The same with the softmax of their scores."""
    scores = [each.start_logit + each.end_logit for each in found]
    shares = [math.exp(score - max(scores)) for score in scores]
    total = sum(shares)
    return tuple(
        Candidate(each.text, each.start, each.end, each.start_logit, each.end_logit, share / total)
        for each, share in zip(found, shares, strict=True)
    )
