"""`doctor`: checks this machine, or every host of MULTI_HLS_IPS, and can put the program there."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from demo_bert import __version__
from demo_bert.commands.logs import to_standard_error
from demo_bert.errors import DemoBertError, UsageError
from demo_bert.launch.job import own_job
from demo_bert.report.console import say
from demo_bert.settings import DoctorSettings, Origin, redact

_OPTIONAL = {
    "rich": "the live display in a terminal",
    "tensorboard": "scalars for TensorBoard",
    "pyarrow": "Parquet files",
    "yaml": "settings files in YAML",
    "transformers": "comparisons with Hugging Face",
    "onnxruntime": "running exported models",
}
_LEAST_DISK_BYTES = 2 << 30
_REACH_TIMEOUT_S = 3.0
_INDEX = """
import os
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
settings = Configuration(isolated=False)
settings.load()
found = dict(settings.items())
names = (":env:.index-url", "install.index-url", "global.index-url")
print(next((found[name] for name in names if name in found), PyPI.simple_url))
"""

Finding = tuple[str, str, str]
"""("ok", "note" or "problem", what, in words)."""


def run(settings: DoctorSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.

    Returns:
        0 where all is well, else 1.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    del origins, argv
    to_standard_error(settings.log_level)
    if own_job() is not None:
        from demo_bert.commands.doctor_hosts import check_link

        return check_link(settings.device, timeout_s=settings.timeout.seconds or 600.0)
    if settings.hosts is not None:
        from demo_bert.commands.doctor_hosts import check_hosts

        return check_hosts(settings)
    if settings.setup_hosts:
        raise UsageError("--setup-hosts: no hosts are named; set MULTI_HLS_IPS=host,host")
    began = time.monotonic()
    findings = list(machine_findings(settings))
    problems = sum(level == "problem" for level, _, _ in findings)
    width = max(len(what) for _, what, _ in findings)
    lines = [f"{level:<8}{what:<{width}}  {redact(text)}" for level, what, text in findings]
    verdict = f"{problems} problem{'s' * (problems != 1)}" if problems else "no problems"
    say([*lines, f"{verdict}, {time.monotonic() - began:.1f} s"])
    return 1 if problems else 0


def machine_findings(settings: DoctorSettings) -> Iterator[Finding]:
    """What there is to say of this machine.

    Args:
        settings: As resolved.

    Yields:
        Level, subject, words with the mend where something is wrong.
    """
    yield "ok", "demo_bert", f"{__version__} in {Path(__file__).parents[1]}"
    is_new = sys.version_info >= (3, 11)
    version = platform.python_version()
    yield (
        ("ok", "python", f"{version}, {sys.executable}")
        if is_new
        else ("problem", "python", f"{version}; 3.11 or newer is needed")
    )
    yield from _torch(settings.device)
    yield from _disk()
    for module, use in _OPTIONAL.items():
        is_there = importlib.util.find_spec(module) is not None
        yield "ok" if is_there else "note", module, use if is_there else f"not installed: no {use}"
    is_there = shutil.which("mpirun") is not None
    mend = "not installed, several hosts need it: apt-get install openmpi-bin"
    yield "ok" if is_there else "note", "Open MPI", "several hosts" if is_there else mend
    yield from _reach()


def _torch(device: str) -> Iterator[Finding]:
    try:
        from demo_bert.hardware import select
        from demo_bert.hardware.cpu import usable_cores
    except ImportError as error:
        yield "problem", "torch", f"cannot be imported ({error}): remove .venv and call again"
        return
    yield "ok", "torch", importlib.metadata.version("torch")
    try:
        backend = select(device)
    except DemoBertError as error:
        yield "problem", "device", str(error)
        return
    count = backend.device_count() if backend.name != "cpu" else usable_cores()
    yield (
        "ok",
        "device",
        f"{backend.name}, {count} {'cores' if backend.name == 'cpu' else 'devices'}",
    )
    described = backend.describe()
    yield "ok", "model", f"{described['model']}"
    free = backend.free_memory_bytes()
    if free is not None:
        yield "ok", "free memory", f"{free / 1e9:.1f} GB"
    how = backend.product_mode("bf16")
    words = {"native": "the device has instructions for it", "rounded": "rounded, computed in fp32"}
    yield "ok", "bf16", words.get(how, how)


def _disk() -> Iterator[Finding]:
    from demo_bert.downloads import cache_directory

    for name, path in (("disk here", Path.cwd()), ("disk of cache", cache_directory())):
        existing = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(existing).free
        text = f"{free / 1e9:.1f} GB free at {path}"
        if not os.access(existing, os.W_OK):
            yield "problem", name, f"{path} cannot be written; change its owner, or go elsewhere"
        elif free < _LEAST_DISK_BYTES:
            yield "problem", name, f"{text}: make room; 2 GB is little for a run"
        else:
            yield "ok", name, text


def _reach() -> Iterator[Finding]:
    """Whether the places of downloads answer; a proxy stands for them where there is one."""
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        yield "note", "hub", "HF_HUB_OFFLINE is set: nothing is asked"
    elif reason := _why_unreachable(hub):
        mend = "give paths of weights and data, set HF_ENDPOINT to a mirror, or use the sample"
        yield "note", "hub", f"{hub} is not reached ({reason}): {mend}"
    else:
        yield "ok", "hub", f"{hub} answers"
    # pip knows where the index is: its configuration, its variables, its own default.
    asked = subprocess.run(
        [sys.executable, "-c", _INDEX], capture_output=True, text=True, timeout=60.0
    )
    index = asked.stdout.strip()
    if asked.returncode or not index:
        yield "note", "package index", "pip is not installed: nothing can be installed or fetched"
    elif reason := _why_unreachable(index):
        mend = "no installation, no weights of minilm; tell pip of a mirror"
        yield "note", "package index", f"{index} is not reached ({reason}): {mend}"
    else:
        yield "ok", "package index", f"{index} answers"


def _why_unreachable(address: str) -> str | None:
    parts = urlsplit(address)
    target = parts
    if proxy := getproxies().get(parts.scheme):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((target.hostname or "", port), timeout=_REACH_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
