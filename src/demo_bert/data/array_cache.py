"""Arrays that took time to make, kept on disk under a key and mapped into memory when wanted again.

The key says what the arrays were made of, so a kept one is never stale. Entries are written beside
their place and renamed; one that is damaged is made anew. The ones that were used longest ago go
first where all together exceed the limit.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_bert.files import sha256_of

Arrays = Mapping[str, np.ndarray]
_LOG = logging.getLogger(__name__)
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ArrayCache:
    """A directory of arrays.

    Attributes:
        directory: Where entries lie; made when the first one is kept.
        limit_bytes: Of all entries together; 0: nothing is kept, and what is there is removed.
    """

    directory: Path
    limit_bytes: int

    def get(self, key: str, make: Callable[[], Arrays]) -> tuple[Arrays, bool]:
        """The arrays of a key.

        Args:
            key: Hexadecimal digits that say what the arrays are made of.
            make: Makes them.

        Returns:
            The arrays, read-only and mapped where they come from the disk; and whether they were
            there already.
        """
        entry = self.directory / key
        kept = _read(entry) if self.limit_bytes else None
        if kept is not None:
            with suppress(OSError):  # a cache that may only be read
                os.utime(entry)
            return kept, True
        arrays = make()
        try:
            if self.limit_bytes:
                _write(entry, arrays)
            self._shrink(keep=entry)
        except OSError as error:
            _LOG.warning("%s: not kept (%s); the run goes on without", entry, error.strerror)
            return arrays, False
        return _read(entry) or arrays, False

    def _shrink(self, *, keep: Path) -> None:
        """Removes entries until the limit holds; the one in use stays if it fits by itself."""
        if not self.directory.is_dir():
            return
        entries = [path for path in self.directory.iterdir() if path.is_dir()]
        entries.sort(key=lambda path: (path == keep, path.stat().st_mtime_ns))
        sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in entries]
        total = sum(sizes)
        for path, size in zip(entries, sizes, strict=True):
            if total <= self.limit_bytes:
                return
            # Who has it mapped goes on reading: the file's space is freed after the last reader.
            shutil.rmtree(path, ignore_errors=True)
            total -= size


def _read(entry: Path) -> Arrays | None:
    """The arrays of an entry; None where it is not there, or is not what was written."""
    if not entry.is_dir():
        return None
    try:
        hashes = json.loads((entry / _MANIFEST).read_text("ascii"))
        if not isinstance(hashes, dict):
            raise ValueError(f"{_MANIFEST} has changed")
        for name, expected in hashes.items():
            if sha256_of(entry / f"{name}.npy") != expected:
                raise ValueError(f"{name}.npy has changed")
        return {
            name: np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in hashes
        }
    except (OSError, ValueError) as error:
        _LOG.warning("%s: damaged (%s); made anew", entry, error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _write(entry: Path, arrays: Arrays) -> None:
    """Keeps the arrays; another process that did so first wins.

    Raises:
        OSError: The file system is full or read-only; nothing is left behind.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".new-", dir=entry.parent))
    try:
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array, allow_pickle=False)
        hashes = {name: sha256_of(place / f"{name}.npy") for name in arrays}
        (place / _MANIFEST).write_text(json.dumps(hashes), "ascii")
        os.rename(place, entry)
    except OSError:
        shutil.rmtree(place, ignore_errors=True)
        if not (entry / _MANIFEST).is_file():
            raise
