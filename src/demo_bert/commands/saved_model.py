"""A trained model: found, read, checked and asked.

`evaluate` and `predict` share it. The standard library alone at import: what is wrong with a
command line is said before torch is there.

Shapes: N rows, C outputs of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from demo_bert.commands.classes import Classes, advice, check_span, read_classes
from demo_bert.commands.run_facts import RunFacts, read_run_facts
from demo_bert.data.tables import TextExample
from demo_bert.errors import ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from torch import nn

    from demo_bert.data.array_cache import ArrayCache
    from demo_bert.data.packing import Batch, Example
    from demo_bert.hardware import Backend, Dtype
    from demo_bert.model.convert import LoadedWeights
    from demo_bert.tasks.task import Scores, Task

Announce = Callable[[str], None]
Head = Literal["classifier", "span"]

_TOKENS = 8192  # of a batch, as while training: the same batches give the same bits
_EXAMPLES = 1024


@dataclass(frozen=True)
class SavedModel:
    """A model that was read and checked."""

    name: str
    """As the user gave it."""
    weights: "LoadedWeights"
    labels: tuple[str, ...]
    """The classes of a classifier; those without a name are called by their numbers: "0", ..."""
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
class Answers:
    """What a model says to examples."""

    scores: "Scores"
    rows: "Sequence[Example]"
    """The model rows of the examples."""
    logits: "np.ndarray"
    """(N, C), what the task keeps of each row."""
    num_tokens: int
    """Of all examples, as far as they were read."""
    cut: tuple[tuple[int, int], ...]
    """(place, tokens) of each text that was too long, and was cut."""


def read_saved_model(name: str, *, announce: Announce, head: Head = "classifier") -> SavedModel:
    """Finds, reads and checks a model.

    Args:
        name: A run directory, a Hugging Face directory or a hub name.
        announce: Told what is fetched.
        head: What it must answer with.

    Returns:
        The model.

    Raises:
        ModelError: Nothing is found, it is damaged, or it answers with something else.
        NetworkError: It could not be fetched.
    """
    from demo_bert.model.convert import read_model_directory
    from demo_bert.model.published import find_model
    from demo_bert.model.sizes import SIZES
    from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary

    if name in SIZES:
        raise ModelError(
            f"{name}: a published encoder, not yet trained to answer; {advice(name, head=head)}"
        )
    path = Path(name).expanduser()
    directory = find_model(name, announce=announce, is_start=False)
    weights = read_model_directory(directory)
    vocabulary = read_vocabulary(weights.vocabulary_path or STANDARD_VOCABULARY)
    if head == "span":
        check_span(name, weights)
    return SavedModel(
        name=name,
        weights=weights,
        labels=read_classes(name, weights, directory) if head == "classifier" else (),
        tokenizer=build_tokenizer(vocabulary, **vars(weights.case_rules)),
        run=read_run_facts(path) if directory == path / "model" else None,
    )


def answer(
    model: SavedModel,
    task: "Task",
    examples: Sequence[Any],
    *,
    classes: Classes,
    dtype: "Dtype",
    backend: "Backend",
    max_seq_length: int,
    batch_size: int | None,
    cache: "ArrayCache | None" = None,
) -> Answers:
    """Asks the model.

    Args:
        model: What to ask.
        task: Makes features, and scores.
        examples: At least one; their labels, where there are any, are among `classes`.
        classes: What the answers of a classifier are called.
        dtype: The compute type.
        backend: The hardware, prepared.
        max_seq_length: The longest row, in tokens; longer texts are cut, or seen in windows.
        batch_size: Rows at a time; None: as while training, for the very same numbers.
        cache: Where rows that take long to make are kept.

    Returns:
        The answers, in the order of the examples.

    Raises:
        ModelError: A weight is missing, or the model does not take pairs.
    """
    from demo_bert.distributed import World
    from demo_bert.evaluation import logits_of

    is_span = task.head == "span"
    is_pair = is_span or any(e.text_b is not None for e in examples)
    module = _module(model, task, is_pair=is_pair)
    rows = task.features(
        examples,
        labels=classes.labels,
        tokenizer=model.tokenizer,
        max_seq_length=max_seq_length,
        cache=cache,
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
        outputs=task.outputs,
        num_outputs=task.num_outputs(classes.labels),
        max_tokens=most_tokens,
        max_examples=most_rows,
        dtype=dtype,
        backend=backend,
        world=World(),
        fill=fill_up,
    )  # (N, C)
    if classes.order:
        logits = logits.take(classes.order, axis=1)  # (N, C)
    cut = () if is_span else _cut(model.tokenizer, examples, rows, max_seq_length=max_seq_length)
    return Answers(
        scores=task.score(examples, rows=rows, labels=classes.labels, logits=logits),
        rows=rows,
        logits=logits,
        num_tokens=sum(len(row.input_ids) for row in rows),
        cut=cut,
    )


def _module(model: SavedModel, task: "Task", *, is_pair: bool) -> "nn.Module":
    """Encoder and head with all their weights."""
    from demo_bert.model.convert import fill

    if is_pair and model.weights.config.type_vocab_size < 2:
        raise ModelError(f"{model.name}: takes single texts (type_vocab_size 1); these are pairs")
    module = task.make_model(model.weights.config, model.labels)
    missing = fill(module, model.weights).missing
    if missing:
        raise ModelError(
            f"{model.name}: {', '.join(missing)} missing; {advice(model.name, head=task.head)}"
        )
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
