"""How the tensors of a BERT are laid out: in others' files, and in our models.

Shapes: H hidden size, I intermediate size, V vocabulary.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from demo_bert.errors import ModelError
from demo_bert.model import names
from demo_bert.model.bert import BertConfig
from demo_bert.model.weight_files import RawWeights

_POOLER = ("pooler.dense.weight", "pooler.dense.bias")
_HEADS = (
    "classifier.weight",
    "classifier.bias",
    "span.weight",
    "span.bias",
    "mlm.transform.weight",
    "mlm.transform.bias",
    "mlm.norm.weight",
    "mlm.norm.bias",
    "mlm.bias",
    "nsp.weight",
    "nsp.bias",
)
# The decoder of the MLM head is the word embeddings; its bias is the head's.
_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_IGNORED = ("embeddings.position_ids",)  # a buffer of older versions: 0, 1, 2, ...
_LAYER = re.compile(r"^encoder\.layer\.(\d+)\.")


def encoder_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of `Bert`, its pooler left out.

    Args:
        config: The shape.

    Returns:
        Shapes by our names.
    """
    hidden, wide = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word.weight": (config.vocab_size, hidden),
        "embeddings.position.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type.weight": (config.type_vocab_size, hidden),
        "embeddings.norm.weight": (hidden,),
        "embeddings.norm.bias": (hidden,),
    }
    for layer in range(config.num_hidden_layers):
        for name, rows, columns in (
            ("attention.qkv", 3 * hidden, hidden),
            ("attention.output", hidden, hidden),
            ("feed_forward.up", wide, hidden),
            ("feed_forward.down", hidden, wide),
        ):
            shapes[f"layers.{layer}.{name}.weight"] = (rows, columns)
            shapes[f"layers.{layer}.{name}.bias"] = (rows,)
        for name in ("attention.norm", "feed_forward.norm"):
            shapes[f"layers.{layer}.{name}.weight"] = (hidden,)
            shapes[f"layers.{layer}.{name}.bias"] = (hidden,)
    return shapes


def common_tensors(raw: RawWeights) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by the names that `names.py` calls common, matrices as (outputs, inputs).

    Args:
        raw: What was read.

    Returns:
        The tensors, floating point ones in float32; and what each was called in the source.

    Raises:
        ModelError: Two tensors of the source mean the same.
    """
    tensors: dict[str, Tensor] = {}
    source_of: dict[str, str] = {}
    for source, tensor in raw.tensors.items():
        if raw.source_format == "tensorflow":
            name, is_transposed = names.from_google(source)
        else:
            name, is_transposed = names.from_hugging_face(source), False
        if name in _IGNORED:
            continue
        if name in tensors:
            raise ModelError(
                f"{raw.directory}: {source_of[name]} and {source} are two names of one tensor"
            )
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        tensors[name] = tensor.t() if is_transposed and tensor.ndim == 2 else tensor
        source_of[name] = source
    for tied, name in _TIED.items():
        if tied in tensors and name not in tensors:
            tensors[name], source_of[name] = tensors[tied], source_of[tied]
    return tensors, source_of


def check_encoder(config: BertConfig, tensors: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being the encoder of that shape.

    Args:
        config: The shape.
        tensors: By common names.

    Returns:
        The problems, one text each; none where all is well.
    """
    layers = {int(match[1]) for match in map(_LAYER.match, tensors) if match}
    if not layers:
        return ["the weights have no layers by BERT's names (encoder.layer.0...)"]
    if len(layers) != config.num_hidden_layers or max(layers) != len(layers) - 1:
        # Before any name is made: a configuration may announce a billion layers.
        return [
            f"num_hidden_layers is {config.num_hidden_layers}, the weights have"
            f" {len(layers)} layers, the last one number {max(layers)} (counted from 0)"
        ]
    missing: list[str] = []
    wrong: list[str] = []
    for name, shape in encoder_shapes(config).items():
        parts = names.hugging_face_names(name)
        expected = (shape[0] // len(parts), *shape[1:])
        for part in parts:
            if part not in tensors:
                missing.append(part)
            elif tuple(tensors[part].shape) != expected:
                found = tuple(tensors[part].shape)
                wrong.append(f"{part} has the shape {found} instead of {expected}")
    lacking = names.merge_layers(missing)
    return ([f"missing: {', '.join(lacking)}"] if lacking else []) + names.merge_layers(wrong)


def to_ours(
    config: BertConfig, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our tensors, made of common ones that `check_encoder` found no fault with.

    Args:
        config: The shape.
        tensors: By common names.

    Returns:
        The encoder's and pooler's tensors by the names of `Bert`, and those of heads by the
        names of `heads.py`.

    Raises:
        ModelError: A tensor is not of floating point, or holds an infinity or NaN.
    """
    encoder: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for name in (*encoder_shapes(config), *_POOLER, *_HEADS):
        parts = names.hugging_face_names(name)
        if any(part not in tensors for part in parts):
            continue
        for part in parts:
            if not tensors[part].is_floating_point():
                raise ModelError(f"{part} has the type {tensors[part].dtype}; weights are floats")
            if not bool(torch.isfinite(tensors[part]).all()):
                raise ModelError(f"{part} holds values that are not finite")
        ours = head if name in _HEADS else encoder
        values = [tensors[part] for part in parts]
        ours[name] = (torch.cat(values) if len(values) > 1 else values[0]).contiguous()
    return encoder, head


def unused_names(ours: Iterable[str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Common names that no tensor of ours was made of, repetitions of tied tensors left out.

    Args:
        ours: Our names.
        tensors: By common names.

    Returns:
        The names, in the order of the source.
    """
    used = {part for name in ours for part in names.hugging_face_names(name)}
    return [
        name
        for name, tensor in tensors.items()
        if name not in used and not (name in _TIED and _is_equal(tensor, tensors[_TIED[name]]))
    ]


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors by Hugging Face's names, query, key and value apart.

    Args:
        state: `state_dict()` of `Bert` or a model of `heads.py`; names with and without `bert.`.

    Returns:
        Contiguous float32 tensors on the CPU that share no memory.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        common = name.removeprefix("bert.")
        prefix = name[: len(name) - len(common)]
        parts = names.hugging_face_names(common)
        values = tensor.detach().to("cpu", torch.float32).chunk(len(parts))
        for part, value in zip(parts, values, strict=True):
            tensors[prefix + part] = value.clone(memory_format=torch.contiguous_format)
    return tensors


def _is_equal(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)
