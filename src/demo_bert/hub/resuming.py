"""Large downloads that go on where a killed process stood.

The hub's library fetches into a file that is lost with its process. A large file is fetched into
one that stays instead, and then put where the library looks for it first: its cache keeps a file's
bytes under `blobs/<hash>`, which for large files is their SHA-256.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from demo_bert.downloads import Announce, show_bytes
from demo_bert.hub.sources import HubSource

RESUMED_BYTES = 20_000_000
"""From here on; the library writes in pieces of 10 MiB, so less would be half lost anyway."""


def fetch_bytes(
    source: HubSource,
    path: str,
    *,
    sha256: str,
    size_bytes: int,
    cache: Path,
    progress: Any,
    announce: Announce,
) -> bool:
    """Fetches the bytes of a large file into the hub's cache, from where they are already there.

    Args:
        source: Names the repository and the commit.
        path: The file's path in the repository.
        sha256: What the hub says it has; it is not checked here.
        size_bytes: Likewise.
        cache: The hub's cache.
        progress: The class that the library counts with.
        announce: Told where the download goes on.

    Returns:
        False where another process is at it.

    Raises:
        OSError: The cache cannot be written, or the library could not get through.
    """
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=source.repo_id, repo_type=source.repo_type)
    blob = cache / folder / "blobs" / sha256
    partial = blob.with_name(f"{sha256}.demo_bert.incomplete")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with _held(partial) as file:
        if file is None:
            return False
        _fill(
            file,
            source,
            path,
            size_bytes=size_bytes,
            progress=progress,
            announce=announce,
        )
        file.flush()
        os.fsync(file.fileno())
        os.replace(partial, blob)
    return True


def _fill(
    file: BinaryIO,
    source: HubSource,
    path: str,
    *,
    size_bytes: int,
    progress: Any,
    announce: Announce,
) -> None:
    """Fetches what the file does not have yet."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    there_bytes = os.fstat(file.fileno()).st_size
    if there_bytes > size_bytes:
        file.truncate(0)
        there_bytes = 0
    if there_bytes:
        announce(f"{path}: goes on at {show_bytes(there_bytes)} of {show_bytes(size_bytes)}")
    file.seek(there_bytes)
    http_get(
        hf_hub_url(source.repo_id, path, repo_type=source.repo_type, revision=source.revision),
        file,
        resume_size=there_bytes,
        headers=build_hf_headers(),
        expected_size=size_bytes,
        displayed_filename=path,
        tqdm_class=progress,
    )


@contextmanager
def _held(path: Path) -> Iterator[BinaryIO | None]:
    """The file, made where it is missing, for this process alone; None where another has it."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        # One that was there before may have been finished and renamed meanwhile.
        is_it = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
        yield file if is_it else None
