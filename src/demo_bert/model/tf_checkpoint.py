"""TensorFlow checkpoints (V2, "tensor bundles"), read without TensorFlow.

`PREFIX.index` is a sorted string table from a tensor's name to a small protocol buffer: type,
shape, and where its bytes lie in `PREFIX.data-NNNNN-of-MMMMM`, with their checksum; the empty
name holds the header. Tensors lie uncompressed in row-major order.

Source: TensorFlow's tensor_bundle.proto, tensor_shape.proto, types.proto and table format.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from demo_bert.errors import ModelError
from demo_bert.model import sorted_table
from demo_bert.model.crc32c import crc32c, masked

# TensorFlow's DataType numbers. bfloat16 is not a numpy type: it is read as its 16 bits first.
_BFLOAT16 = 14
_DTYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    _BFLOAT16: np.dtype("<u2"),
    19: np.dtype("<f2"),
}
_OTHER_DTYPES = {7: "string", 8: "complex64", 18: "complex128", 20: "resource", 21: "variant"}
_SLICE_MARK = b"\0"  # begins the keys of slices, which hold parts of a tensor
_PREFERRED_NAMES = ("bert_model.ckpt", "variables")
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a tensor lies (BundleEntryProto)."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset_bytes: int
    size_bytes: int
    masked_crc: int
    is_sliced: bool


class TfCheckpoint:
    """The tensors of one checkpoint; the index is read at once, each tensor when it is asked for.

    Attributes:
        shapes: The shape of each tensor, by name, in the order of the names.
        files: The checkpoint's files, the index first.
    """

    shapes: dict[str, tuple[int, ...]]
    files: tuple[Path, ...]

    def __init__(self, prefix: Path) -> None:
        """Reads the index and looks at the shards' sizes.

        Args:
            prefix: The checkpoint's prefix, as `find_prefix` returns it.

        Raises:
            ModelError: A file is missing, truncated or damaged, or was written big-endian.
        """
        self._index = _with_suffix(prefix, ".index")
        table = sorted_table.read_table(self._index)
        if b"" not in table:
            raise ModelError(f"{self._index}: damaged (it has no header); download it again")
        try:
            num_shards = _num_shards(table.pop(b""))
            self._entries = {
                name.decode(errors="backslashreplace"): _entry(value)
                for name, value in table.items()
                if not name.startswith(_SLICE_MARK)
            }
        except ModelError as error:
            raise ModelError(f"{self._index}: {error}") from error
        self._shards = [
            _with_suffix(prefix, f".data-{shard:05d}-of-{num_shards:05d}")
            for shard in range(num_shards)
        ]
        self.shapes = {name: entry.shape for name, entry in self._entries.items()}
        self.files = (self._index, *self._shards)
        self._check_sizes()

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """One tensor, its checksum verified.

        Args:
            name: A name from `shapes`.

        Returns:
            The values in the type they were stored in; bfloat16 as float32, which is exact.

        Raises:
            ModelError: No such tensor, one of an unsupported kind, or damaged bytes.
        """
        if name not in self._entries:
            raise ModelError(f"{self._index}: has no tensor {name!r}")
        entry = self._entries[name]
        if entry.is_sliced:
            raise ModelError(f"{self._index}: {name} is stored in slices, which cannot be read")
        if entry.dtype not in _DTYPES:
            kind = _OTHER_DTYPES.get(entry.dtype, f"number {entry.dtype}")
            raise ModelError(f"{self._index}: {name} is of the type {kind}, which cannot be read")
        data = self._bytes_of(entry)
        if masked(crc32c(data)) != entry.masked_crc:
            raise ModelError(
                f"{self._shards[entry.shard]}: damaged (the checksum of {name} is wrong);"
                " copy or download it again"
            )
        values = data.view(_DTYPES[entry.dtype])
        if entry.dtype == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(entry.shape)

    def _bytes_of(self, entry: _Entry) -> npt.NDArray[np.uint8]:
        path = self._shards[entry.shard]
        try:
            data = np.fromfile(
                path, dtype=np.uint8, count=entry.size_bytes, offset=entry.offset_bytes
            )
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        if len(data) != entry.size_bytes:
            raise ModelError(f"{path}: became shorter while it was read")
        return data

    def _check_sizes(self) -> None:
        sizes: list[int] = []
        for path in self._shards:
            if not path.is_file():
                raise ModelError(f"{path}: no such file; a checkpoint needs all its parts")
            sizes.append(path.stat().st_size)
        for name, entry in self._entries.items():
            if entry.shard >= len(sizes):
                raise ModelError(f"{self._index}: {name} lies in part {entry.shard}, there is none")
            end = entry.offset_bytes + entry.size_bytes
            if end > sizes[entry.shard]:
                raise ModelError(
                    f"{self._shards[entry.shard]}: truncated: it has {sizes[entry.shard]} bytes,"
                    f" {name} ends at byte {end}; copy or download it again"
                )


def find_prefix(path: Path) -> Path:
    """The prefix of the checkpoint that a path means.

    Args:
        path: A directory (bert_model.ckpt or variables in it, else its only checkpoint), a
            prefix, or any one of a checkpoint's files.

    Returns:
        The path without `.index`.

    Raises:
        ModelError: There is no checkpoint, there are several, or it is of the old V1 format.
    """
    if path.is_dir():
        prefix = find_prefix_in(path)
        if prefix is None:
            raise ModelError(f"{path}: no TensorFlow checkpoint there (no file ends in .index)")
        return prefix
    prefix = path.with_name(_PART.sub("", path.name)) if path.name else path
    if _with_suffix(prefix, ".index").is_file():
        return prefix
    if path.is_file() and _is_table(path):
        raise ModelError(_v1_message(path))
    raise ModelError(f"{path}: no TensorFlow checkpoint there ({prefix.name}.index is missing)")


def find_prefix_in(path: Path) -> Path | None:
    """The prefix of the checkpoint in a directory.

    Args:
        path: A directory.

    Returns:
        The path without `.index`, or None where there is no checkpoint.

    Raises:
        ModelError: There are several, none of them bert_model.ckpt or variables, or there is
            one of the old V1 format.
    """
    names = sorted(file.name.removesuffix(".index") for file in path.glob("*.index"))
    for name in _PREFERRED_NAMES:
        if name in names:
            return path / name
    if len(names) == 1:
        return path / names[0]
    if names:
        raise ModelError(
            f"{path}: has {len(names)} TensorFlow checkpoints ({', '.join(names)}); name one of"
            f" them, for example {path / names[-1]}"
        )
    for file in sorted(path.iterdir()):
        if file.is_file() and _is_table(file):
            raise ModelError(_v1_message(file))
    return None


def _is_table(path: Path) -> bool:
    magic = sorted_table.MAGIC
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(magic)))
            return file.read() == magic
    except OSError:
        return False


def _v1_message(path: Path) -> str:
    return (
        f"{path}: a TensorFlow checkpoint of the old V1 format; only V2 (files .index and .data-*)"
        " can be read; save it again with tf.train.Saver of TensorFlow 1.0 or newer"
    )


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _num_shards(header: bytes) -> int:
    """Checks a BundleHeaderProto: num_shards = 1, endianness = 2 (0 is little)."""
    fields = dict(_fields(header))
    if fields.get(2, 0) != 0:
        raise ModelError("written on a big-endian machine, which cannot be read")
    num_shards = _number(fields.get(1, 0))
    if not 1 <= num_shards <= 99_999:
        raise ModelError(f"damaged (it announces {num_shards} parts); download it again")
    return num_shards


def _entry(value: bytes) -> _Entry:
    """A BundleEntryProto: dtype 1, shape 2, shard 3, offset 4, size 5, crc32c 6, slices 7."""
    pairs = list(_fields(value))
    fields = dict(pairs)
    shape = fields.get(2, b"")
    entry = _Entry(
        dtype=_number(fields.get(1, 0)),
        shape=_shape(shape if isinstance(shape, bytes) else b""),
        shard=_number(fields.get(3, 0)),
        offset_bytes=_number(fields.get(4, 0)),
        size_bytes=_number(fields.get(5, 0)),
        masked_crc=_number(fields.get(6, 0)),
        is_sliced=any(number == 7 for number, _ in pairs),
    )
    dtype = _DTYPES.get(entry.dtype)
    if dtype is not None and not entry.is_sliced:
        expected = math.prod(entry.shape) * dtype.itemsize
        if entry.size_bytes != expected:
            raise ModelError(
                f"damaged (a tensor of shape {entry.shape} has {entry.size_bytes} bytes instead of"
                f" {expected}); download it again"
            )
    return entry


def _shape(message: bytes) -> tuple[int, ...]:
    """A TensorShapeProto: repeated dim = 2 {size = 1}, unknown_rank = 3."""
    sizes: list[int] = []
    for number, value in _fields(message):
        if number == 3 and value:
            raise ModelError("has a tensor of unknown shape")
        if number == 2 and isinstance(value, bytes):
            sizes.append(_number(dict(_fields(value)).get(1, 0)))
    return tuple(sizes)


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ModelError("damaged (a field of the wrong kind); download it again")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer, in the order they were written."""
    position = 0
    while position < len(message):
        tag, position = sorted_table.read_varint(message, position)
        if tag & 7 == 0:
            value, position = sorted_table.read_varint(message, position)
            yield tag >> 3, value
            continue
        if tag & 7 == 2:
            size, position = sorted_table.read_varint(message, position)
        elif tag & 7 in (1, 5):
            size = 8 if tag & 7 == 1 else 4
        else:
            raise ModelError("damaged (not a protocol buffer); download it again")
        if position + size > len(message):
            raise ModelError("damaged (a field runs over its end); download it again")
        content = message[position : position + size]
        position += size
        yield tag >> 3, content if tag & 7 == 2 else int.from_bytes(content, "little")
