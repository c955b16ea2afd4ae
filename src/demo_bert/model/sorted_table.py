"""Sorted string tables, the LevelDB file format in which TensorFlow keeps a checkpoint's index.

A file is a row of blocks and a footer: data blocks, the meta index (empty here), the index
(last key -> place of each data block), and 48 bytes that say where the last two lie. A block is
entries, each sharing a prefix with the key before, then the restart points; behind it stand its
compression and a masked CRC-32C. Every byte of the file is checked: by a CRC, or because the
blocks have to lie one behind the other and the footer has to be filled up with zeros.
"""

from collections.abc import Iterator
from pathlib import Path

from demo_bert.errors import ModelError
from demo_bert.model import snappy
from demo_bert.model.crc32c import crc32c, masked

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression (1), masked CRC-32C of block and compression (4)
_NO_COMPRESSION = 0
_SNAPPY = 1


def read_table(path: Path) -> dict[bytes, bytes]:
    """All entries of a table, in the order of their keys.

    Args:
        path: The file.

    Returns:
        The value of each key.

    Raises:
        ModelError: The file cannot be read, is no table, is truncated or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) < _FOOTER_BYTES or not data.endswith(MAGIC):
        raise ModelError(f"{path}: not the index of a TensorFlow checkpoint, or truncated")
    try:
        return _entries_of(data)
    except ModelError as error:
        raise ModelError(f"{path}: damaged ({error}); copy or download it again") from error


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, 7 bits per byte, the low ones first.

    Args:
        data: Bytes that hold the number.
        position: Where it begins.

    Returns:
        The number, and the position behind it.

    Raises:
        ModelError: The bytes end too early, or the number is longer than it has to be.

    Example:
        >>> read_varint(bytes([0xAC, 0x02]), 0)
        (300, 2)
    """
    value = 0
    for count, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >> 64 or (byte == 0 and count > 0):
                raise ModelError("a number of an impossible form")
            return value, position + count + 1
    raise ModelError("a number that does not end")


def _entries_of(data: bytes) -> dict[bytes, bytes]:
    meta, index = _footer(data[-_FOOTER_BYTES:])
    table: dict[bytes, bytes] = {}
    end = 0
    last = b""
    for separator, value in _entries(_block(data, *index)):
        offset, size = _handle(value)
        if offset != end:
            raise ModelError("its blocks do not lie one behind the other")
        end = offset + size + _TRAILER_BYTES
        for key, content in _entries(_block(data, offset, size)):
            if table and key <= last or key > separator:
                raise ModelError("its keys are not in order")
            table[key] = content
            last = key
    for offset, size in (meta, index):
        if offset != end:
            raise ModelError("its blocks do not lie one behind the other")
        _block(data, offset, size)
        end = offset + size + _TRAILER_BYTES
    if end != len(data) - _FOOTER_BYTES:
        raise ModelError("there are bytes between its last block and its end")
    return table


def _footer(footer: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Offset and size of the meta index block and of the index block."""
    numbers: list[int] = []
    position = 0
    for _ in range(4):
        number, position = read_varint(footer[: -len(MAGIC)], position)
        numbers.append(number)
    if any(footer[position : -len(MAGIC)]):
        raise ModelError("its last 48 bytes are not a footer")
    return (numbers[0], numbers[1]), (numbers[2], numbers[3])


def _handle(value: bytes) -> tuple[int, int]:
    offset, position = read_varint(value, 0)
    size, _ = read_varint(value, position)
    return offset, size


def _block(data: bytes, offset: int, size: int) -> bytes:
    """A block's content, checked and decompressed."""
    end = offset + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise ModelError("a block lies beyond its end")
    stored = int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little")
    if masked(crc32c(data[offset : end + 1])) != stored:
        raise ModelError(f"the checksum of the block at byte {offset} is wrong")
    compression = data[end]
    if compression == _NO_COMPRESSION:
        return data[offset:end]
    if compression == _SNAPPY:
        return snappy.decompress(data[offset:end])
    raise ModelError(f"a block is compressed in the unknown way {compression}")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, prefixes restored."""
    num_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * num_restarts
    if end < 0:
        raise ModelError("a block is too short")
    key = b""
    position = 0
    while position < end:
        num_shared, position = read_varint(block, position)
        num_own, position = read_varint(block, position)
        num_value, position = read_varint(block, position)
        stop = position + num_own + num_value
        if num_shared > len(key) or stop > end:
            raise ModelError("an entry runs over the end of its block")
        key = key[:num_shared] + block[position : position + num_own]
        yield key, block[position + num_own : stop]
        position = stop
