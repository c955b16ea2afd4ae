"""What was seen on the hub at first use: hashes of files, commits that names stood for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from demo_bert.downloads import cache_directory
from demo_bert.files import write_text
from demo_bert.hub.sources import HubSource


def recorded_hashes(source: HubSource) -> dict[str, str]:
    """The hashes that files of a source had at their first use.

    Args:
        source: Names the repository and the commit.

    Returns:
        SHA-256 by path; empty where the source is new here.
    """
    return _read(_hashes_path(source))


def record_hashes(source: HubSource, hashes: Mapping[str, str]) -> None:
    """Adds to the recorded hashes of a source.

    Args:
        source: Names the repository and the commit.
        hashes: SHA-256 by path.

    Raises:
        DiskError: Our cache cannot be written.
    """
    path = _hashes_path(source)
    _write(path, {**hashes, **_read(path)})


def record_files(source: HubSource) -> list[Path]:
    """The files of our cache that say something of a source.

    Args:
        source: Names the repository and the commit.

    Returns:
        Those that are there.
    """
    paths = (_hashes_path(source), _path("commits", source.repo_id))
    return [path for path in paths if path.is_file()]


def remember_commit(repo_id: str, revision: str | None, commit: str) -> None:
    """Notes which commit a name stood for when it was last asked for.

    Args:
        repo_id: `owner/name`.
        revision: A branch or a tag; None for the main branch.
        commit: 40 hexadecimal digits.

    Raises:
        DiskError: Our cache cannot be written.
    """
    path = _path("commits", repo_id)
    record = _read(path)
    if record.get(revision or "main") != commit:
        _write(path, {**record, revision or "main": commit})


def remembered_commit(repo_id: str, revision: str | None) -> str:
    """The commit that a name stood for when it was last asked for.

    Args:
        repo_id: `owner/name`.
        revision: A branch, a tag or a commit; None for the main branch.

    Returns:
        The commit; the revision itself where it was never asked for here.
    """
    name = revision or "main"
    return _read(_path("commits", repo_id)).get(name, name)


def _hashes_path(source: HubSource) -> Path:
    return _path("sha256", f"{source.repo_type}--{source.repo_id}--{source.revision}")


def _path(kind: str, name: str) -> Path:
    return cache_directory() / "hub" / kind / (re.sub(r"[^\w.-]", "--", name) + ".json")


def _read(path: Path) -> dict[str, str]:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in record.items()} if isinstance(record, dict) else {}


def _write(path: Path, record: Mapping[str, str]) -> None:
    write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
