"""Text and text-pair classification: the user's own TSV, CSV, JSONL or Parquet files.

    ./demo_bert finetuning -d bf16 -m tiny -t classification --dataset-path train.tsv

A header names the columns: `text` (or `sentence1`), `text_b` (or `sentence2`), `label`, else
`--columns`. Other tasks of this shape (MRPC) are made of the same `ClassificationTask`.

Shapes: N examples, C classes. Standard library alone at import.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from demo_bert.data.tables import TextExample, check_labels, file_facts
from demo_bert.errors import UsageError
from demo_bert.tasks.task import DataRequest, Recipe, Scores, TaskData

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from demo_bert.data.array_cache import ArrayCache
    from demo_bert.data.packing import Batch, Example
    from demo_bert.hub.sources import HubSource
    from demo_bert.model.bert import BertConfig

_NUM_MISTAKES = 20
_ENCODE_AT_ONCE = 1000

Loader = Callable[[DataRequest, Callable[[str], None]], TaskData]


@dataclass(frozen=True)
class ClassificationTask:
    """One label for each text or pair of texts.

    Attributes:
        name: As `-t` gives it.
        recipe: Settings where the user gives none.
        loader: Finds and reads the data.
        head: One class for each text.
        hub: Where the data is fetched where no path is named; None: it is always named.
    """

    name: str
    recipe: Recipe
    loader: Loader
    head: Literal["classifier", "span"] = "classifier"
    hub: "HubSource | None" = None

    def load(self, request: DataRequest, announce: Callable[[str], None]) -> TaskData:
        """See `Task.load`; a training split of one class is refused."""
        data = self.loader(request, announce)
        if request.labels is None:
            check_labels(data.splits["train"], source=f"the training split of {data.name}")
        return data

    def features(
        self,
        examples: Sequence[TextExample],
        *,
        labels: Sequence[str],
        tokenizer: "Tokenizer",
        max_seq_length: int,
        cache: "ArrayCache | None" = None,
    ) -> "list[Example]":
        """See `Task.features`; [CLS] text [SEP], or [CLS] text [SEP] text_b [SEP].

        The longer text of a pair is cut first. Rows are quickly made: nothing is kept.
        """
        del cache
        import numpy as np

        from demo_bert.data.packing import Example
        from demo_bert.losses import IGNORED

        class_of = {label: number for number, label in enumerate(labels)}
        tokenizer.enable_truncation(max_seq_length, strategy="longest_first")
        rows: list[Example] = []
        for start in range(0, len(examples), _ENCODE_AT_ONCE):
            part = examples[start : start + _ENCODE_AT_ONCE]
            inputs = [e.text if e.text_b is None else (e.text, e.text_b) for e in part]
            for example, encoded in zip(part, tokenizer.encode_batch(inputs), strict=True):
                label = IGNORED if example.label is None else class_of[example.label]
                ids = np.array(encoded.ids, dtype=np.int32)
                rows.append(Example(ids, len(ids) - sum(encoded.type_ids), label))
        return rows

    def make_model(self, config: "BertConfig", labels: Sequence[str]) -> "nn.Module":
        """See `Task.make_model`."""
        from demo_bert.model.heads import SequenceClassifier

        return SequenceClassifier(config, len(labels))

    def loss_sum(self, model: "nn.Module", batch: "Batch") -> "Tensor":
        """See `Task.loss_sum`: cross entropy."""
        from demo_bert.losses import classification_loss

        return classification_loss(self.outputs(model, batch), batch.labels)

    def is_labelled(self, example: TextExample) -> bool:
        """See `Task.is_labelled`."""
        return example.label is not None

    def num_outputs(self, labels: Sequence[str]) -> int:
        """See `Task.num_outputs`: a logit for each class."""
        return len(labels)

    def outputs(self, model: "nn.Module", batch: "Batch") -> "Tensor":
        """See `Task.outputs`: the logits."""
        return model(
            batch.input_ids,
            batch.position_ids,
            batch.token_type_ids,
            batch.cu_seqlens,
            batch.max_seqlen,
        )  # (B, C)

    def flops(self, config: "BertConfig", lengths: Sequence[int], *, num_labels: int) -> int:
        """See `Task.flops`."""
        from demo_bert.model.flops import classifier_flops

        return classifier_flops(config, lengths, num_labels)

    def scoring_bytes(self, num_examples: int) -> int:
        """See `Task.scoring_bytes`."""
        del num_examples
        return 0

    def score(
        self,
        examples: Sequence[TextExample],
        *,
        rows: "Sequence[Example]",
        labels: Sequence[str],
        logits: "np.ndarray",
    ) -> Scores:
        """See `Task.score`; a prediction's score is its softmax probability."""
        del rows
        import numpy as np

        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)  # (N, C)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))  # (N, C)
        chosen = logits.argmax(1)  # (N,)
        places = np.arange(len(examples))
        certainty = np.exp(log_probabilities[places, chosen])  # (N,)
        answers = [labels[place] for place in chosen]
        files = {"predictions.tsv": _predictions(examples, answers, certainty.tolist())}
        if any(example.label is None for example in examples):
            return Scores({}, 0.0, {}, files)
        class_of = {label: number for number, label in enumerate(labels)}
        gold = np.array([class_of[e.label] for e in examples if e.label is not None])  # (N,)
        confusion = np.zeros((len(labels), len(labels)), dtype=int)  # (C, C)
        np.add.at(confusion, (gold, chosen), 1)
        wrong = np.flatnonzero(gold != chosen)
        worst = wrong[np.argsort(-certainty[wrong], kind="stable")][:_NUM_MISTAKES]
        event = {
            "confusion": confusion.tolist(),
            "labels": list(labels),
            "mistakes": [
                {
                    **asdict(examples[number]),
                    "prediction": labels[chosen[number]],
                    "score": round(float(certainty[number]), 6),
                }
                for number in worst.tolist()
            ],
        }
        loss = -float(log_probabilities[places, gold].mean())
        return Scores(metrics_of(confusion.tolist(), labels), loss, event, files)

    def headline(self, metrics: Mapping[str, float]) -> str:
        """See `Task.headline`."""
        names = {"accuracy": "accuracy", "f1": "F1", "f1_macro": "macro F1"}
        return ", ".join(f"{names.get(key, key)} {value:.4f}" for key, value in metrics.items())


def metrics_of(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> dict[str, float]:
    """Accuracy and F1 from counts.

    Args:
        confusion: (C, C), rows are the true classes.
        labels: The classes.

    Returns:
        `accuracy`, 0..1; for the classes "0" and "1" `f1` of class "1", for all others `f1_macro`,
        the mean of the classes' F1. A class that neither occurs nor is predicted has F1 0.

    Example:
        >>> metrics_of([[1, 1], [0, 2]], ["0", "1"])
        {'accuracy': 0.75, 'f1': 0.8}
    """
    total = sum(map(sum, confusion))
    hits = [confusion[c][c] for c in range(len(labels))]
    f1 = []
    for c, hit in enumerate(hits):
        involved = sum(confusion[c]) + sum(row[c] for row in confusion)
        f1.append(2 * hit / involved if involved else 0.0)
    accuracy = sum(hits) / total
    if list(labels) == ["0", "1"]:
        return {"accuracy": accuracy, "f1": f1[1]}
    return {"accuracy": accuracy, "f1_macro": sum(f1) / len(f1)}


def _predictions(
    examples: Sequence[TextExample], answers: Sequence[str], certainty: Sequence[float]
) -> str:
    """The content of predictions.tsv."""
    lines = ["index\tprediction\tlabel\tscore"]
    for example, answer, score in zip(examples, answers, certainty, strict=True):
        lines.append(f"{example.index}\t{answer}\t{example.label or ''}\t{score:.6f}")
    return "\n".join(lines) + "\n"


def has_pairs(splits: Mapping[str, Sequence[TextExample]]) -> bool:
    """Whether the examples have two texts.

    Args:
        splits: Examples by split; all of one kind.

    Returns:
        True for pairs.
    """
    return any(example.text_b is not None for split in splits.values() for example in split[:1])


def load_user_files(request: DataRequest, announce: Callable[[str], None]) -> TaskData:
    """The user's own files, split by name, or a tenth held out of a single one.

    Args:
        request: With paths.
        announce: Not used: nothing is fetched.

    Returns:
        The data; classes are the training labels in sorted order.

    Raises:
        UsageError: No path was given.
        DataError: A file is missing, damaged or of another form.
    """
    from demo_bert.data.splits import split_user_files

    del announce
    if not request.paths:
        raise UsageError(
            "-t classification: no data; give --dataset-path FILE (TSV, CSV, JSONL or Parquet with"
            " a header: text, text_b, label)"
        )
    found = split_user_files(request.paths, columns=request.columns, labels=request.labels)
    labels = request.labels or tuple(
        sorted({e.label for split in found.splits.values() for e in split if e.label is not None})
    )
    return TaskData(
        name=", ".join(str(path) for path in request.paths),
        splits=found.splits,
        labels=labels,
        source=", ".join(str(path) for path in request.paths),
        licence="the user's own",
        is_pair=has_pairs(found.splits),
        files=file_facts(found.files),
        notes=tuple(found.notes),
    )


TASK = ClassificationTask(
    name="classification",
    recipe=Recipe(
        batch_size={"bf16": 32, "fp32": 32},
        max_seq_length=128,
        epochs=3.0,
        learning_rate=2e-5,
        source="as MRPC",
    ),
    loader=load_user_files,
)
