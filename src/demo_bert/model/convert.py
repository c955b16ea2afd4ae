"""Weights from and to the formats of others: read, copied into our models, saved.

Read: Hugging Face directories (safetensors, whole or in parts, or pytorch_model.bin) and Google's
TensorFlow checkpoints. Saved: Hugging Face directories.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from demo_bert.errors import ModelError
from demo_bert.files import sha256_of, write_bytes, write_text
from demo_bert.model.bert import BertConfig
from demo_bert.model.config_file import config_json, parse_config, parse_labels
from demo_bert.model.json_object import read_json_object
from demo_bert.model.layout import (
    check_encoder,
    common_tensors,
    to_hugging_face,
    to_ours,
    unused_names,
)
from demo_bert.model.names import hugging_face_names, merge_layers
from demo_bert.model.vocabulary import (
    STANDARD_VOCABULARY,
    CaseRules,
    check_vocabulary,
    find_vocabulary,
    read_case_rules,
    read_vocabulary,
    save_tokenizer,
)
from demo_bert.model.weight_files import SourceFormat, read_raw_weights

_ENCODER = ("bert.embeddings.", "bert.layers.", "embeddings.", "layers.")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
# Which tensor tells the class that `transformers` has for a model.
_ARCHITECTURES = {
    "classifier.weight": "BertForSequenceClassification",
    "span.weight": "BertForQuestionAnswering",
    "mlm.bias": "BertForPreTraining",
}


@dataclasses.dataclass(frozen=True)
class LoadedWeights:
    """A model read from a directory, in our names and in float32 on the CPU."""

    config: BertConfig
    """Its shape."""
    tensors: dict[str, Tensor]
    """Encoder and pooler, by the names of `Bert` (without `bert.`)."""
    head: dict[str, Tensor]
    """Heads, by the names of the models in `heads.py`."""
    source_names: dict[str, tuple[str, ...]]
    """What each of both was called in the source (query, key and value are three names)."""
    unconverted: tuple[str, ...]
    """The source's names of tensors that have no place in a BERT or its heads."""
    source_format: SourceFormat
    """What kind of file they came from."""
    sha256: dict[str, str]
    """The weight files' SHA-256 by file name."""
    vocabulary_path: Path | None
    """vocab.txt or tokenizer.json; None where the standard uncased vocabulary is meant."""
    case_rules: CaseRules
    """What its tokenizer does to text."""
    labels: tuple[str, ...] | None
    """The names of the classifier's classes; None where it has no classifier, or no names."""

    @property
    def do_lower_case(self) -> bool:
        """Whether its text was put into lower case."""
        return self.case_rules.do_lower_case


@dataclasses.dataclass(frozen=True)
class MatchReport:
    """How a model and the weights it was filled with differ."""

    missing: tuple[str, ...]
    """Tensors that the weights do not have, by the model's names: left as they were."""
    unexpected: tuple[str, ...]
    """Tensors that the model has no place for, by the source's names: not used."""


def read_model_directory(path: Path) -> LoadedWeights:
    """Reads a model that others saved.

    Args:
        path: A Hugging Face directory; or a directory with a Google TensorFlow checkpoint, its
            prefix, or one of its files. Beside a TensorFlow checkpoint `hidden_act` "gelu" means
            the tanh form, as Google's modeling.py computes it.

    Returns:
        The weights, converted and checked against the configuration.

    Raises:
        ModelError: Something is missing, damaged, not a BERT, or does not fit together.
    """
    raw = read_raw_weights(path)
    is_google = raw.source_format == "tensorflow"
    config_path = _config_path(raw.directory, is_google=is_google)
    content = read_json_object(config_path)
    config = parse_config(content, config_path, gelu_is_tanh=is_google)
    common, source_of = common_tensors(raw)
    problems = check_encoder(config, common)
    if problems:
        raise ModelError(f"{config_path} and the weights do not fit: {'; '.join(problems)}")
    try:
        tensors, head = to_ours(config, common)
    except ModelError as error:
        raise ModelError(f"{raw.directory}: {error}") from error
    vocabulary_path = find_vocabulary(raw.directory, config.vocab_size)
    vocabulary = read_vocabulary(vocabulary_path or STANDARD_VOCABULARY)
    check_vocabulary(vocabulary, config.vocab_size)
    ours = (*tensors, *head)
    return LoadedWeights(
        config=config,
        tensors=tensors,
        head=head,
        source_names={
            name: tuple(source_of[part] for part in hugging_face_names(name)) for name in ours
        },
        unconverted=(*(source_of[name] for name in unused_names(ours, common)), *raw.unread),
        source_format=raw.source_format,
        sha256={file.name: sha256_of(file) for file in raw.files},
        vocabulary_path=vocabulary_path,
        case_rules=read_case_rules(raw.directory, vocabulary),
        labels=_labels(content, config_path, head),
    )


def fill(model: nn.Module, weights: LoadedWeights) -> MatchReport:
    """Copies weights into one of our models.

    Args:
        model: `Bert` or a model of `heads.py`, on any device.
        weights: What was read. A classifier with another number of classes counts as another
            head: the model's stays as it is, the source's is not used.

    Returns:
        What was missing and what was not used, pooler and heads among it; the caller decides
        what that means.

    Raises:
        ModelError: Shapes differ (each difference is named), or the encoder is incomplete. The
            model is untouched then.
    """
    targets: dict[str, Tensor] = dict(model.state_dict())
    sources = {**weights.tensors, **weights.head}
    if _has_other_classes(targets, sources):
        for name in _CLASSIFIER:
            sources.pop(name, None)
    own = {name: name.removeprefix("bert.") for name in targets}
    missing = tuple(name for name in targets if own[name] not in sources)
    present = {name: sources[own[name]] for name in targets if own[name] in sources}
    _check_fit(targets, present)
    with torch.no_grad():
        for name, value in present.items():
            targets[name].copy_(value)
    used = {own[name] for name in present}
    unexpected = [
        part for name, parts in weights.source_names.items() if name not in used for part in parts
    ]
    return MatchReport(missing, (*unexpected, *weights.unconverted))


def save_model_directory(
    path: Path,
    model: nn.Module,
    *,
    config: BertConfig,
    vocabulary: Sequence[str],
    case_rules: CaseRules,
    labels: Sequence[str] | None = None,
) -> None:
    """Saves a model as a Hugging Face directory, which `transformers` loads.

    Args:
        path: The directory; made where it is missing. Each file is replaced whole; config.json is
            written last, so a new directory that has it is complete.
        model: `Bert` or a model of `heads.py`, on any device.
        config: Its shape.
        vocabulary: The entries in the order of their ids.
        case_rules: What is done to text.
        labels: The names of the classes, for a classifier.

    Raises:
        ModelError: The vocabulary is larger than the model's.
        DiskError: A file cannot be written.
    """
    import safetensors.torch

    check_vocabulary(vocabulary, config.vocab_size)
    state: dict[str, Tensor] = dict(model.state_dict())
    content = config_json(
        config, architecture=_architecture(state), num_labels=_num_classes(state), labels=labels
    )
    assert labels is None or len(labels) == _num_classes(state), "one name for each class"
    weights = safetensors.torch.save(to_hugging_face(state), {"format": "pt"})
    write_bytes(path / "model.safetensors", weights)
    save_tokenizer(
        path, vocabulary, case_rules=case_rules, max_length_tokens=config.max_position_embeddings
    )
    write_text(path / "config.json", json.dumps(content, indent=2) + "\n")


def _config_path(directory: Path, *, is_google: bool) -> Path:
    known = ["config.json", "bert_config.json"]
    for name in reversed(known) if is_google else known:
        if (directory / name).exists():
            return directory / name
    raise ModelError(f"{directory}: has weights but no {' or '.join(known)} that says their shape")


def _labels(
    content: Mapping[str, object], path: Path, head: Mapping[str, Tensor]
) -> tuple[str, ...] | None:
    labels = parse_labels(content, path)
    num_classes = _num_classes(head)
    if num_classes is None or labels is None:
        return None
    if len(labels) != num_classes:
        raise ModelError(
            f"{path}: id2label names {len(labels)} classes, the classifier has {num_classes}"
        )
    return labels


def _num_classes(tensors: Mapping[str, Tensor]) -> int | None:
    """Rows of the classifier; None where there is none, or one of an impossible shape."""
    weight = tensors.get(_CLASSIFIER[0])
    return weight.shape[0] if weight is not None and weight.ndim == 2 else None


def _has_other_classes(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> bool:
    numbers = (_num_classes(targets), _num_classes(sources))
    return None not in numbers and numbers[0] != numbers[1]


def _architecture(state: Mapping[str, Tensor]) -> str:
    """The class of `transformers` that a model is saved as."""
    return next((name for tensor, name in _ARCHITECTURES.items() if tensor in state), "BertModel")


def _check_fit(targets: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
    """Refuses an incomplete encoder and tensors of other shapes."""
    lacking = [name for name in targets if name not in present and name.startswith(_ENCODER)]
    if lacking:
        raise ModelError(f"the weights lack tensors: {', '.join(merge_layers(lacking))}")
    different = [
        f"{name} has the shape {tuple(value.shape)} instead of {tuple(targets[name].shape)}"
        for name, value in present.items()
        if value.shape != targets[name].shape
    ]
    if different:
        raise ModelError(f"weights and model do not fit: {'; '.join(merge_layers(different))}")
