"""`prepare` on the hosts of MULTI_HLS_IPS: what the invoking process works out beforehand."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from demo_bert.commands.on_hosts import hosts_of
from demo_bert.errors import FailureError
from demo_bert.launch.hosts import Order, run_on_hosts
from demo_bert.launch.mpirun import INSTALL
from demo_bert.launch.preflight import Needs, look
from demo_bert.launch.remote import Hosts
from demo_bert.settings import PrepareSettings

_WORKER_BYTES = 600 << 20
_MAX_RESTARTS = 3
_SOURCES = ("wikipedia", "books", "text", "jsonl", "parquet")


def make_on_hosts(settings: PrepareSettings, argv: Sequence[str]) -> int:
    """Makes a store with workers on several hosts, which must all see its place and the sources.

    Args:
        settings: As resolved, with hosts and workers.
        argv: The program's arguments.

    Returns:
        The exit code of the workers.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    assert settings.hosts is not None and settings.output_dir is not None
    if shutil.which("mpirun") is None and settings.mpirun_command is None:
        raise FailureError(INSTALL)
    hosts = hosts_of(settings)
    workers = settings.workers
    if not isinstance(workers, int):
        workers = _cores_of_all(settings.hosts, hosts, _needs(settings, workers=None))
    order = Order(
        names=settings.hosts,
        workers=workers,
        argv=tuple(argv),
        output_dir=settings.output_dir,
        global_batch_size=None,
        needs=_needs(settings, workers=workers),
        min_hosts=len(settings.hosts),
        max_restarts=_MAX_RESTARTS,
        timeout_s=math.inf,  # the workers watch one another, by files beside the store
        interface=settings.network_interface,
        map_by=settings.map_by,
        cores=settings.map_by_pe,
        mpirun_command=settings.mpirun_command,
        has_run=False,
        must_share=True,
    )
    return run_on_hosts(order, hosts)


def _needs(settings: PrepareSettings, *, workers: int | None) -> Needs:
    """What each host must have: sources that it sees, small files that it may be given."""
    assert settings.output_dir is not None
    named = [text for text in (settings.vocab, settings.config) if text and Path(text).exists()]
    mpirun = shutil.which((settings.mpirun_command or "mpirun").split()[0])
    return Needs(
        device="cpu",
        workers=workers,
        paths=tuple(dict.fromkeys(named)),
        sources=tuple(path for kind in _SOURCES for path in getattr(settings, kind) or ()),
        output_dir=settings.output_dir,
        memory_bytes=None if workers is None else workers * _WORKER_BYTES,
        interface=settings.network_interface,
        mpi_path=str(Path(mpirun).parent) if mpirun else "/usr/bin",
    )


def _cores_of_all(names: Sequence[str], hosts: Hosts, needs: Needs) -> int:
    """What `-v` alone starts on each host: as many as the smallest has cores."""
    findings = look(hosts, names, needs, marker="")
    if findings.problems:
        raise FailureError("; ".join(findings.lines()))
    return min(int(facts["cores"]) for facts in findings.facts.values())
