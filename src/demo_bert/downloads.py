"""What all downloads share: where copies lie, what is said before a large one, room on the disk."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from demo_bert.errors import DiskError

Announce = Callable[[str], None]
"""Shows one line to the user; what a function is given to say what it fetches and from where."""

LARGE_BYTES = 50_000_000
"""From here on the destination, the licence and the free disk are said before the download."""

_MOST_SPARE_BYTES = 100_000_000
"""A download leaves its own size free, and no more than this: the run after it writes too."""


def cache_directory() -> Path:
    """Where our own copies and records lie; the hub's files lie in the hub's own cache.

    Returns:
        `DEMO_BERT_CACHE`, else `demo_bert` in `XDG_CACHE_HOME`, else in `~/.cache`. The directory
        need not exist.
    """
    if own := os.environ.get("DEMO_BERT_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().absolute() / "demo_bert"


def show_bytes(size_bytes: int) -> str:
    """A size as people write it.

    Args:
        size_bytes: At least 0.

    Returns:
        Three figures or fewer and a decimal unit.

    Example:
        >>> show_bytes(440449768)
        '440 MB'
        >>> show_bytes(1345000000)
        '1.3 GB'
    """
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    units = iter(("kB", "MB", "GB", "TB"))
    size, unit = size_bytes / 1000, next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"


def announce_download(
    what: str,
    size_bytes: int,
    *,
    unpacked_bytes: int = 0,
    origin: str,
    licence: str,
    destination: Path,
    announce: Announce,
) -> None:
    """Says what is about to be fetched, after making sure that it fits.

    Args:
        what: The files, in words.
        size_bytes: What is transferred.
        unpacked_bytes: What is written beside it.
        origin: The server they come from, without credentials.
        licence: Their licence.
        destination: The directory they go to; it need not exist.
        announce: Gets one line.

    Raises:
        DiskError: The file system of the destination has not enough room.
    """
    free_bytes = free_disk(destination)
    needed_bytes = size_bytes + unpacked_bytes
    spare_bytes = min(needed_bytes, _MOST_SPARE_BYTES)
    if free_bytes < needed_bytes + spare_bytes:
        raise DiskError(
            f"{what}: needs {show_bytes(needed_bytes)} and {show_bytes(spare_bytes)} to spare in"
            f" {destination}, where {show_bytes(free_bytes)} are free; make room, or set HF_HOME"
            " and DEMO_BERT_CACHE to a larger disk"
        )
    line = f"fetching {what} ({show_bytes(size_bytes)}) from {origin}"
    if size_bytes > LARGE_BYTES:
        line += f"; licence {licence}; to {destination}, {show_bytes(free_bytes)} free"
    announce(line)


def free_disk(destination: Path) -> int:
    """Free bytes of the file system that a directory is on, or will be on.

    Args:
        destination: It need not exist.

    Returns:
        Bytes that this user may write.

    Raises:
        DiskError: No parent of the directory can be read.
    """
    place = destination.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise DiskError(f"{place}: free space cannot be told ({error.strerror})") from error


def without_credentials(text: str) -> str:
    """The text with the user part of every address in it taken out.

    Args:
        text: Any text, perhaps with addresses.

    Returns:
        The text, safe to show.

    Example:
        >>> without_credentials("proxy http://me:secret@host:3128 refused")
        'proxy http://host:3128 refused'
    """
    return re.sub(r"(://)[^/\s]*@", r"\1", text)
