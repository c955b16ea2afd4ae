"""Snappy's format: what a known compressor writes is read, and nothing else."""

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.errors import ModelError
from demo_bert.model.snappy import decompress

CODEC = pyarrow.Codec("snappy")
# Text with repetitions near and far, so that copies of every kind occur.
texts = st.lists(
    st.tuples(st.sampled_from([b"abc", b"encoder/layer_", b"\0" * 70, b"x"]), st.integers(1, 40))
    | st.tuples(st.binary(max_size=90), st.just(1)),
    max_size=40,
).map(lambda parts: b"".join(text * count for text, count in parts))


@settings(deadline=None)
@given(texts)
def test_what_snappy_wrote_comes_back(data: bytes) -> None:
    assert decompress(CODEC.compress(data, asbytes=True)) == data


def test_long_literals_and_far_copies_come_back() -> None:
    noise = bytes((i * i * 7919 >> 8) & 0xFF for i in range(70_000))
    data = noise + noise[:500] + bytes(100_000)
    assert decompress(CODEC.compress(data, asbytes=True)) == data


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (bytes([0b0000_0001, 3]), b"abcabca"),  # copy of 4 bytes, distance of 11 bits
        (bytes([2 << 2 | 2, 3, 0]), b"abcabc"),  # distance of 16 bits
        (bytes([2 << 2 | 3, 3, 0, 0, 0]), b"abcabc"),  # distance of 32 bits
        (bytes([60 << 2, 1, 0x78, 0x79]), b"abcxy"),  # literal with its size in a byte
    ],
)
def test_each_kind_of_element_is_read(element: bytes, expected: bytes) -> None:
    assert decompress(bytes([len(expected), 2 << 2]) + b"abc" + element) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff\xff\xff",
        bytes([3, 2 << 2]) + b"ab",
        bytes([5, 2 << 2]) + b"abc",
        bytes([1, 2 << 2]) + b"abc",
        bytes([8, 2 << 2]) + b"abc" + bytes([0b0000_0001, 4]),
        bytes([8, 2 << 2]) + b"abc" + bytes([0b0000_0001, 0]),
        bytes([8, 2 << 2]) + b"abc" + bytes([0b0000_0001]),
    ],
)
def test_damaged_blocks_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        decompress(data)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_read_or_refused_and_never_crashes(data: bytes) -> None:
    try:
        decompress(data)
    except ModelError:
        pass
