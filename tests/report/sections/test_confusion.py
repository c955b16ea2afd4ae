import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from demo_bert.report.record import Evaluation, Run
from demo_bert.report.sections.confusion import section


def shown(confusion: np.ndarray) -> str:
    counts = tuple(tuple(int(cell) for cell in row) for row in confusion)
    labels = tuple(f"<class {place}>" for place in range(len(counts)))
    evaluation = Evaluation(1, "validation", None, {}, counts, labels, (), None)
    return section(Run(Path("out"), evaluations=(evaluation,))).body


def test_precision_recall_and_f1_are_those_of_scikit_learn():
    confusion = np.random.default_rng(1).integers(1, 50, (4, 4))
    gold = np.repeat(np.arange(4), confusion.sum(1))
    predicted = np.concatenate([np.repeat(np.arange(4), row) for row in confusion])
    expected = np.array(precision_recall_fscore_support(gold, predicted)[:3]).T
    found = re.findall(r'<td class="number">(\d\.\d{3})</td>' * 3, shown(confusion))
    assert np.array(found, float) == pytest.approx(expected, abs=0.0005)


def test_counts_shares_and_sums_are_shown():
    html = shown(np.array([[8, 2], [1, 4]]))
    assert re.findall(r"<b>(\d+)</b><span>([\d.]+ %)", html) == [
        ("8", "80.0 %"),
        ("2", "20.0 %"),
        ("1", "20.0 %"),
        ("4", "80.0 %"),
    ]
    assert re.findall(r'<td class="sum">(\d+)', html) == ["10", "5", "9", "6", "15"]
    assert "&lt;class 0&gt;" in html and "<class" not in html


def test_a_class_without_examples_has_no_shares():
    html = shown(np.array([[0, 0], [1, 4]]))
    assert "&ndash;" in html and "nan" not in html


def test_of_many_classes_the_most_frequent_confusions_are_listed():
    confusion = np.eye(40, dtype=int) * 9
    confusion[3, 17] = 6
    html = shown(confusion)
    cells = r">&lt;class 3&gt;</th><td>&lt;class 17&gt;</td><td[^>]*>6</td><td[^>]*>40.0 %<"
    assert "colspan" not in html and re.search(cells, html)
