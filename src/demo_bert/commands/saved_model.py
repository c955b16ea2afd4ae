"""A trained classifier: found, read, checked and asked.

`evaluate` and `predict` share it. The standard library alone at import: what is wrong with a
command line is said before torch is there.

Shapes: N examples, C classes.
"""

import logging
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from demo_bert.commands.run_facts import RunFacts, read_run_facts
from demo_bert.data.tables import TextExample
from demo_bert.errors import ModelError, UsageError
from demo_bert.report.fields import items, text

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

    from demo_bert.data.packing import Batch, Example
    from demo_bert.hardware import Backend, Dtype
    from demo_bert.model.convert import LoadedWeights
    from demo_bert.tasks.task import Scores, Task

_LOG = logging.getLogger(__name__)

Announce = Callable[[str], None]

_TOKENS = 8192  # of a batch, as while training: the same batches give the same bits
_EXAMPLES = 1024
_NAMELESS = re.compile(r"LABEL_(\d+)")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
_ARCHITECTURE = "BertForSequenceClassification"
_ONE_CLASS_EACH = "single_label_classification"
_SHOWN_CLASSES = 8


@dataclass(frozen=True)
class SavedModel:
    """A classifier that was read and checked."""

    name: str
    """As the user gave it."""
    weights: "LoadedWeights"
    labels: tuple[str, ...]
    """The classes; those without a name are called by their numbers: "0", "1", ..."""
    tokenizer: "Tokenizer"
    run: RunFacts | None
    """None where the model is not that of a run directory."""

    def dtype(self, asked: str | None) -> "Dtype":
        """The compute type.

        Args:
            asked: What the user wants, or None.

        Returns:
            That, else that of the run, else "fp32".
        """
        of_run = self.run.dtype if self.run else None
        return cast("Dtype", asked or of_run or "fp32")

    def max_seq_length(self, asked: int | None, *, usual: int | None = None) -> int:
        """The longest example, in tokens.

        Args:
            asked: What the user wants, or None.
            usual: What holds for a model without a run.

        Returns:
            That, else that of the run, else the usual one, at most what the model takes.

        Raises:
            UsageError: More is asked for than the model takes.
        """
        most = self.weights.config.max_position_embeddings
        if asked is not None and asked > most:
            raise UsageError(f"-s/--max-seq-length {asked}: the model takes at most {most} tokens")
        of_run = self.run.max_seq_length if self.run else None
        return asked or min(most, of_run or usual or most)


@dataclass(frozen=True)
class Classes:
    """How answers call a model's classes."""

    labels: tuple[str, ...]
    """The names."""
    order: tuple[int, ...]
    """For each of them, its place among the model's outputs."""


@dataclass(frozen=True)
class Answers:
    """What a model says to examples."""

    scores: "Scores"
    num_tokens: int
    """Of all examples, as far as they were read."""
    cut: tuple[tuple[int, int], ...]
    """(place, tokens) of each example that was too long, and was cut."""


def read_saved_model(name: str, *, announce: Announce) -> SavedModel:
    """Finds, reads and checks a classifier.

    Args:
        name: A run directory, a Hugging Face directory or a hub name.
        announce: Told what is fetched.

    Returns:
        The model.

    Raises:
        ModelError: Nothing is found, it is damaged, or it is no classifier of texts.
        NetworkError: It could not be fetched.
    """
    from demo_bert.model.convert import read_model_directory
    from demo_bert.model.published import find_model
    from demo_bert.model.sizes import SIZES
    from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary

    if name in SIZES:
        raise ModelError(f"{name}: a published encoder, not yet trained to answer; {_advice(name)}")
    path = Path(name).expanduser()
    directory = find_model(name, announce=announce)
    weights = read_model_directory(directory)
    vocabulary = read_vocabulary(weights.vocabulary_path or STANDARD_VOCABULARY)
    return SavedModel(
        name=name,
        weights=weights,
        labels=_labels(name, weights, directory),
        tokenizer=build_tokenizer(vocabulary, **vars(weights.case_rules)),
        run=read_run_facts(path) if directory == path / "model" else None,
    )


def match_classes(model: SavedModel, labels: Sequence[str], *, task: str) -> Classes:
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


def answer(
    model: SavedModel,
    task: "Task",
    examples: Sequence[TextExample],
    *,
    classes: Classes,
    dtype: "Dtype",
    backend: "Backend",
    max_seq_length: int,
    batch_size: int | None,
) -> Answers:
    """Asks the model.

    Args:
        model: What to ask.
        task: Makes features, and scores.
        examples: At least one; their labels, where there are any, are among `classes`.
        classes: What the answers are called.
        dtype: The compute type.
        backend: The hardware, prepared.
        max_seq_length: Longer examples are cut to so many tokens.
        batch_size: Examples at a time; None: as while training, for the very same numbers.

    Returns:
        The answers, in the order of the examples.

    Raises:
        ModelError: A weight is missing, or the model does not take pairs.
    """
    from demo_bert.distributed import World
    from demo_bert.evaluation import logits_of

    module = _module(model, task, is_pair=any(e.text_b is not None for e in examples))
    rows = task.features(
        examples, labels=classes.labels, tokenizer=model.tokenizer, max_seq_length=max_seq_length
    )
    most_rows, most_tokens, fill_up = _EXAMPLES, _TOKENS, None
    if backend.wants_fixed_shapes and batch_size is None:
        of_run = model.run.batch_size if model.run else None
        batch_size = of_run or task.recipe.batch_size[dtype]
    if batch_size is not None:
        most_rows, most_tokens = batch_size, batch_size * max_seq_length
    if backend.wants_fixed_shapes:
        fill_up = _fixed_shapes(rows, most_rows, max_seq_length=max_seq_length)
    logits = logits_of(
        _on_device(module, backend, dtype=dtype),
        rows,
        num_outputs=len(classes.labels),
        max_tokens=most_tokens,
        max_examples=most_rows,
        dtype=dtype,
        backend=backend,
        world=World(),
        fill=fill_up,
    )  # (N, C)
    ordered = logits.take(classes.order, axis=1)  # (N, C)
    return Answers(
        scores=task.score(examples, labels=classes.labels, logits=ordered),
        num_tokens=sum(len(row.input_ids) for row in rows),
        cut=_cut(model.tokenizer, examples, rows, max_seq_length=max_seq_length),
    )


def _module(model: SavedModel, task: "Task", *, is_pair: bool) -> "nn.Module":
    """Encoder and head with all their weights."""
    from demo_bert.model.convert import fill

    if is_pair and model.weights.config.type_vocab_size < 2:
        raise ModelError(f"{model.name}: takes single texts (type_vocab_size 1); these are pairs")
    module = task.make_model(model.weights.config, model.labels)
    missing = fill(module, model.weights).missing
    if missing:
        raise ModelError(f"{model.name}: {', '.join(missing)} missing; {_advice(model.name)}")
    return module


def _on_device(module: "nn.Module", backend: "Backend", *, dtype: "Dtype") -> "nn.Module":
    from demo_bert.model.linear import round_products

    module.to(backend.device())
    round_products(module, backend.product_mode(dtype) == "rounded")
    return module


def _fixed_shapes(
    rows: "Sequence[Example]", most_rows: int, *, max_seq_length: int
) -> "Callable[[Batch], Batch]":
    """Fills batches up to one of a few shapes."""
    from demo_bert.data.capacity import capacities, expected_totals, fill

    totals = expected_totals([len(row.input_ids) for row in rows], most_rows)
    sizes = capacities(most_rows, max_seq_length, totals=totals)
    return partial(fill, sizes=sizes, max_seq_length=max_seq_length)


def _cut(
    tokenizer: "Tokenizer",
    examples: Sequence[TextExample],
    rows: "Sequence[Example]",
    *,
    max_seq_length: int,
) -> tuple[tuple[int, int], ...]:
    """Only rows of the full length can have been cut; those are counted again."""
    tokenizer.no_truncation()
    found: list[tuple[int, int]] = []
    for place, (example, row) in enumerate(zip(examples, rows, strict=True)):
        if len(row.input_ids) == max_seq_length:
            num_tokens = len(tokenizer.encode(example.text, example.text_b).ids)
            if num_tokens > max_seq_length:
                found.append((place, num_tokens))
    return tuple(found)


def _labels(name: str, weights: "LoadedWeights", directory: Path) -> tuple[str, ...]:
    """The classes of a classifier of texts."""
    lacking = [tensor for tensor in _CLASSIFIER if tensor not in weights.head]
    if lacking:
        raise ModelError(f"{name}: an encoder without {' and '.join(lacking)}; {_advice(name)}")
    kind = _other_kind(directory / "config.json")
    if kind is not None:
        raise ModelError(f"{name}: a model of another kind ({kind}); {_advice(name)}")
    count = len(weights.head[_CLASSIFIER[0]])
    if count < 2:
        raise ModelError(f"{name}: gives a number (one output), not a class; {_advice(name)}")
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


def _advice(name: str) -> str:
    return (
        "a classifier is needed; train one with:"
        f" demo_bert finetuning -d bf16 -m {shlex.quote(name)} -t mrpc"
    )


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN_CLASSES]) + (", ..." if len(labels) > _SHOWN_CLASSES else "")
    return f"{len(labels)} classes ({shown})"
