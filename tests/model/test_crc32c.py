"""CRC-32C against published values and against the definition, bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.model import crc32c as module
from demo_bert.model.crc32c import crc32c, masked


def bitwise(data: bytes) -> int:
    """The definition: one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_the_values_of_the_standard_come_out(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def test_the_sparse_polynomial_is_a_multiple_of_the_generator() -> None:
    sparse = 1 << 5685 | 1 << 1362 | 1 << 426 | 1
    generator = 0x11EDC6F41
    while sparse.bit_length() > 32:
        sparse ^= generator << (sparse.bit_length() - 33)
    assert sparse == 0


@pytest.mark.parametrize(
    "size", [5684, 5685, 5686, 5693, 9999, 10008, 45479, 45480, 45481, 45487, 45488, 45489, 80065]
)
def test_long_messages_equal_the_definition(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c(data) == bitwise(data.tobytes())


def test_messages_of_several_segments_equal_the_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = np.random.default_rng(1).integers(0, 256, 200_003, dtype=np.uint8)
    expected = bitwise(data.tobytes())
    for segment in (8192, 65_536, 1 << 20):
        monkeypatch.setattr(module, "_SEGMENT_BYTES", segment)
        assert crc32c(data) == expected


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_short_messages_equal_the_definition(data: bytes) -> None:
    assert crc32c(data) == bitwise(data)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 255), st.integers(1, 255))
def test_a_changed_byte_changes_the_checksum(place: int, fill: int, change: int) -> None:
    data = np.full(100_001, fill, np.uint8)
    before = crc32c(data)
    data[place] ^= change
    assert crc32c(data) != before


def test_the_message_is_not_written_to() -> None:
    data = np.arange(100_000, dtype=np.uint8)
    data.setflags(write=False)
    crc32c(data)


def test_the_mask_rotates_and_adds() -> None:
    assert masked(0) == 0xA282EAD8
    assert masked(1 << 15) == 0xA282EAD9
