"""From `-m` and `--init-checkpoint` to a configuration, weights and a tokenizer."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from demo_bert.errors import ModelError
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.convert import LoadedWeights, fill, read_model_directory
from demo_bert.model.published import find_model, find_published, origin_of
from demo_bert.model.sizes import SIZES
from demo_bert.model.vocabulary import (
    STANDARD_VOCABULARY,
    CaseRules,
    check_vocabulary,
    read_vocabulary,
)
from demo_bert.seeds import derive

Announce = Callable[[str], None]


@dataclass(frozen=True)
class StartingWeights:
    """What a run starts from.

    Attributes:
        config: The encoder's shape, dropout as published.
        weights: None: random weights.
        vocabulary: Entries in the order of their ids.
        case_rules: What the tokenizer does to text.
        record: For run.json: name, source, sha256, licence.
    """

    config: BertConfig
    weights: LoadedWeights | None
    vocabulary: list[str]
    case_rules: CaseRules
    record: dict[str, Any]


def find_starting_weights(
    model: str, init_checkpoint: str, *, announce: Announce
) -> StartingWeights:
    """Finds, reads and checks what a fine-tuning run starts from.

    Args:
        model: A size, a directory or a hub name.
        init_checkpoint: "published", "random" or a path.
        announce: Told what is fetched.

    Returns:
        The start.

    Raises:
        ModelError: Nothing is found, it is damaged, or it is not of the size that was named.
        NetworkError: It could not be fetched.
    """
    if init_checkpoint == "random":
        return _random(model, announce=announce)
    if init_checkpoint != "published":
        start = _read(find_model(init_checkpoint, announce=announce), name=init_checkpoint)
        _check_size(model, start)
        return start
    if model in SIZES:
        return _read(find_published(model, announce=announce), name=model)
    return _read(find_model(model, announce=announce), name=model)


def with_dropout(
    start: StartingWeights, *, hidden: float | None, attention: float | None
) -> StartingWeights:
    """The start with the dropout that was asked for.

    Args:
        start: What a run starts from.
        hidden: Dropout of hidden states; None: the model's.
        attention: Dropout of attention weights; None: the model's.

    Returns:
        The same weights.
    """
    asked = {"hidden_dropout_prob": hidden, "attention_probs_dropout_prob": attention}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    return dataclasses.replace(start, config=dataclasses.replace(start.config, **given))


def fill_model(
    model: nn.Module, start: StartingWeights, *, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sets every weight of a new model.

    Args:
        model: Encoder and head.
        start: Where the encoder comes from.
        seed: Of what is random: the head, or all.

    Returns:
        Names that the start does not have, and names of the start that found no place.
    """
    spread = start.config.initializer_range
    initialise(model, initializer_range=spread, seed=derive(seed, "weights"))
    if start.weights is None:
        return (), ()
    report = fill(model, start.weights)
    return report.missing, report.unexpected


def _random(model: str, *, announce: Announce) -> StartingWeights:
    if model not in SIZES:
        start = _read(find_model(model, announce=announce), name=model)
        record: dict[str, Any] = {**start.record, "name": "random", "sha256": {}}
        return dataclasses.replace(start, weights=None, record=record)
    record: dict[str, Any] = {"name": "random", "source": "random", "sha256": {}, "licence": ""}
    config = BertConfig(**dict[str, Any](SIZES[model].config))
    vocabulary = read_vocabulary(STANDARD_VOCABULARY)
    return StartingWeights(config, None, vocabulary, CaseRules(do_lower_case=True), record)


def _read(directory: Path, *, name: str) -> StartingWeights:
    weights = read_model_directory(directory)
    vocabulary = read_vocabulary(weights.vocabulary_path or STANDARD_VOCABULARY)
    check_vocabulary(vocabulary, weights.config.vocab_size)
    origin = origin_of(directory)
    embedded = f"{name} (embedded in the package)"
    record = {
        "name": embedded if origin.is_embedded else name,
        "source": embedded if origin.is_embedded else origin.source,
        "sha256": weights.sha256,
        "licence": origin.licence,
    }
    return StartingWeights(weights.config, weights, vocabulary, weights.case_rules, record)


def _check_size(model: str, start: StartingWeights) -> None:
    """Refuses weights of another size than the one that was named."""
    if model not in SIZES:
        return
    named = BertConfig(**dict[str, Any](SIZES[model].config))
    shape = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    differing = [
        f"{key} {getattr(start.config, key)} instead of {getattr(named, key)}"
        for key in shape
        if getattr(start.config, key) != getattr(named, key)
    ]
    if differing:
        raise ModelError(
            f"--init-checkpoint {start.record['name']}: not of size {model}:"
            f" {', '.join(differing)}; name its directory by -m instead"
        )
