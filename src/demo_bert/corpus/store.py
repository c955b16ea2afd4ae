"""The token store: WordPiece ids on disk, and where sentences and documents end.

A store is a directory:

    manifest.json      what is in it and how it was made; written last: without it there is no store
    vocab.txt          the vocabulary that the ids mean
    shard-00000.bin    sentence ends (uint32), document ends (uint32), ids (uint16, or uint32 for
                       more than 65536 pieces), held-out flags (uint8): little-endian, in this order

Nothing is masked, paired, repeated or cut on disk: one store serves every length, phase and mask.
A document is never divided between shards.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.errors import DataError
from demo_bert.files import write_bytes, write_text

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
VOCABULARY_NAME = "vocab.txt"
CHECKED_BYTES = 1 << 20

_MOST_SMALL_IDS = 1 << 16
_END = np.dtype("<u4")
_NO_STORE = (
    "holds no finished token store (no manifest.json); make one with demo_bert prepare, or give"
    " the same command again to finish it"
)


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest lists it."""

    name: str
    tokens: int
    sentences: int
    documents: int
    sha256: str
    crc32: tuple[int, ...]
    """Of each mebibyte: where a copy differs is found by it."""


class Shard:
    """A shard, mapped when it is first read; its arrays are read-only views of the file.

    Args:
        path: Its file.
        entry: Its line in the manifest.
        id_dtype: Type of the ids on disk.
    """

    def __init__(self, path: Path, entry: ShardEntry, *, id_dtype: np.dtype[Any]) -> None:
        self.path = path
        self.entry = entry
        self._id_dtype = id_dtype

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process, which maps the file itself."""
        return {name: vars(self)[name] for name in ("path", "entry", "_id_dtype")}

    @cached_property
    def ids(self) -> np.ndarray:
        """WordPiece ids of all sentences, one after the other, (tokens,)."""
        begin = _END.itemsize * (self.entry.sentences + self.entry.documents)
        return self._part(begin, self.entry.tokens, dtype=self._id_dtype)

    @cached_property
    def sentence_ends(self) -> np.ndarray:
        """For each sentence, the place in `ids` after its last token, (sentences,) uint32."""
        return self._part(0, self.entry.sentences, dtype=_END)

    @cached_property
    def document_ends(self) -> np.ndarray:
        """For each document, the number of the sentence after its last, (documents,) uint32."""
        begin = _END.itemsize * self.entry.sentences
        return self._part(begin, self.entry.documents, dtype=_END)

    @cached_property
    def is_held_out(self) -> np.ndarray:
        """For each document, whether it is kept from training, (documents,) bool."""
        begin = self.num_bytes - self.entry.documents
        return self._part(begin, self.entry.documents, dtype=np.dtype(np.bool_))

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        ends = _END.itemsize * (self.entry.sentences + self.entry.documents)
        return ends + self._id_dtype.itemsize * self.entry.tokens + self.entry.documents

    @cached_property
    def _mapped(self) -> np.ndarray:
        try:
            mapped = np.memmap(self.path, dtype=np.uint8, mode="r", shape=(self.num_bytes,))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read ({error})") from error
        return mapped.view(np.ndarray)

    def _part(self, begin: int, count: int, *, dtype: np.dtype[Any]) -> np.ndarray:
        if not count:
            return np.empty(0, dtype)
        return self._mapped[begin : begin + count * dtype.itemsize].view(dtype)


class TokenStore:
    """A finished store; cheap to make, to keep and to send to another process.

    Args:
        path: Its directory.
        manifest: The content of manifest.json, checked by `open_store`.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        dtype = np.dtype(manifest["id_dtype"]).newbyteorder("<")
        entries = [ShardEntry(**entry) for entry in manifest["shards"]]
        self.shards = [Shard(path / one.name, one, id_dtype=dtype) for one in entries]

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards, held-out ones too."""
        return self.manifest["tokens"]

    @property
    def num_sentences(self) -> int:
        """Sentences of all shards, held-out ones too."""
        return self.manifest["sentences"]

    @property
    def num_documents(self) -> int:
        """Documents of all shards, held-out ones too."""
        return self.manifest["documents"]

    @property
    def vocabulary_sha256(self) -> str:
        """Hash of the vocabulary, as `vocabulary_sha256` makes it."""
        return self.manifest["vocabulary"]["sha256"]

    @property
    def vocabulary_path(self) -> Path:
        """The vocabulary's file within the store."""
        return self.path / VOCABULARY_NAME


def open_store(path: Path) -> TokenStore:
    """Opens a finished store for reading.

    Args:
        path: Its directory.

    Returns:
        The store; its shards are mapped when they are first read.

    Raises:
        DataError: There is no finished store, it was written by a newer version, its manifest is
            damaged, or a shard is missing or of another size than the manifest says.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    try:
        store = TokenStore(path, manifest)
        for name in ("tokens", "sentences", "documents"):
            total = sum(getattr(shard.entry, name) for shard in store.shards)
            if manifest[name] != total:
                raise ValueError(f"{name} {manifest[name]}, but {total} in its shards")
        for shard in store.shards:
            if re.fullmatch(r"\w[\w.-]*", shard.entry.name, re.ASCII) is None:
                raise ValueError(f"{shard.entry.name!r} is no name of a shard")
        if len(store.vocabulary_sha256) != 64:
            raise ValueError("no hash of the vocabulary")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path / MANIFEST_NAME}: damaged ({error!s}); prepare the store again"
        ) from error
    for shard in store.shards:
        _check_size(shard)
    return store


def vocabulary_sha256(vocabulary: Sequence[str]) -> str:
    """The hash by which a store and a model know that their ids mean the same.

    Args:
        vocabulary: The entries in the order of their ids.

    Returns:
        SHA-256 of the entries, each followed by a line feed, in hexadecimal.

    Example:
        >>> vocabulary_sha256(["[PAD]", "the"])[:8]
        'feb5e6d1'
    """
    return hashlib.sha256(_lines(vocabulary)).hexdigest()


def id_dtype_of(vocab_size: int) -> np.dtype[Any]:
    """The smallest type on disk that has all ids of a vocabulary.

    Args:
        vocab_size: Its entries.

    Returns:
        uint16 or uint32, little-endian.
    """
    return np.dtype("<u2" if vocab_size <= _MOST_SMALL_IDS else "<u4")


def write_shard(
    path: Path,
    ids: np.ndarray,
    *,
    sentence_ends: np.ndarray,
    document_ends: np.ndarray,
    is_held_out: np.ndarray,
    id_dtype: np.dtype[Any],
) -> ShardEntry:
    """Writes a shard, whole or not at all.

    Args:
        path: Its file, within the store's directory.
        ids: As in `Shard`, like the next three.
        sentence_ends: The last is the number of ids.
        document_ends: The last is the number of sentences.
        is_held_out: One flag for each document.
        id_dtype: What `id_dtype_of` says for the vocabulary.

    Returns:
        Its line for the manifest.

    Raises:
        DiskError: It cannot be written.
    """
    assert len(ids) < 1 << 32
    assert len(is_held_out) == len(document_ends)
    assert (sentence_ends[-1] if len(sentence_ends) else 0) == len(ids)
    assert (document_ends[-1] if len(document_ends) else 0) == len(sentence_ends)
    content = b"".join(
        (
            np.asarray(sentence_ends, _END).tobytes(),
            np.asarray(document_ends, _END).tobytes(),
            np.asarray(ids, id_dtype).tobytes(),
            np.asarray(is_held_out, np.bool_).tobytes(),
        )
    )
    write_bytes(path, content)
    return ShardEntry(
        name=path.name,
        tokens=len(ids),
        sentences=len(sentence_ends),
        documents=len(document_ends),
        sha256=hashlib.sha256(content).hexdigest(),
        crc32=checksums(content),
    )


def checksums(content: bytes) -> tuple[int, ...]:
    """The CRC-32 of each mebibyte.

    Args:
        content: Of a shard's file.

    Returns:
        The checksums, in order.
    """
    starts = range(0, len(content), CHECKED_BYTES)
    return tuple(zlib.crc32(content[at : at + CHECKED_BYTES]) for at in starts)


def write_manifest(
    path: Path, shards: Sequence[ShardEntry], *, vocabulary: Sequence[str], facts: dict[str, Any]
) -> None:
    """Makes a directory of written shards a store: its vocabulary, then its manifest.

    Args:
        path: The directory.
        shards: What `write_shard` gave, in order.
        vocabulary: The entries in the order of their ids.
        facts: What else the manifest says: `vocabulary` with the case rules, `sources`, `splitter`,
            `held_out`, `dedupe`, `command`, ...; plain values.

    Raises:
        DiskError: A file cannot be written.
    """
    manifest = {
        "schema_version": SCHEMA_VERSION,
        **{
            name: sum(getattr(shard, name) for shard in shards)
            for name in ("tokens", "sentences", "documents")
        },
        "id_dtype": id_dtype_of(len(vocabulary)).name,
        **facts,
        "vocabulary": {
            "sha256": vocabulary_sha256(vocabulary),
            "size": len(vocabulary),
            **facts.get("vocabulary", {}),
        },
        "shards": [asdict(shard) for shard in shards],
    }
    write_bytes(path / VOCABULARY_NAME, _lines(vocabulary))
    write_text(path / MANIFEST_NAME, json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise DataError(f"{path}: no such directory; give a token store")
    try:
        manifest = json.loads((path / MANIFEST_NAME).read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: {_NO_STORE}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path / MANIFEST_NAME}: damaged ({error}); prepare the store again"
        ) from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise DataError(f"{path / MANIFEST_NAME}: is not the manifest of a token store")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: a token store of version {version}; this demo_bert reads version"
            f" {SCHEMA_VERSION}: update demo_bert, or prepare the store again"
        )
    return manifest


def _check_size(shard: Shard) -> None:
    try:
        size = shard.path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{shard.path}: missing ({error.strerror}); copy the whole store"
        ) from error
    if size != shard.num_bytes:
        raise DataError(
            f"{shard.path}: has {size} bytes, its manifest says {shard.num_bytes}; copy the store"
            " again, or prepare it again"
        )


def _lines(vocabulary: Sequence[str]) -> bytes:
    return "".join(f"{entry}\n" for entry in vocabulary).encode("utf-8")
