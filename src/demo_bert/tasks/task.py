"""What a task is to the commands: its data, features, head, loss, scores and recipe.

Standard library alone at import.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from demo_bert.data.array_cache import ArrayCache
    from demo_bert.data.packing import Batch, Example
    from demo_bert.hub.sources import HubSource
    from demo_bert.model.bert import BertConfig


@dataclass(frozen=True)
class Recipe:
    """A task's published settings, used where the user gives none."""

    batch_size: Mapping[str, int]
    """Examples of a micro-step, for each compute type."""
    max_seq_length: int
    """Longest example, in tokens."""
    epochs: float
    """Passes over the training split."""
    learning_rate: float
    """Base rate for hidden sizes of 768 and more, at the reference batch."""
    small_learning_rate: float = 1e-4
    """Base rate for smaller hidden sizes."""
    reference_batch: int = 32
    """Examples of a step for which the base rates hold."""
    learning_rate_cap: float = 5e-5
    """The most that `sqrt` scaling gives, for hidden sizes of 768 and more."""
    small_learning_rate_cap: float = 3e-4
    """The same for smaller hidden sizes."""
    warmup_fraction: float = 0.1
    """Share of the steps that warm up."""
    raised_warmup_fraction: float = 0.2
    """The same where scaling raised the rate."""
    optimizer: str = "adamw"
    """A name of `optim.OPTIMIZERS`."""
    schedule: str = "linear"
    """A name of `optim.SCHEDULES`."""
    weight_decay: float = 0.01
    """Share of a weight taken off per unit of learning rate."""
    clip_norm: float = 1.0
    """Largest global gradient norm."""
    source: str = ""
    """Where the numbers come from."""

    def base_rate(self, hidden_size: int) -> tuple[float, float]:
        """Base learning rate and cap.

        Args:
            hidden_size: Of the model.

        Returns:
            (rate, cap).
        """
        if hidden_size >= 768:
            return self.learning_rate, self.learning_rate_cap
        return self.small_learning_rate, self.small_learning_rate_cap


@dataclass(frozen=True)
class TaskData:
    """What a task is trained and scored on."""

    name: str
    """For people: "MRPC", a path."""
    splits: Mapping[str, Sequence[Any]]
    """"train" and "validation", and "test" where there is one: the task's raw examples."""
    labels: tuple[str, ...]
    """Names of the classes, in the order of the model's outputs."""
    source: str
    """Where it comes from: paths, a hub repository."""
    licence: str
    """As its publisher states it; "the user's own" for a user's files."""
    is_sample: bool = False
    """Whether it is the embedded sample that stands in."""
    is_pair: bool = False
    """Whether an example has two texts."""
    files: Sequence[Mapping[str, object]] = ()
    """`path`, `sha256`, `size_bytes` of each file."""
    notes: tuple[str, ...] = ()
    """Lines for the log: what was read, how it was split."""


@dataclass(frozen=True)
class DataRequest:
    """What the user said about data."""

    paths: tuple[Path, ...] = ()
    """`--dataset-path`; empty: fetched, cached, or the sample."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """`--columns`: role -> column name."""
    sample: bool | None = None
    """True: `--sample`, False: `--no-sample`, None: only where nothing can be fetched."""
    labels: tuple[str, ...] | None = None
    """The classes that a trained model knows; None when training."""


@dataclass(frozen=True)
class Scores:
    """What an evaluation gives."""

    metrics: Mapping[str, float]
    """By the contract's names."""
    loss: float
    """Mean over the labelled examples."""
    event: Mapping[str, object]
    """Further fields of the `evaluation` event: confusion, labels, mistakes."""
    files: Mapping[str, str]
    """Contents of the files of predictions, by name: predictions.tsv, ..."""


class Task(Protocol):
    """A task; `tasks/<name>.py` has one as TASK."""

    @property
    def name(self) -> str:
        """As `-t` gives it."""
        ...

    @property
    def recipe(self) -> Recipe:
        """Settings where the user gives none."""
        ...

    @property
    def head(self) -> Literal["classifier", "span"]:
        """What a model of the task answers with: a class for each text, or a part of it."""
        ...

    @property
    def hub(self) -> "HubSource | None":
        """Where the data is fetched where no path is named; None: it is always named."""
        ...

    def load(self, request: DataRequest, announce: Callable[[str], None]) -> TaskData:
        """Finds and reads the data, and checks all of it.

        Args:
            request: What the user said.
            announce: Told what is fetched.

        Returns:
            The data.

        Raises:
            DataError: A file is missing, damaged or of another form.
            NetworkError: It could not be fetched.
        """
        ...

    def features(
        self,
        examples: Sequence[Any],
        *,
        labels: Sequence[str],
        tokenizer: "Tokenizer",
        max_seq_length: int,
        cache: "ArrayCache | None" = None,
    ) -> "Sequence[Example]":
        """Model rows of raw examples, in their order.

        Args:
            examples: One split.
            labels: The classes.
            tokenizer: The model's.
            max_seq_length: The longest row, in tokens.
            cache: Where rows that take long to make are kept.

        Returns:
            A row for each example, or more where an example is seen through several windows.

        Raises:
            UsageError: The length leaves no room for what must be in a row.
        """
        ...

    def is_labelled(self, example: Any) -> bool:
        """Whether the right answer is known.

        Args:
            example: A raw example.

        Returns:
            True where it can be scored.
        """
        ...

    def make_model(self, config: "BertConfig", labels: Sequence[str]) -> "nn.Module":
        """Encoder and head, weights not yet set.

        Args:
            config: The encoder's shape.
            labels: The classes.

        Returns:
            The module.
        """
        ...

    def loss_sum(self, model: "nn.Module", batch: "Batch") -> "Tensor":
        """The loss summed over the batch's rows.

        Args:
            model: From `make_model`.
            batch: On the model's device.

        Returns:
            A float32 scalar.
        """
        ...

    def num_outputs(self, labels: Sequence[str]) -> int:
        """C, how many numbers an evaluation keeps of each row.

        Args:
            labels: The classes.

        Returns:
            The number.
        """
        ...

    def outputs(self, model: "nn.Module", batch: "Batch") -> "Tensor":
        """What an evaluation keeps of each row.

        Args:
            model: From `make_model`, in evaluation mode.
            batch: On the model's device.

        Returns:
            (B, C).
        """
        ...

    def flops(self, config: "BertConfig", lengths: Sequence[int], *, num_labels: int) -> int:
        """Operations of one forward pass.

        Args:
            config: The encoder's shape.
            lengths: Tokens of each row.
            num_labels: Classes.

        Returns:
            Operations.
        """
        ...

    def scoring_bytes(self, num_examples: int) -> int:
        """Memory that `score` takes at most, beside what it is given.

        Args:
            num_examples: How many are scored.

        Returns:
            Bytes, about; 0 where it is little.
        """
        ...

    def score(
        self,
        examples: Sequence[Any],
        *,
        rows: "Sequence[Example]",
        labels: Sequence[str],
        logits: "np.ndarray",
    ) -> Scores:
        """Metrics and predictions of one split.

        Args:
            examples: The raw examples, labelled or not.
            rows: Their rows, from `features`.
            labels: The classes.
            logits: (N, C) float32, from `outputs`, in the order of the rows.

        Returns:
            The scores; without labels the metrics are empty and the loss is 0.
        """
        ...

    def headline(self, metrics: Mapping[str, float]) -> str:
        """The score in a few words, "accuracy 0.8431, F1 0.8863".

        Args:
            metrics: Of `score`.

        Returns:
            The words.
        """
        ...
