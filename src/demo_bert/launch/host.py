"""What the invoking process asks of a host over ssh: look, get ready, fetch, clean up.

    python -P -c START SOURCE VERB      one JSON object on standard input, one on standard output

Standard library alone, so that it answers on a host that has nothing else. `pull` writes and `push`
reads a tar file where the others have the second object.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from demo_bert import __version__, launchers
from demo_bert.launch import job as jobs
from demo_bert.launch import placement

START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from demo_bert.launch.host import main; main(sys.argv[1])"
)
"""The program that a host is asked to run."""

_WHOLE_BYTES = 64 << 20  # of larger files two ends are hashed
_END_BYTES = 1 << 20
_STEP = re.compile(r"step-(\d+)")
_SWEEP_S = 3.0
_CHANGING = {"settings", "digest", "changed"}  # of run.json, by what a run that goes on has changed
_DEVICES = ("dev/nvidia0", "dev/accel/accel0", "dev/hl0", "dev/kfd")


def main(verb: str) -> None:
    """Answers one question.

    Args:
        verb: "look", "caches", "ready", "sweep", "pull", "push" or "agent".
    """
    if verb == "agent":
        from demo_bert.launch.agent import run_agent

        sys.exit(run_agent(Path(sys.argv[2])))
    if verb == "push":
        _push(json.loads(sys.stdin.buffer.readline()))
        return
    asked = json.load(sys.stdin)
    if verb == "pull":
        _pull(asked)
        return
    answer = {"look": _look, "caches": _caches, "ready": _ready, "sweep": _sweep}[verb](asked)
    _answer(answer)


def _answer(values: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


def package_digest() -> str:
    """A hash over the sources of this package, which hosts must have alike."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def package_version(name: str) -> str | None:
    """The version of an installed package.

    Args:
        name: Of the distribution.

    Returns:
        Its version; None where it is not installed.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def content_digest(path: Path) -> str | None:
    """A hash of a file or of all files below a directory.

    Args:
        path: Which; of files above 64 MiB, the length and both ends are hashed.

    Returns:
        The hash; None where nothing is there.
    """
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\0{size}\0".encode())
        with file.open("rb") as opened:
            if size <= _WHOLE_BYTES:
                digest.update(opened.read())
            else:
                digest.update(opened.read(_END_BYTES))
                opened.seek(-_END_BYTES, os.SEEK_END)
                digest.update(opened.read(_END_BYTES))
    return digest.hexdigest()


def record_digest(path: Path) -> str:
    """A hash of what a run's record says of its beginning, which stays when the run goes on.

    Args:
        path: Of run.json.

    Returns:
        The hash.
    """
    data = path.read_bytes()
    try:
        record = json.loads(data)
        kept = {name: record[name] for name in record.keys() - _CHANGING}
    except (ValueError, AttributeError, RecursionError):  # damaged: the program will say so
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def listing_digest(path: Path) -> str | None:
    """A hash of the names and sizes of a file or of all files below a directory.

    Args:
        path: Which.

    Returns:
        The hash; None where nothing is there.
    """
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    rows = "".join(f"{one.relative_to(path).as_posix()}\0{one.stat().st_size}\0" for one in files)
    return hashlib.sha256(rows.encode("utf-8", "surrogateescape")).hexdigest()


def _look(asked: dict[str, Any]) -> dict[str, Any]:
    """What there is to know of this host before anything is started."""
    cwd, output_dir = Path(asked["cwd"]), Path(asked["cwd"], asked["output_dir"])
    facts: dict[str, Any] = {
        "time": time.time(),
        "name": os.uname().nodename,
        "version": __version__,
        "digest": package_digest(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": package_version("torch"),
        "mpi": shutil.which("orted", path=f"{asked['mpi_path']}:{os.environ.get('PATH', '')}"),
        "cores": len(placement.own_cores()) or os.cpu_count(),
        "free_memory_bytes": _free_memory_bytes(),
        "addresses": launchers.addresses(),
        "interface": launchers.interface_towards(asked["aim"]),
        "port": _free_port(),
        "paths": {path: content_digest(Path(cwd, path)) for path in asked["paths"]},
        "sources": {path: listing_digest(Path(cwd, path)) for path in asked["sources"]},
        "has_cwd": cwd.is_dir(),
        **_devices(asked["device"]),
        **_place_of_run(output_dir, asked["marker"]),
    }
    return facts


def _free_memory_bytes() -> int | None:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _devices(device: str) -> dict[str, Any]:
    """The accelerators; PyTorch is asked only where there might be any."""
    is_likely = any(Path("/", name).exists() for name in _DEVICES)
    if device == "cpu" or (device == "auto" and not is_likely):
        return {"backend": "cpu", "devices": 0}
    from demo_bert.errors import DemoBertError

    try:
        backend = import_module("demo_bert.hardware").select(device)
    except (DemoBertError, ImportError) as error:
        return {"backend": None, "devices": 0, "device_problem": str(error)}
    return {
        "backend": backend.name,
        "devices": 0 if backend.name == "cpu" else backend.device_count(),
    }


def _place_of_run(output_dir: Path, marker: str) -> dict[str, Any]:
    """What there is of the run here; leaves a file by which others see whether they share it."""
    parent = output_dir.parent
    found: dict[str, Any] = {"record": None, "is_complete": False, "steps": []}
    try:
        if not marker:
            return found
        parent.mkdir(parents=True, exist_ok=True)
        (parent / marker).write_text("", encoding="ascii")
        (parent / f"{marker}.full").write_bytes(b"\0" * 4096)
    except OSError as error:
        found["disk_problem"] = f"{parent}: {error.strerror}"
    finally:
        with contextlib.suppress(OSError):
            (parent / f"{marker}.full").unlink()
    with contextlib.suppress(OSError):
        found["free_disk_bytes"] = shutil.disk_usage(parent).free
    if (record := output_dir / "run.json").is_file():
        found["record"] = record_digest(record)
    with contextlib.suppress(OSError, ValueError):
        results = json.loads((output_dir / "results.json").read_text("utf-8"))
        found["is_complete"] = results.get("status") == "complete"
    found["steps"] = sorted(_steps(output_dir))
    return found


def _steps(output_dir: Path) -> Iterator[int]:
    """The checkpoints of a run, those of its seeds too, by the steps they were saved at."""
    for path in output_dir.glob("**/checkpoints/step-*"):
        if (named := _STEP.fullmatch(path.name)) and (path / "manifest.json").is_file():
            yield int(named[1])


def _caches(asked: dict[str, Any]) -> dict[str, Any]:
    """See `caches.answer`, which needs the packages that workers need."""
    from demo_bert.launch import caches

    return caches.answer(asked)


def _ready(asked: dict[str, Any]) -> dict[str, Any]:
    """Takes the job; says which of the others' files it sees, and removes its own."""
    parent = Path(asked["cwd"], asked["output_dir"]).parent
    seen = [marker for marker in asked["markers"] if (parent / marker).exists()]
    if asked["job"] is not None:
        job = jobs.from_dict(asked["job"])
        job.write(Path(job.directory))
    return {"seen": seen}


def _sweep(asked: dict[str, Any]) -> dict[str, Any]:
    """Ends every process of a job, and removes what the job left."""
    directory = str(asked["directory"])
    swept: list[int] = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        found = list(_processes_of(directory))
        swept += [process for process in found if process not in swept]
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)
        deadline = time.monotonic() + _SWEEP_S
        while list(_processes_of(directory)) and time.monotonic() < deadline:
            time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)
    parent = Path(asked["cwd"], asked["output_dir"]).parent
    for marker in asked["markers"]:
        with contextlib.suppress(OSError):
            (parent / marker).unlink()
    return {"swept": swept}


def _processes_of(directory: str) -> Iterator[int]:
    """The agents and workers of a job on this host."""
    entry = f"{jobs.VARIABLE}={directory}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        process = int(path.name)
        if process == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (path / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] == "Z":
                continue
            is_worker = entry in (path / "environ").read_bytes().split(b"\0")
            arguments = (path / "cmdline").read_bytes().split(b"\0")
            if is_worker or arguments[-3:-1] == [b"agent", directory.encode()]:
                yield process


def _pull(asked: dict[str, Any]) -> None:
    """Gives files below a directory, as a tar."""
    root = Path(asked["cwd"], asked["path"])
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            inner = path.relative_to(root)
            if path.is_file() and not set(inner.parts) & set(asked["without"]):
                with contextlib.suppress(FileNotFoundError):
                    tar.add(path, arcname=inner.as_posix(), recursive=False)


def _push(asked: dict[str, Any]) -> None:
    """Takes files as a tar: whole or not at all, each."""
    root = Path(asked["cwd"], asked["path"])
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pushed-", dir=root) as staging:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
            tar.extractall(staging, filter="data")
        for path in sorted(Path(staging).rglob("*")):
            if path.is_file():
                place = root / path.relative_to(staging)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
    _answer({"pushed": True})
