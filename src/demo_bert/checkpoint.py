"""State <-> checkpoint directory: complete or absent, checked by hash, nothing unpickled.

    checkpoints/step-<N>/   model.safetensors, optimizer.safetensors, manifest.json
    checkpoints/newest      the name of the newest complete one

A checkpoint is written under another name, synced and renamed; the manifest holds the length and
SHA-256 of each file and of itself, since no tensor format notices a flipped bit. What a killed
process left half-written is removed at the next save.
"""

import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from demo_bert import tensor_file
from demo_bert.choices import Duration
from demo_bert.errors import DiskError, RunDirectoryError
from demo_bert.files import sha256_of, sync_directory, write_text

BYTES_PER_WEIGHT = 12
"""Of a checkpoint: float32, with two moments."""

_NAME = re.compile(r"step-\d+")
_PARTS = ("model", "optimizer")
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found complete and undamaged.

    Attributes:
        path: Its directory.
        step: Updates done.
        state: What the loop needs beside tensors: examples consumed, micro-batch size.
    """

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part, on the host.

        Args:
            part: "model" or "optimizer".

        Returns:
            Names and tensors.
        """
        from safetensors.torch import load_file

        return load_file(self.path / f"{part}.safetensors")


def saving(
    directory: Path,
    *,
    step: int,
    state: Mapping[str, Any],
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    keep: int,
    keep_every: Duration | None = None,
) -> Generator[None, None, Path]:
    """Writes a checkpoint and then removes the oldest ones; a piece of that for each `next`.

    Args:
        directory: The run's `checkpoints/`; never made here, as it may be gone with its disk.
        step: Updates done.
        state: Plain values for `Checkpoint.state`.
        model: Names and weights; they must not change meanwhile, nor may the moments.
        optimizer: Names and moments.
        keep: How many checkpoints stay, at least 1; those of later steps, which this run has gone
            back behind, are neither counted nor removed.
        keep_every: Those of every so many steps, or one in so much time, stay for good beside.

    Yields:
        Nothing, after each piece.

    Returns:
        The checkpoint's directory.

    Raises:
        DiskError: It could not be written; those before it are untouched.
    """
    final = directory / f"step-{step}"
    staging = directory / f".step-{step}.partial"
    try:
        for stale in directory.glob(".step-*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        staging.mkdir()
        yield from _write(staging, step=step, state=state, parts=(model, optimizer))
        sync_directory(staging)
        if final.exists():
            shutil.rmtree(final)
        os.rename(staging, final)
        sync_directory(directory)
        write_text(directory / "newest", final.name + "\n")
    except (OSError, DiskError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DiskError(f"{final}: checkpoint not written ({reason})") from error
    numbered = [path for path in _numbered(directory) if _step_of(path) <= step]
    for old in sorted(set(numbered[keep:]) - _kept_for_good(numbered, keep_every)):
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is complete and undamaged.

    Args:
        directory: The run's `checkpoints/`; it need not exist.

    Returns:
        The checkpoint, or None where there is none; and a line for each damaged one that was
        passed over.
    """
    complaints = []
    for path in _numbered(directory):
        try:
            return _verified(path), complaints
        except RunDirectoryError as error:
            complaints.append(str(error))
    return None, complaints


def of_step(directory: Path, step: int) -> Checkpoint:
    """The checkpoint of one step.

    Args:
        directory: The run's `checkpoints/`.
        step: Updates done.

    Returns:
        The checkpoint.

    Raises:
        RunDirectoryError: There is none of that step, or it is damaged.
    """
    found = {_step_of(path): path for path in _numbered(directory)}
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise RunDirectoryError(f"--resume {step}: no checkpoint of that step; there are {there}")
    return _verified(found[step])


def set_aside_after(directory: Path, step: int) -> None:
    """Gives checkpoints of later steps another name, so that none is taken for the newest.

    Args:
        directory: The run's `checkpoints/`.
        step: Updates done where the run goes on.
    """
    for path in _numbered(directory):
        if _step_of(path) > step:
            os.rename(path, path.with_name(f"superseded-{path.name}-{time.time_ns()}"))


def _numbered(directory: Path) -> list[Path]:
    """Checkpoint directories, the newest step first."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: -_step_of(path))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _verified(path: Path) -> Checkpoint:
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        step, state, files = int(manifest["step"]), manifest["state"], manifest["files"]
        expected = {
            name: (int(facts["size_bytes"]), str(facts["sha256"])) for name, facts in files.items()
        }
        if manifest.pop("sha256") != _digest(manifest):
            raise ValueError("it is not what was saved")
    except (OSError, *_DAMAGE) as error:
        raise RunDirectoryError(f"{path}: damaged (manifest.json: {error})") from error
    if path.name != f"step-{step}" or set(expected) != {f"{part}.safetensors" for part in _PARTS}:
        raise RunDirectoryError(f"{path}: damaged (its manifest is of another checkpoint)")
    for name, (size_bytes, sha256) in expected.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size_bytes or sha256_of(file) != sha256:
            raise RunDirectoryError(f"{path}: damaged ({name} is not what was saved)")
    return Checkpoint(path, step, state)


def _write(
    staging: Path, *, step: int, state: Mapping[str, Any], parts: Sequence[Mapping[str, Tensor]]
) -> Generator[None, None, None]:
    """The files of a checkpoint, the manifest last, each on disk before this returns."""
    files: dict[str, dict[str, int | str]] = {}
    for part, tensors in zip(_PARTS, parts, strict=True):
        path = staging / f"{part}.safetensors"
        size_bytes, sha256 = yield from tensor_file.write(path, tensors)
        files[path.name] = {"size_bytes": size_bytes, "sha256": sha256}
    manifest = {
        "schema_version": 1,
        "step": step,
        "saved_at": time.time(),
        "state": dict(state),
        "files": files,
    }
    signed = manifest | {"sha256": _digest(manifest)}
    (staging / "manifest.json").write_text(json.dumps(signed, indent=1), encoding="utf-8")
    _sync(staging / "manifest.json")


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _kept_for_good(paths: Sequence[Path], every: Duration | None) -> set[Path]:
    """Those of the checkpoints, the newest first, that are never removed."""
    if every is None:
        return set()
    if every.seconds is None:
        assert every.steps is not None
        return {path for path in paths if _step_of(path) % every.steps == 0}
    kept: set[Path] = set()
    last = -math.inf
    for path in reversed(paths):
        saved_at = _saved_at(path)
        if saved_at - last >= every.seconds:
            kept.add(path)
            last = saved_at
    return kept


def _saved_at(path: Path) -> float:
    try:
        return float(json.loads((path / "manifest.json").read_text("utf-8"))["saved_at"])
    except (OSError, *_DAMAGE):
        return -math.inf
