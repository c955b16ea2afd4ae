"""Snappy's block format, decompressed: some TensorFlow checkpoints have their index in it."""

from demo_bert.errors import ModelError


def decompress(data: bytes) -> bytes:
    """The original bytes.

    Args:
        data: One Snappy block: the original length as a varint, then literals and copies.

    Returns:
        The bytes, exactly as many as the block announces.

    Raises:
        ModelError: The block is truncated, points before its start, or has another length than
            it announces.

    Example:
        >>> decompress(bytes([6, 0b0000_0100]) + b"ab" + bytes([0b0000_0001, 2]))
        b'ababab'

    Source:
        google/snappy, format_description.txt.
    """
    length, position = _length(data)
    output = bytearray()
    while position < len(data):
        tag = data[position]
        if tag & 3 == 0:
            size, position = _literal_size(data, position)
            output += data[position : position + size]
            position += size
            if position > len(data):
                raise ModelError("a Snappy block is truncated")
        else:
            size, distance, position = _copy(data, position)
            _append_copy(output, size, distance=distance)
        if len(output) > length:
            raise ModelError(f"a Snappy block is longer than the {length} bytes it announces")
    if len(output) != length:
        raise ModelError(f"a Snappy block has {len(output)} bytes, it announces {length}")
    return bytes(output)


def _length(data: bytes) -> tuple[int, int]:
    value = 0
    for position, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, position + 1
    raise ModelError("a Snappy block does not begin with its length")


def _literal_size(data: bytes, position: int) -> tuple[int, int]:
    """The size of a literal and where its bytes begin; 60..63 mean a size of 1..4 bytes."""
    code = data[position] >> 2
    start = position + 1
    if code < 60:
        return code + 1, start
    stop = start + code - 59
    return int.from_bytes(data[start:stop], "little") + 1, stop


def _copy(data: bytes, position: int) -> tuple[int, int, int]:
    """Size and distance of a copy, and where the next element begins."""
    tag = data[position]
    num_bytes = (0, 1, 2, 4)[tag & 3]
    stop = position + 1 + num_bytes
    if stop > len(data):
        raise ModelError("a Snappy block is truncated")
    distance = int.from_bytes(data[position + 1 : stop], "little")
    if num_bytes == 1:
        return 4 + (tag >> 2 & 7), distance | (tag >> 5) << 8, stop
    return 1 + (tag >> 2), distance, stop


def _append_copy(output: bytearray, size: int, *, distance: int) -> None:
    """Repeats what lies `distance` bytes back; the copy may overlap what it writes."""
    if not 0 < distance <= len(output):
        raise ModelError("a Snappy block points before its start")
    start = len(output) - distance
    pattern = bytes(output[start : start + size])
    output += (pattern * (size // len(pattern) + 1))[:size]
