import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from demo_bert.report.baseline import interval, majority
from demo_bert.report.record import Evaluation


def evaluated(confusion: tuple[tuple[int, ...], ...]) -> Evaluation:
    labels = tuple("abcdef"[: len(confusion)])
    return Evaluation(1, "validation", None, {}, confusion, labels, (), None)


@pytest.mark.parametrize("confusion", [((10, 30), (20, 70)), ((60, 3), (5, 2)), ((1, 1), (1, 1))])
def test_the_majority_class_scores_what_scikit_learn_says(confusion):
    gold = np.repeat([0, 1], [sum(row) for row in confusion])
    always = np.full(len(gold), np.bincount(gold).argmax())
    found = majority(evaluated(confusion))
    assert found.value("accuracy") == pytest.approx(accuracy_score(gold, always))
    assert found.value("f1") == pytest.approx(f1_score(gold, always))


def test_of_many_classes_only_the_accuracy_is_known():
    found = majority(evaluated(((5, 0, 0), (1, 8, 0), (0, 0, 2))))
    assert (found.label, found.accuracy, found.f1) == ("b", 9 / 16, None)


def test_without_a_confusion_matrix_there_is_no_baseline():
    assert majority(None) is None and majority(evaluated(())) is None


def test_the_interval_covers_the_truth_in_95_of_100_samples():
    draws = np.random.default_rng(0).binomial(408, 0.85, size=20_000) / 408
    covered = np.mean([low <= 0.85 <= high for low, high in (interval(d, 408) for d in draws)])
    assert covered == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_interval_stays_inside_its_range(share):
    low, high = interval(share, 5)
    assert 0 <= low < high <= 1 and math.isfinite(low + high)
