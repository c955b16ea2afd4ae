"""Writes TensorFlow V2 checkpoints for tests, after the same public format that we read."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from demo_bert.model.crc32c import crc32c, masked
from demo_bert.model.sorted_table import MAGIC

BFLOAT16 = 14
_NUMBERS = {"<f4": 1, "<f8": 2, "<i4": 3, "|u1": 4, "<i8": 9, "|b1": 10, "<u2": BFLOAT16, "<f2": 19}


def write_checkpoint(
    prefix: Path,
    tensors: Mapping[str, npt.NDArray[np.generic]],
    *,
    num_shards: int = 1,
    block_bytes: int = 4096,
    restart_interval: int = 16,
    with_snappy: bool = False,
    extra: Mapping[bytes, bytes] | None = None,
    big_endian: bool = False,
) -> None:
    """Tensors are dealt to the shards in turn; an array of uint16 is written as bfloat16."""
    shards = [bytearray() for _ in range(num_shards)]
    header = _field(1, num_shards) + (_field(2, 1) if big_endian else b"") + _field(3, _field(1, 1))
    entries = {b"": header, **(extra or {})}
    for number, name in enumerate(sorted(tensors)):
        shard = shards[number % num_shards]
        data = np.ascontiguousarray(tensors[name]).tobytes()
        entries[name.encode()] = entry(
            _NUMBERS[tensors[name].dtype.str],
            tensors[name].shape,
            shard=number % num_shards,
            offset_bytes=len(shard),
            data=data,
        )
        shard += data
    prefix.parent.mkdir(parents=True, exist_ok=True)
    table = build_table(
        sorted(entries.items()),
        block_bytes=block_bytes,
        restart_interval=restart_interval,
        with_snappy=with_snappy,
    )
    prefix.with_name(f"{prefix.name}.index").write_bytes(table)
    for number, shard in enumerate(shards):
        name = f"{prefix.name}.data-{number:05d}-of-{num_shards:05d}"
        prefix.with_name(name).write_bytes(shard)


def entry(
    dtype: int, shape: tuple[int, ...], *, shard: int, offset_bytes: int, data: bytes
) -> bytes:
    """A BundleEntryProto; fields that are 0 are left out, as protocol buffers do."""
    dims = b"".join(_field(2, _field(1, size)) for size in shape)
    message = _field(1, dtype) + _tag(2, 2) + varint(len(dims)) + dims
    message += _field(3, shard) + _field(4, offset_bytes) + _field(5, len(data))
    return message + _tag(6, 5) + struct.pack("<I", masked(crc32c(data)))


def build_table(
    items: Iterable[tuple[bytes, bytes]],
    *,
    block_bytes: int = 4096,
    restart_interval: int = 16,
    with_snappy: bool = False,
) -> bytes:
    """A sorted string table: blocks of about that many bytes, then the footer."""
    table = bytearray()
    index: list[tuple[bytes, bytes]] = []
    pending: list[tuple[bytes, bytes]] = []

    def flush() -> None:
        handle = _append_block(table, pending, restart_interval, with_snappy)
        index.append((pending[-1][0], handle))
        pending.clear()

    for item in items:
        pending.append(item)
        if sum(len(key) + len(value) for key, value in pending) >= block_bytes:
            flush()
    if pending:
        flush()
    meta_handle = _append_block(table, [], restart_interval, with_snappy)
    index_handle = _append_block(table, index, 1, with_snappy)
    return bytes(table) + (meta_handle + index_handle).ljust(40, b"\0") + MAGIC


def varint(number: int) -> bytes:
    """Seven bits per byte, the low ones first."""
    result = bytearray()
    while number >= 0x80:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


def _append_block(
    table: bytearray, items: list[tuple[bytes, bytes]], restart_interval: int, with_snappy: bool
) -> bytes:
    """Appends a block and its trailer; returns its handle."""
    block = bytearray()
    restarts = [0]
    last = b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % restart_interval:
            shared = next(
                (i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b),
                min(len(last), len(key)),
            )
        elif number:
            restarts.append(len(block))
        block += varint(shared) + varint(len(key) - shared) + varint(len(value))
        block += key[shared:] + value
        last = key
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    content = bytes(block)
    if with_snappy:
        import pyarrow

        content = pyarrow.Codec("snappy").compress(content, asbytes=True)
    handle = varint(len(table)) + varint(len(content))
    content += bytes([int(with_snappy)])
    table += content + struct.pack("<I", masked(crc32c(content)))
    return handle


def _tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _tag(number, 2) + varint(len(value)) + value
    return _tag(number, 0) + varint(value) if value else b""
