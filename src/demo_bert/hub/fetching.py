"""A source's files on this machine: from the cache or fetched, each checked before it is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from demo_bert.downloads import Announce, announce_download
from demo_bert.errors import NetworkError, UnreachableError
from demo_bert.files import sha256_of
from demo_bert.hub import client
from demo_bert.hub.records import record_hashes, recorded_hashes
from demo_bert.hub.resuming import RESUMED_BYTES
from demo_bert.hub.sources import HubFile, HubSource


def fetch(source: HubSource, *, announce: Announce) -> Path:
    """The files of a source, checked, on this machine.

    Args:
        source: What is wanted.
        announce: Gets a line for each thing worth knowing, before a download above all.

    Returns:
        The directory in the hub's cache that the files' paths start from.

    Raises:
        UnreachableError: A file is not in the cache, and nobody answers or requests are forbidden.
        NetworkError: The hub refuses or fails, or a file has other bytes than it must have.
        DiskError: There is not enough room, or a cache cannot be written.
        UsageError: `HF_ENDPOINT` or a proxy variable is not an address.
    """
    client.prepare()
    recorded = recorded_hashes(source)
    expected = {file.path: file.sha256 or recorded.get(file.path) for file in source.files}
    missing: list[HubFile] = []
    damaged: list[HubFile] = []
    for file in source.files:
        path = client.cached_file(source, file.path)
        if path is None:
            missing.append(file)
        elif not _is_whole(path, file, sha256=expected[file.path]):
            announce(f"{path}: other bytes than it must have; it is fetched again")
            damaged.append(file)
    if missing or damaged:
        try:
            _download(source, missing, damaged, expected=expected, announce=announce)
        except UnreachableError as error:
            if not damaged:
                raise
            raise NetworkError(
                f"{client.cached_file(source, damaged[0].path)}: the copy is damaged and the hub"
                " cannot be reached; remove it, or run again with the hub in reach"
            ) from error
    _record_unknown(source, recorded, announce=announce)
    return _directory(source)


def _download(
    source: HubSource,
    missing: Sequence[HubFile],
    damaged: Sequence[HubFile],
    *,
    expected: Mapping[str, str | None],
    announce: Announce,
) -> None:
    """Fetches the files and checks each before the next one."""
    stated: dict[str, client.RemoteFile] = {}
    sizes_bytes: list[int] = []
    for file in (*missing, *damaged):
        # The first request shows quickly whether the hub is there at all.
        is_known = file.size_bytes is not None and expected[file.path] is not None
        if not stated or not is_known or (file.size_bytes or 0) >= RESUMED_BYTES:
            stated[file.path] = client.file_on_hub(source, file.path)
        size = stated[file.path].size_bytes if file.path in stated else None
        sizes_bytes.append(file.size_bytes if file.size_bytes is not None else size or 0)
    announce_download(
        str(source),
        sum(sizes_bytes),
        origin=client.endpoint(),
        licence=source.licence,
        destination=client.hub_cache(),
        announce=announce,
    )
    for file in (*missing, *damaged):
        said = stated.get(file.path)
        path = client.download(
            source, file.path, again=file in damaged, announce=announce, said=said
        )
        sha256 = expected[file.path] or (said.sha256 if said else None)
        if not _is_whole(path, file, sha256=sha256):
            found = f"{path.stat().st_size} bytes with SHA-256 {sha256_of(path)[:16]}..."
            _discard(path)
            wanted = f"{file.size_bytes or '?'} bytes with {(sha256 or '?')[:16]}..."
            raise NetworkError(
                f"{source}, {file.path}: {client.endpoint()} sent {found}, expected were {wanted};"
                " they were thrown away; check HF_ENDPOINT and the network"
            )


def _is_whole(path: Path, file: HubFile, *, sha256: str | None) -> bool:
    if file.size_bytes is not None and path.stat().st_size != file.size_bytes:
        return False
    return sha256 is None or sha256_of(path) == sha256


def _discard(path: Path) -> None:
    """Takes wrong bytes out of the cache, so that no other program finds them there either."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _record_unknown(source: HubSource, recorded: Mapping[str, str], *, announce: Announce) -> None:
    """Writes down the hashes of a source that has files for which nobody had stated one."""
    unknown = [f.path for f in source.files if f.sha256 is None and f.path not in recorded]
    if not unknown:
        return
    hashes = {file.path: file.sha256 for file in source.files if file.sha256 is not None}
    for file in source.files:
        if file.path in unknown and (path := client.cached_file(source, file.path)):
            hashes[file.path] = sha256_of(path)
    record_hashes(source, hashes)
    announce(
        f"{source}: no hash was known beforehand of {', '.join(unknown)}; that of this copy is"
        " recorded and holds from now on"
    )


def _directory(source: HubSource) -> Path:
    first = source.files[0]
    path = client.cached_file(source, first.path)
    if path is None:
        raise NetworkError(
            f"{source}, {first.path}: vanished from {client.hub_cache()}; run it again"
        )
    return path.parents[len(PurePosixPath(first.path).parts) - 1]
