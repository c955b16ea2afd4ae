"""Exact match and F1 as the official SQuAD scripts compute them, versions 1.1 and 2.0.

Answers are compared without case, ASCII punctuation, articles and surplus white space; of several
gold answers the best counts. All figures are percentages, 0..100.

Source:
    Rajpurkar et al. 2016 (1.1) and 2018 (2.0), the algorithm of `evaluate-v1.1.py` and
    `evaluate-v2.0.py`. One difference: where 2.0 predictions lack questions, the official script
    ends with an error once it comes to the figures of questions with and without an answer; here
    those figures, as its overall ones, count the questions that are there.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

Gold = Mapping[str, Sequence[str]]
"""Question id -> its gold answers; none where the passage has no answer."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """What of an answer counts.

    Args:
        answer: Any text.

    Returns:
        The text in lower case, without ASCII punctuation and articles, its words separated by
        single spaces.

    Example:
        >>> normalized("The  U.S. Army!")
        'us army'
    """
    bare = answer.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def scores_v1(gold: Gold, predictions: Mapping[str, str]) -> dict[str, float]:
    """The figures of SQuAD 1.1.

    Args:
        gold: Of all questions, each with at least one answer.
        predictions: Answers by question id; a missing one counts as wrong.

    Returns:
        `exact_match` and `f1`.

    Example:
        >>> scores_v1({"q": ["the Denver Broncos"]}, {"q": "Denver Nuggets"})
        {'exact_match': 0.0, 'f1': 50.0}
    """
    exact = f1 = 0.0
    for question, answers in gold.items():
        if question in predictions:
            best_exact, best_f1 = _best(answers, predictions[question], f1=_f1)
            exact += best_exact
            f1 += best_f1
    return {"exact_match": 100.0 * exact / len(gold), "f1": 100.0 * f1 / len(gold)}


def scores_v2(
    gold: Gold, predictions: Mapping[str, str], *, null_odds: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The figures of SQuAD 2.0 by the official names.

    Args:
        gold: Of all questions; no answers where the right one is none.
        predictions: Answers by question id, "" for none.
        null_odds: By question id, how much "no answer" is preferred to the prediction; None: no
            best thresholds.

    Returns:
        `exact`, `f1`, `total`; the same after `HasAns_` and `NoAns_` where there are such
        questions; with `null_odds`, `best_exact`, `best_exact_thresh`, `best_f1`, `best_f1_thresh`:
        what a threshold reaches above which the answer is none.
    """
    exact: dict[str, float] = {}
    f1: dict[str, float] = {}
    for question, answers in gold.items():
        if question in predictions:
            counted = [answer for answer in answers if normalized(answer)] or [""]
            exact[question], f1[question] = _best(counted, predictions[question], f1=_f1_or_none)
    has_answer = {question: bool(answers) for question, answers in gold.items()}
    figures = _figures("", exact, f1, exact)
    for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
        if chosen := [question for question in exact if has_answer[question] is wanted]:
            figures |= _figures(prefix, exact, f1, chosen)
    if null_odds is not None:
        for name, scores in (("exact", exact), ("f1", f1)):
            best, threshold = _best_threshold(predictions, scores, null_odds, has_answer=has_answer)
            figures |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return figures


def is_right(answers: Sequence[str], prediction: str) -> bool:
    """Whether a prediction is an exact match.

    Args:
        answers: The gold answers; none where the right one is none.
        prediction: "" for none.

    Returns:
        True where it equals one of them as far as it counts.

    Example:
        >>> is_right(["Paris"], "paris."), is_right([], "Paris"), is_right([], "")
        (True, False, True)
    """
    wanted = {normalized(answer) for answer in answers} or {""}
    return normalized(prediction) in wanted


def _figures(
    prefix: str, exact: Mapping[str, float], f1: Mapping[str, float], chosen: Iterable[str]
) -> dict[str, float]:
    names = list(chosen)
    total = len(names)
    return {
        f"{prefix}exact": 100.0 * sum(exact[name] for name in names) / max(1, total),
        f"{prefix}f1": 100.0 * sum(f1[name] for name in names) / max(1, total),
        f"{prefix}total": total,
    }


def _best(
    answers: Sequence[str], prediction: str, *, f1: Callable[[str, str], float]
) -> tuple[float, float]:
    """Exact match and F1 against the best of the gold answers."""
    given = normalized(prediction)
    wanted = {normalized(answer) for answer in answers}
    return float(given in wanted), max(f1(answer, given) for answer in wanted)


def _f1(answer: str, prediction: str) -> float:
    """F1 of words, of two texts as `normalized` gives them."""
    wanted, given = answer.split(), prediction.split()
    num_same = sum((Counter(wanted) & Counter(given)).values())
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(given), num_same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _f1_or_none(answer: str, prediction: str) -> float:
    """As `_f1`, but no words at all are right where none are wanted."""
    if not answer or not prediction:
        return float(answer == prediction)
    return _f1(answer, prediction)


def _best_threshold(
    predictions: Mapping[str, str],
    scores: Mapping[str, float],
    null_odds: Mapping[str, float],
    *,
    has_answer: Mapping[str, bool],
) -> tuple[float, float]:
    """The best percentage that a threshold gives, and the lowest such threshold that is found.

    Below the lowest odds every answer is none; each question in the order of its odds then gives
    its prediction instead.
    """
    reached = best = float(sum(not wanted for wanted in has_answer.values()))
    threshold = 0.0
    for question in sorted(null_odds, key=lambda name: null_odds[name]):
        if question not in scores:
            continue
        if has_answer[question]:
            reached += scores[question]
        elif predictions[question]:
            reached -= 1
        if reached > best:
            best, threshold = reached, null_odds[question]
    return 100.0 * best / len(scores), threshold
