"""Tensors -> a safetensors file, piece by piece: each byte is hashed and written in one pass.

The library's own writer has to be followed by a second pass that reads the file again to hash it;
on a CPU that also trains, both are missed. The files have the bytes that the library would write.
"""

import errno
import fcntl
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

PIECE_BYTES = 4 << 20
_PAGE_BYTES = 4096
_DIRECT = getattr(os, "O_DIRECT", 0)  # Linux alone has it

_CODES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""The format's names of types, in its order: the last ones stand first in a file."""


def write(path: Path, tensors: Mapping[str, Tensor]) -> Generator[None, None, tuple[int, str]]:
    """Writes a file and syncs it, one piece for each `next`, so that another thread may take over.

    Where the system allows it the pieces pass by its page cache, which costs a tenth of the time
    of a processor.

    Args:
        path: The file; one that is there is written anew.
        tensors: Of any layout, on any device; they must not change meanwhile.

    Yields:
        Nothing, after each piece.

    Returns:
        Length in bytes and SHA-256 of what was written.

    Raises:
        OSError: It cannot be written.

    Source:
        The format: https://github.com/huggingface/safetensors, "Format".
    """
    digest, size_bytes = hashlib.sha256(), 0
    handle = _opened(path)
    try:
        for piece in _pieces(tensors):
            digest.update(piece)
            _write_whole(handle, piece)
            size_bytes += len(piece)
            yield
        os.fsync(handle)
    finally:
        os.close(handle)
    return size_bytes, digest.hexdigest()


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of the file; each piece lies at the start of a page and is gone with the next."""
    buffer = mmap.mmap(-1, PIECE_BYTES)
    room = torch.frombuffer(buffer, dtype=torch.uint8)
    names = sorted(tensors, key=lambda name: (-_rank(tensors[name].dtype), name))
    filled = 0
    for source in (_header(tensors, names), *(tensors[name] for name in names)):
        # A view of its bytes; a copy only where it lies on a device or not in one stretch.
        rest = source.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        while len(rest):
            taken = min(len(rest), PIECE_BYTES - filled)
            room[filled : filled + taken] = rest[:taken]
            rest, filled = rest[taken:], filled + taken
            if filled == PIECE_BYTES:
                yield memoryview(buffer)
                filled = 0
    if filled:
        yield memoryview(buffer)[:filled]


def _header(tensors: Mapping[str, Tensor], names: list[str]) -> Tensor:
    """What the file begins with: the length of a JSON object, and where it says each tensor is."""
    places: dict[str, object] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        places[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(places, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return torch.frombuffer(bytearray(struct.pack("<Q", len(text)) + text), dtype=torch.uint8)


def _rank(dtype: torch.dtype) -> int:
    return list(_CODES).index(dtype)


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.open(path, flags, 0o666)  # a file system that cannot do without its cache


def _write_whole(handle: int, piece: memoryview) -> None:
    """Writes all of a piece; what is no whole number of pages goes through the cache."""
    if len(piece) % _PAGE_BYTES:
        _use_cache(handle)
    while len(piece):
        try:
            piece = piece[os.write(handle, piece) :]
        except OSError as error:
            if error.errno != errno.EINVAL or not _use_cache(handle):
                raise


def _use_cache(handle: int) -> bool:
    """Goes on through the page cache; False where that was so before."""
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    if flags & _DIRECT:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~_DIRECT)
    return bool(flags & _DIRECT)
