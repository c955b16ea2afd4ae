"""The classes of a trained classifier: read from its files, matched with those of the data.

Standard library alone at import.
"""

import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.errors import ModelError
from demo_bert.report.fields import items, text

if TYPE_CHECKING:
    from demo_bert.commands.saved_model import SavedModel
    from demo_bert.model.convert import LoadedWeights

_LOG = logging.getLogger(__name__)

_NAMELESS = re.compile(r"LABEL_(\d+)")
_SPAN = ("span.weight", "span.bias")
_NEEDED = {"classifier": ("a classifier", "mrpc"), "span": ("a model of answers", "squad")}
_CLASSIFIER = ("classifier.weight", "classifier.bias")
_ARCHITECTURE = "BertForSequenceClassification"
_ONE_CLASS_EACH = "single_label_classification"
_SHOWN_CLASSES = 8


@dataclass(frozen=True)
class Classes:
    """How answers call a model's classes."""

    labels: tuple[str, ...]
    """The names."""
    order: tuple[int, ...]
    """For each of them, its place among the model's outputs."""


def read_classes(name: str, weights: "LoadedWeights", directory: Path) -> tuple[str, ...]:
    """The classes of a classifier of texts.

    Args:
        name: Of the model, as the user gave it.
        weights: The model.
        directory: Where it was read.

    Returns:
        The names in the order of the outputs; where they are LABEL_0, LABEL_1, ... or missing,
        the numbers "0", "1", ...

    Raises:
        ModelError: It is no classifier that gives one class for each text, or names fail.
    """
    lacking = [tensor for tensor in _CLASSIFIER if tensor not in weights.head]
    if lacking:
        raise ModelError(f"{name}: an encoder without {' and '.join(lacking)}; {advice(name)}")
    kind = _other_kind(directory / "config.json")
    if kind is not None:
        raise ModelError(f"{name}: a model of another kind ({kind}); {advice(name)}")
    count = len(weights.head[_CLASSIFIER[0]])
    if count < 2:
        raise ModelError(f"{name}: gives a number (one output), not a class; {advice(name)}")
    labels = weights.labels or tuple(f"LABEL_{number}" for number in range(count))
    matches = [_NAMELESS.fullmatch(label) for label in labels]
    if all(match and match[1] == str(number) for number, match in enumerate(matches)):
        labels = tuple(map(str, range(count)))
    if len(set(labels)) < count or any(map(_breaks_table, labels)):
        raise ModelError(
            f"{directory / 'config.json'}: id2label must give each of the {count} classes a name of"
            " its own, in one line and without tabs"
        )
    return labels


def match_classes(model: "SavedModel", labels: Sequence[str], *, task: str) -> Classes:
    """Which of a model's classes is which of a data set's.

    Args:
        model: The model.
        labels: The data's classes.
        task: The data's task, for messages.

    Returns:
        The data's names. Where the names of a model that is no run of ours differ, its classes are
        taken in their order, and a warning says so.

    Raises:
        ModelError: Their number differs; or the model is that of a run on other classes.
    """
    wanted = tuple(labels)
    if set(wanted) == set(model.labels):
        return Classes(wanted, tuple(map(model.labels.index, wanted)))
    if len(wanted) != len(model.labels) or model.run is not None:
        of_run = f", trained on {model.run.task}," if model.run else ""
        raise ModelError(
            f"{model.name}{of_run} knows {_listed(model.labels)}; {task} has {_listed(wanted)};"
            " score a model on the task that it was trained on"
        )
    _LOG.warning(
        "%s calls its classes %s; they are taken as %s, in this order",
        model.name,
        ", ".join(model.labels),
        ", ".join(wanted),
    )
    return Classes(wanted, tuple(range(len(wanted))))


def check_span(name: str, weights: "LoadedWeights") -> None:
    """Refuses a model that does not mark answers in passages.

    Args:
        name: Of the model, as the user gave it.
        weights: The model.

    Raises:
        ModelError: It lacks the start and end logits.
    """
    lacking = [tensor for tensor in _SPAN if tensor not in weights.head]
    if lacking:
        raise ModelError(
            f"{name}: an encoder without qa_outputs, which marks answers;"
            f" {advice(name, head='span')}"
        )


def advice(name: str, *, head: str = "classifier") -> str:
    """What to do with a model that cannot answer.

    Args:
        name: Of the model, as the user gave it.
        head: What is needed: a "classifier", or a "span" of a passage.

    Returns:
        The end of a message.
    """
    needed, task = _NEEDED[head]
    return (
        f"{needed} is needed; train one with:"
        f" demo_bert finetuning -d bf16 -m {shlex.quote(name)} -t {task}"
    )


def _other_kind(config: Path) -> str | None:
    """What a configuration says to be that is no classifier with one class for each text."""
    from demo_bert.model.json_object import read_json_object

    if not config.is_file():
        return None
    content = read_json_object(config)
    architectures = [text(name) for name in items(content.get("architectures"))]
    if architectures and _ARCHITECTURE not in architectures:
        return architectures[0]
    kind = text(content.get("problem_type"))
    return kind if kind not in ("", _ONE_CLASS_EACH) else None


def _breaks_table(label: str) -> bool:
    return "\t" in label or label.splitlines() != [label]


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN_CLASSES]) + (", ..." if len(labels) > _SHOWN_CLASSES else "")
    return f"{len(labels)} classes ({shown})"
