"""Files with weights: found in a directory, read into tensors, no code in them ever run."""

import dataclasses
import pickle
import struct
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from demo_bert.errors import ModelError
from demo_bert.model.json_object import read_json_object
from demo_bert.model.names import is_of_google_bert, is_state_of_training
from demo_bert.model.tf_checkpoint import TfCheckpoint, find_prefix, find_prefix_in

SourceFormat = Literal["safetensors", "pytorch", "tensorflow"]

_SAFETENSORS = "model.safetensors"
_PICKLE = "pytorch_model.bin"


@dataclasses.dataclass(frozen=True)
class RawWeights:
    """Tensors as a file has them."""

    source_format: SourceFormat
    """What kind of file they came from."""
    directory: Path
    """Where configuration and vocabulary are to be looked for."""
    files: tuple[Path, ...]
    """The files they came from."""
    tensors: dict[str, Tensor]
    """By the source's own names, on the CPU, in the types they were stored in."""
    unread: tuple[str, ...] = ()
    """Names of tensors that are no part of a BERT, and were not read."""


def read_raw_weights(path: Path) -> RawWeights:
    """Reads the weights of a model.

    Args:
        path: A directory with, in this order, model.safetensors (or its index of several
            files), pytorch_model.bin (or its index), one safetensors file of another name, or a
            TensorFlow checkpoint; or a TensorFlow checkpoint's prefix, or one of its files.

    Returns:
        The tensors. The state of an optimizer in a TensorFlow checkpoint is left out.

    Raises:
        ModelError: Nothing is there, or it is truncated, damaged, or holds more than tensors.
    """
    try:
        return _read_directory(path) if path.is_dir() else _read_other(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _read_directory(path: Path) -> RawWeights:
    for name, source_format in ((_SAFETENSORS, "safetensors"), (_PICKLE, "pytorch")):
        files = _whole_or_sharded(path, name)
        if files:
            return _read_files(path, files, source_format)
    others = tuple(sorted(path.glob("*.safetensors")))
    if len(others) == 1:
        return _read_files(path, others, "safetensors")
    if others:
        names = ", ".join(file.name for file in others)
        raise ModelError(f"{path}: which of {names}? Name the right one {_SAFETENSORS}")
    prefix = find_prefix_in(path)
    if prefix is None:
        raise ModelError(
            f"{path}: no weights there; looked for {_SAFETENSORS}, {_PICKLE}, *.safetensors and"
            " a TensorFlow checkpoint (*.index)"
        )
    return _read_tensorflow(prefix, path)


def _read_other(path: Path) -> RawWeights:
    if path.is_file() and path.suffix in (".safetensors", ".bin"):
        raise ModelError(f"{path}: a file; name the directory, which has config.json too")
    return _read_tensorflow(find_prefix(path), path.parent)


def _whole_or_sharded(directory: Path, name: str) -> tuple[Path, ...]:
    """The one file of that name, or those its index names; none where there is neither."""
    if (directory / name).exists():
        return (directory / name,)
    index = directory / f"{name}.index.json"
    if not index.exists():
        return ()
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index}: has no weight_map that says which tensor lies where")
    names = sorted({str(place) for place in places.values()})
    for part in names:
        if Path(part).name != part or not (directory / part).is_file():
            raise ModelError(f"{index}: names {part}, which is not in {directory}")
    return tuple(directory / part for part in names)


def _read_files(
    directory: Path, files: tuple[Path, ...], source_format: SourceFormat
) -> RawWeights:
    read = _read_safetensors if source_format == "safetensors" else _read_pickle
    tensors: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise ModelError(f"{file}: is not a file")
        part = read(file)
        twice = sorted(tensors.keys() & part.keys())
        if twice:
            raise ModelError(f"{file}: has {', '.join(twice)} once more, another part has it too")
        tensors |= part
    return RawWeights(source_format, directory, files, tensors)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"{file}: not a safetensors file, truncated or damaged ({_first_line(error)});"
            " copy or download it again"
        ) from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """Reads with torch's own unpickler of tensors, which calls nothing that a file names."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch's, about files of other versions
            content: object = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file}: damaged, or it holds code or objects beside tensors, which are never loaded;"
            " ask for the weights as model.safetensors"
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        OverflowError,
        struct.error,
    ) as error:
        raise ModelError(
            f"{file}: not PyTorch weights, truncated or damaged ({_first_line(error)});"
            " copy or download it again"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ModelError(f"{file}: not a table of tensors by name, as a model's state is")
    return content


def _read_tensorflow(prefix: Path, directory: Path) -> RawWeights:
    checkpoint = TfCheckpoint(prefix)
    names = [name for name in checkpoint.shapes if not is_state_of_training(name)]
    tensors = {
        name: torch.from_numpy(checkpoint.tensor(name)) for name in names if is_of_google_bert(name)
    }
    unread = tuple(name for name in names if name not in tensors)
    return RawWeights("tensorflow", directory, checkpoint.files, tensors, unread)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
