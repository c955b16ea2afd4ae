"""How good a score is: against the answer that needs no model, and against chance in the sample."""

import math
from dataclasses import dataclass

from demo_bert.report.record import Evaluation

_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Majority:
    """Always giving the most frequent label of the split.

    Attributes:
        label: That label.
        accuracy: Its share, in 0..1.
        f1: Of class 1 where there are two classes; None elsewhere.
    """

    label: str
    accuracy: float
    f1: float | None

    def value(self, metric: str) -> float | None:
        """What it reaches in a metric.

        Args:
            metric: The metric's key.

        Returns:
            The value in 0..1; None for metrics that are not known here.
        """
        return {"accuracy": self.accuracy, "f1": self.f1}.get(metric)


def majority(evaluation: Evaluation | None) -> Majority | None:
    """The majority-class baseline of a split.

    Args:
        evaluation: Of any model on the split.

    Returns:
        The baseline; None where there is no confusion matrix.
    """
    if evaluation is None or not evaluation.confusion:
        return None
    gold = [sum(row) for row in evaluation.confusion]
    place = gold.index(max(gold))
    share = gold[place] / sum(gold)
    f1 = (2 * share / (1 + share) if place == 1 else 0.0) if len(gold) == 2 else None
    return Majority(label=evaluation.labels[place], accuracy=share, f1=f1)


def interval(share: float, num_examples: int) -> tuple[float, float]:
    """The 95 % interval of a share that was counted on a sample.

    Args:
        share: In 0..1.
        num_examples: Size of the sample, at least 1.

    Returns:
        Both ends, in 0..1.

    Example:
        >>> tuple(round(end, 3) for end in interval(0.868, 408))
        (0.832, 0.897)

    Source:
        E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z2 = _NORMAL_95**2
    middle = (share + z2 / (2 * num_examples)) / (1 + z2 / num_examples)
    spread = share * (1 - share) / num_examples + z2 / (4 * num_examples**2)
    half = _NORMAL_95 / (1 + z2 / num_examples) * math.sqrt(spread)
    return max(0.0, middle - half), min(1.0, middle + half)
