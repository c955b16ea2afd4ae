"""A model's configuration as JSON: Hugging Face's config.json and Google's bert_config.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from demo_bert.errors import ModelError
from demo_bert.model.bert import BertConfig

_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
_WHOLE = ("max_position_embeddings", "type_vocab_size", "pad_token_id")
_REAL = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
)
_EXACT_GELU = ("gelu", "gelu_python")
_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
# Settings that change what the network computes, with the only value that this BERT has.
_FIXED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def parse_config(content: Mapping[str, object], path: Path, *, gelu_is_tanh: bool) -> BertConfig:
    """The configuration that a JSON object describes.

    Args:
        content: The object; dropouts, positions and the like have BERT's defaults.
        path: Where it came from, for messages.
        gelu_is_tanh: Whether "gelu" means the tanh form. It does beside a TensorFlow checkpoint:
            Google's original modeling.py computes its `gelu` with tanh. It does not in Hugging
            Face's directories, whose `gelu` is exact.

    Returns:
        The configuration.

    Raises:
        ModelError: Fields are missing or of the wrong kind, or it is no BERT; all problems are
            in the one line.
    """
    missing = [name for name in _REQUIRED if name not in content]
    problems = [f"{', '.join(missing)} missing"] if missing else []
    for name, only in _FIXED.items():
        if content.get(name) not in (None, only):
            problems.append(f"{name} is {content[name]!r}, only {only!r} can be read")
    values: dict[str, Any] = {}
    for name in (*_REQUIRED, *_WHOLE, *_REAL):
        value = content.get(name)
        kind = int | float if name in _REAL else int
        if isinstance(value, kind) and not isinstance(value, bool):
            values[name] = value
        elif name in content and not (name == "pad_token_id" and value is None):
            needed = "a number" if name in _REAL else "a whole number"
            problems.append(f"{name} is {value!r}, {needed} is needed")
    hidden_act = _activation(content.get("hidden_act", "gelu"), gelu_is_tanh=gelu_is_tanh)
    if hidden_act is None:
        known = ", ".join((*_EXACT_GELU, *_TANH_GELU))
        problems.append(f"hidden_act is {content['hidden_act']!r}, one of {known} is needed")
    if problems or hidden_act is None:
        raise ModelError(f"{path}: not a BERT configuration: {'; '.join(problems)}")
    try:
        return BertConfig(**values, hidden_act=hidden_act)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def parse_labels(content: Mapping[str, object], path: Path) -> tuple[str, ...] | None:
    """The names of the labels, in the order of their numbers.

    Args:
        content: The object of a config.json.
        path: Where it came from, for messages.

    Returns:
        The names, or None where the file names none.

    Raises:
        ModelError: `id2label` does not give each number from 0 a name.
    """
    names = content.get("id2label")
    if names is None:
        return None
    problem = f"{path}: id2label must give each label number from 0 on a name of its own"
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(problem)
    if set(names) != {str(number) for number in range(len(names))}:
        raise ModelError(problem)
    return tuple(names[str(number)] for number in range(len(names)))


def config_json(
    config: BertConfig, *, architecture: str, num_labels: int | None, labels: Sequence[str] | None
) -> dict[str, object]:
    """The content of a config.json that `transformers` reads.

    Args:
        config: The shape.
        architecture: The class in `transformers`, `BertForSequenceClassification` for example.
        num_labels: Rows of the classifier; None where there is none.
        labels: Their names; None for LABEL_0, LABEL_1, ...

    Returns:
        Keys and values for JSON.
    """
    content: dict[str, object] = {
        "architectures": [architecture],
        "model_type": "bert",
        **config.to_dict(),
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    if num_labels is not None:
        names = list(labels) if labels else [f"LABEL_{number}" for number in range(num_labels)]
        content["id2label"] = {str(number): name for number, name in enumerate(names)}
        content["label2id"] = {name: number for number, name in enumerate(names)}
        kind = "regression" if num_labels == 1 else "single_label_classification"
        content["problem_type"] = kind
    return content


def _activation(name: object, *, gelu_is_tanh: bool) -> Literal["gelu", "gelu_new"] | None:
    if name in _TANH_GELU or (name == "gelu" and gelu_is_tanh):
        return "gelu_new"
    return "gelu" if name in _EXACT_GELU else None
