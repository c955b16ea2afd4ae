"""What a tensor is called: here, in Hugging Face directories, in Google's checkpoints.

Names meet in one form, that of Hugging Face without the prefix `bert.`:
`encoder.layer.0.attention.self.query.weight`. Ours differ in words, and in that query, key and
value are one tensor, stacked in this order.
"""

import re
from collections.abc import Iterable

_PARTS = ("query", "key", "value")

# Ours -> Hugging Face's, applied in this order, each where it occurs.
_RENAMES = (
    (re.compile(r"^embeddings\.(word|position|token_type)\."), r"embeddings.\1_embeddings."),
    (re.compile(r"^embeddings\.norm\."), "embeddings.LayerNorm."),
    (re.compile(r"^layers\.(\d+)\."), r"encoder.layer.\1."),
    (re.compile(r"\.attention\.output\."), ".attention.output.dense."),
    (re.compile(r"\.attention\.norm\."), ".attention.output.LayerNorm."),
    (re.compile(r"\.feed_forward\.up\."), ".intermediate.dense."),
    (re.compile(r"\.feed_forward\.down\."), ".output.dense."),
    (re.compile(r"\.feed_forward\.norm\."), ".output.LayerNorm."),
    (re.compile(r"^span\."), "qa_outputs."),
    (re.compile(r"^mlm\.transform\."), "cls.predictions.transform.dense."),
    (re.compile(r"^mlm\.norm\."), "cls.predictions.transform.LayerNorm."),
    (re.compile(r"^mlm\.bias$"), "cls.predictions.bias"),
    (re.compile(r"^nsp\."), "cls.seq_relationship."),
)

# Google's -> Hugging Face's, after slashes have become dots.
_GOOGLE_RENAMES = (
    (re.compile(r"\.layer_(\d+)\."), r".layer.\1."),
    (re.compile(r"_embeddings$"), "_embeddings.weight"),
    (re.compile(r"\.kernel$"), ".weight"),
    (re.compile(r"^output_(weight|bia)s$"), r"classifier.output_\1s"),
    (re.compile(r"^cls\.squad\."), "qa_outputs."),
    (re.compile(r"\.output_weights$"), ".weight"),
    (re.compile(r"\.output_bias$"), ".bias"),
)
_OPTIMIZER_STATE = re.compile(
    r"(^|/)(adam_[mv]|Adam(_1)?|AdamWeightDecayOptimizer(_1)?|beta[12]_power|global_step)$"
)
_LAYER = re.compile(r"\blayers?\.(\d+)\.")


def hugging_face_names(name: str) -> tuple[str, ...]:
    """What one of our tensors is called in a Hugging Face directory, without `bert.`.

    Args:
        name: Our name, without `bert.`.

    Returns:
        One name, or three where query, key and value are stacked.

    Example:
        >>> hugging_face_names("layers.3.attention.qkv.bias")[1]
        'encoder.layer.3.attention.self.key.bias'
        >>> hugging_face_names("nsp.weight")
        ('cls.seq_relationship.weight',)
    """
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    if ".attention.qkv." in name:
        return tuple(name.replace(".qkv.", f".self.{part}.") for part in _PARTS)
    return (name,)


def from_hugging_face(name: str) -> str:
    """The common form of a name in a Hugging Face directory, old or new.

    Args:
        name: For example `bert.embeddings.LayerNorm.gamma`.

    Returns:
        The name without `bert.`, layer norms' `gamma` and `beta` as `weight` and `bias`.

    Example:
        >>> from_hugging_face("bert.embeddings.LayerNorm.gamma")
        'embeddings.LayerNorm.weight'
    """
    return _weight_and_bias(name.removeprefix("bert."))


def from_google(name: str) -> tuple[str, bool]:
    """The common form of a variable's name in Google's checkpoints.

    Args:
        name: For example `bert/encoder/layer_0/output/dense/kernel`.

    Returns:
        The name, and whether the matrix is to be transposed: TensorFlow's kernels are (inputs,
        outputs). The matrices named `output_weights` are (outputs, inputs) as ours.

    Example:
        >>> from_google("bert/encoder/layer_0/output/dense/kernel")
        ('encoder.layer.0.output.dense.weight', True)
        >>> from_google("cls/squad/output_weights")
        ('qa_outputs.weight', False)
    """
    common = name.replace("/", ".")
    for pattern, replacement in _GOOGLE_RENAMES:
        common = pattern.sub(replacement, common)
    return from_hugging_face(common), name.endswith("/kernel")


def is_of_google_bert(name: str) -> bool:
    """Whether a variable of a Google checkpoint is one of BERT or of its published heads.

    Args:
        name: The variable's name.

    Returns:
        True for `bert/...`, `cls/...` and the classifier's `output_weights`, `output_bias`.
    """
    return name.startswith(("bert/", "cls/")) or name in ("output_weights", "output_bias")


def is_state_of_training(name: str) -> bool:
    """Whether a variable of a Google checkpoint is no weight but the optimizer's, or a counter.

    Args:
        name: The variable's name.

    Returns:
        True for `adam_m`, `adam_v`, `global_step` and the like.
    """
    return _OPTIMIZER_STATE.search(name) is not None


def merge_layers(texts: Iterable[str]) -> list[str]:
    """Texts that differ only in the number of a layer, as one text each.

    Args:
        texts: Tensors' names, or sentences that hold one.

    Returns:
        The texts in the order of their first occurrence.

    Example:
        >>> merge_layers(["layers.0.x", "pooler.y", "layers.1.x", "layers.2.x", "layers.5.x"])
        ['layers.0-2,5.x', 'pooler.y']
    """
    layers: dict[str, list[int]] = {}
    for text in texts:
        match = _LAYER.search(text)
        if match:
            pattern = f"{text[: match.start(1)]}\0{text[match.end(1) :]}"
            layers.setdefault(pattern, []).append(int(match[1]))
        else:
            layers.setdefault(text, [])
    return [text.replace("\0", _ranges(numbers)) for text, numbers in layers.items()]


def _weight_and_bias(name: str) -> str:
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _ranges(numbers: list[int]) -> str:
    """For example "0-2,5"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
