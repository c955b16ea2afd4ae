"""Files: read strictly, written whole or not at all, hashed, held by one process."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from demo_bert.errors import DataError, DiskError, RunDirectoryError

_CHUNK_BYTES = 1 << 20


def read_text(path: Path) -> str:
    """The whole file as text.

    Args:
        path: A UTF-8 file; a byte order mark at its start is dropped, line ends are kept.

    Returns:
        The text.

    Raises:
        DataError: The path is missing, is a directory, cannot be read, or is not UTF-8 (the
            byte's position is named).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a directory; a file is needed") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: not UTF-8 at byte {error.start} (line {line},"
            f" value 0x{data[error.start]:02x});"
            " save the file as UTF-8"
        ) from error
    return text.removeprefix("\ufeff")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the file beside its place, syncs it and renames it: readers see old or new, whole.

    Args:
        path: The destination; its directory is made where it is missing.
        data: The content.

    Raises:
        DiskError: The file system is full, read-only or gone; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise DiskError(f"{path}: cannot be written ({error.strerror})") from error


def write_text(path: Path, text: str) -> None:
    """Like `write_bytes`, for text in UTF-8.

    Args:
        path: The destination.
        text: The content.

    Raises:
        DiskError: The file system is full, read-only or gone; the old file is untouched.
    """
    write_bytes(path, text.encode("utf-8"))


def sync_directory(path: Path) -> None:
    """Makes renames inside the directory durable.

    Args:
        path: A directory.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def held(lock: Path, *, busy: str) -> Iterator[None]:
    """Holds a directory by a lock in it, which dies with its owner; the directory is made.

    Args:
        lock: The lock's file; it names the owner's process and host. It is the kernel's own, which
            holds over hosts too where they share the file system (NFS, Lustre).
        busy: What another owner does there, and what to do, for its message.

    Raises:
        RunDirectoryError: Another process holds it.
        DiskError: It cannot be made or written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DiskError(f"-o {lock.parent}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 300, 0).decode("utf-8", "replace").strip() or "unknown"
            raise RunDirectoryError(f"-o {lock.parent}: process {owner} {busy}") from error
        except OSError as error:
            raise DiskError(f"-o {lock.parent}: cannot be locked ({error.strerror})") from error
        with suppress(OSError):  # on a full disk: it holds all the same
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read in pieces.

    Args:
        path: A file that exists.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
