"""`doctor` with MULTI_HLS_IPS: every host looked at, set up, and the network measured."""

import logging
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from demo_bert.commands.on_hosts import hosts_of
from demo_bert.errors import FailureError, UsageError
from demo_bert.launch.hosts import Order, run_on_hosts
from demo_bert.launch.mpirun import INSTALL
from demo_bert.launch.preflight import Needs, look
from demo_bert.launch.remote import Hosts
from demo_bert.report.console import say
from demo_bert.settings import DoctorSettings

_LOG = logging.getLogger(__name__)
_SETUP_TIMEOUT_S = 3600.0
_STAYS = (".git", ".venv", ".ruff_cache", "__pycache__", "runs", ".pytest_cache")


def check_hosts(settings: DoctorSettings) -> int:
    """Looks at every host, all problems together; then sums over all workers where none is.

    Args:
        settings: As resolved, with hosts.

    Returns:
        0 where all is well, else 1.

    Raises:
        FailureError: The program could not be put on a host.
        UsageError: The program is not a checkout, and was to be copied.
    """
    assert settings.hosts is not None
    names = settings.hosts
    hosts = hosts_of(settings)
    if settings.setup_hosts:
        _set_up(hosts, names)
    mpirun = shutil.which((settings.mpirun_command or "mpirun").split()[0])
    asked = settings.workers
    needs = Needs(
        device=settings.device,
        workers=asked if isinstance(asked, int) else None,
        paths=(),
        output_dir="doctor",
        interface=settings.network_interface,
        mpi_path=str(Path(mpirun).parent) if mpirun else "/usr/bin",
    )
    findings = look(hosts, names, needs, marker="")
    say(_table(names, findings.facts))
    problems = findings.lines() if mpirun else [f"this machine: {INSTALL}", *findings.lines()]
    say(problems or [f"no problems on {len(names)} hosts, {findings.seconds:.1f} s"])
    if problems:
        return 1
    order = Order(
        names=names,
        workers=asked if isinstance(asked, int) else 1,
        argv=("doctor", "--device", settings.device),
        output_dir="doctor",
        global_batch_size=None,
        needs=needs,
        min_hosts=len(names),
        max_restarts=0,
        timeout_s=settings.timeout.seconds or 600.0,
        interface=settings.network_interface,
        map_by=settings.map_by,
        cores=settings.map_by_pe,
        mpirun_command=settings.mpirun_command,
        has_run=False,
    )
    return run_on_hosts(order, hosts)


def check_link(device: str, *, timeout_s: float) -> int:
    """A worker's part of the check: a sum over all workers, timed.

    Args:
        device: As `--device` gives it.
        timeout_s: How long the others may take.

    Returns:
        0.

    Raises:
        FailureError: They did not come.
    """
    from demo_bert.distributed import join, leave, place, sum_speed
    from demo_bert.hardware import select

    world = place()
    backend = select(device, local_rank=world.local_rank)
    backend.prepare()
    join(world, backend.process_group, timeout_s=timeout_s)
    speed = sum_speed(world, backend.device())
    if world.is_first:
        say([str(speed)])
    leave(world)
    return 0


def _table(names: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [("host", "name", "cores", "devices", "free memory", "free disk", "torch", "interface")]
    for name in names:
        if (found := facts.get(name)) is None:
            rows.append((name, *("-",) * 7))
            continue
        memory, disk = found["free_memory_bytes"], found.get("free_disk_bytes")
        rows.append(
            (
                name,
                str(found["name"]),
                str(found["cores"]),
                f"{found['devices']} {found['backend']}" if found["devices"] else "cpu",
                f"{memory / 1e9:.1f} GB" if memory else "-",
                f"{disk / 1e9:.1f} GB" if disk else "-",
                str(found["torch"]),
                f"{found['interface']} {found['addresses'].get(found['interface'], '')}".strip(),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _set_up(hosts: Hosts, names: Sequence[str]) -> None:
    """Copies the checkout to every host, and lets it install itself there."""
    root = hosts.program.root
    if root is None:
        raise UsageError("--setup-hosts: copies a checkout, and this program is installed by pip")
    here = Path(__file__).parents[3]
    with tempfile.NamedTemporaryFile(suffix=".tar") as packed:
        with tarfile.open(packed.name, "w") as tar:
            tar.add(here, arcname=".", filter=_wanted)
        with ThreadPoolExecutor(len(names)) as pool:
            failures = pool.map(partial(_set_up_one, hosts, root, packed.name), names)
            problems = [failure for failure in failures if failure]
    if problems:
        raise FailureError("; ".join(problems))


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if set(Path(member.name).parts) & set(_STAYS) else member


def _set_up_one(hosts: Hosts, root: str, packed: str, name: str) -> str | None:
    """One host's part.

    Returns:
        What went wrong; None where nothing did.
    """
    place = shlex.quote(root)
    # A new copy beside the old one, for a file that is gone must not stay.
    script = (
        f"set -e; rm -rf {place}.new; mkdir -p {place}.new {place}; tar -xf - -C {place}.new;"
        f" if [ -d {place}/.venv ]; then mv {place}/.venv {place}.new/; fi;"
        f" if [ -d {place}/runs ]; then mv {place}/runs {place}.new/; fi;"
        f" rm -rf {place}.old; mv {place} {place}.old; mv {place}.new {place}; rm -rf {place}.old;"
        f" cd {place}; exec ./demo_bert doctor --device cpu </dev/null"
    )
    _LOG.info("%s: copying the program to %s and installing it", name, root)
    with open(packed, "rb") as content:
        done = subprocess.run(
            ["ssh", *hosts.ssh_arguments, name, script],
            stdin=content,
            capture_output=True,
            text=True,
            timeout=_SETUP_TIMEOUT_S,
        )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return f"{name}: not set up: {lines[-1] if lines else done.returncode}"
    _LOG.info("%s: is set up", name)
    return None
