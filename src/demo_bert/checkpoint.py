"""State <-> checkpoint directory: complete or absent, checked by hash, nothing unpickled.

    checkpoints/step-<N>/   model.safetensors, optimizer.safetensors, manifest.json
    checkpoints/newest      the name of the newest complete one

A checkpoint is written under another name, synced and renamed; the manifest holds the length and
SHA-256 of each file, since no tensor format notices a flipped bit by itself. What a killed process
left half-written is removed at the next save.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from demo_bert.errors import DiskError, RunDirectoryError
from demo_bert.files import sha256_of, sync_directory, write_text

_NAME = re.compile(r"step-\d+")
_PARTS = ("model", "optimizer")


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


def save(
    directory: Path,
    *,
    step: int,
    state: Mapping[str, Any],
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    keep: int,
) -> Path:
    """Writes a checkpoint and then removes the oldest ones.

    Args:
        directory: The run's `checkpoints/`.
        step: Updates done.
        state: Plain values for `Checkpoint.state`.
        model: Names and weights.
        optimizer: Names and moments.
        keep: How many checkpoints stay, at least 1; those of later steps, which this run has gone
            back behind, are neither counted nor removed.

    Returns:
        The checkpoint's directory.

    Raises:
        DiskError: It could not be written; those before it are untouched.
    """
    from safetensors.torch import save as serialise

    final = directory / f"step-{step}"
    staging = directory / f".step-{step}.partial"
    try:
        for stale in directory.glob(".step-*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        staging.mkdir(parents=True)
        files: dict[str, dict[str, int | str]] = {}
        for part, tensors in zip(_PARTS, (model, optimizer), strict=True):
            path = staging / f"{part}.safetensors"
            copies = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
            _write_synced(path, serialise(copies))
            files[path.name] = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        manifest = {"schema_version": 1, "step": step, "state": dict(state), "files": files}
        _write_synced(staging / "manifest.json", json.dumps(manifest, indent=1).encode())
        sync_directory(staging)
        if final.exists():
            shutil.rmtree(final)
        os.rename(staging, final)
        sync_directory(directory)
        write_text(directory / "newest", final.name + "\n")
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise DiskError(f"{final}: checkpoint not written ({error.strerror})") from error
    for old in [path for path in _numbered(directory) if _step_of(path) <= step][keep:]:
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(f"{path}: damaged (manifest.json: {error})") from error
    if path.name != f"step-{step}" or set(expected) != {f"{part}.safetensors" for part in _PARTS}:
        raise RunDirectoryError(f"{path}: damaged (its manifest is of another checkpoint)")
    for name, (size_bytes, sha256) in expected.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size_bytes or sha256_of(file) != sha256:
            raise RunDirectoryError(f"{path}: damaged ({name} is not what was saved)")
    return Checkpoint(path, step, state)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
