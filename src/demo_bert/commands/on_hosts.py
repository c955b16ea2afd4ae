"""The training commands on several hosts: what the invoking process works out beforehand."""

import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_bert.errors import FailureError
from demo_bert.launch.job import Job
from demo_bert.settings import Origin, TrainingSettings, is_longer

if TYPE_CHECKING:
    from demo_bert.commands.run_session import RunSession
    from demo_bert.launch.hosts import Order
    from demo_bert.launch.preflight import Needs
    from demo_bert.launch.remote import Hosts
    from demo_bert.run_directory import RunDirectory

_LOG = logging.getLogger(__name__)
_SOURCE = Path(__file__).parents[2]
_MOST_BY_DEFAULT = 8


def run_on_hosts(
    settings: TrainingSettings,
    origins: Mapping[str, Origin],
    argv: Sequence[str],
    *,
    make_runs: "Callable[..., RunSession]",
) -> int:
    """Runs a training command on the hosts of the settings.

    Args:
        settings: As resolved, with hosts and workers.
        origins: Where each came from.
        argv: The program's arguments.
        make_runs: Makes runs; here only for the recipe's values.

    Returns:
        The exit code.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    from demo_bert.commands.run_records import open_directory
    from demo_bert.launch import hosts as launching
    from demo_bert.launch.mpirun import INSTALL
    from demo_bert.launchers import World

    assert settings.hosts is not None
    if shutil.which("mpirun") is None and settings.mpirun_command is None:
        raise FailureError(INSTALL)
    hosts = hosts_of(settings)
    needs = needs_of(settings, output_dir=".")
    workers = settings.workers
    if not isinstance(workers, int):
        workers = _workers_of_all(settings, hosts, needs)
    runs = make_runs(settings, origins, argv)
    runs.world = World(world_size=workers * len(settings.hosts))
    filled, found = runs.with_recipe(settings, origins)
    directory = open_directory(runs.command, filled)
    if _is_done(directory, filled):
        done = dataclasses.replace(filled, output_dir=str(directory.path), workers=None)
        with make_runs(done, found, argv) as alone:
            return alone.run()
    order = _order(filled, argv, needs=needs, workers=workers, output_dir=str(directory.path))
    return launching.run_on_hosts(order, hosts)


def _is_done(directory: "RunDirectory", settings: TrainingSettings) -> bool:
    """Whether all that is left to do is to show the results."""
    results = directory.results() or {}
    is_longer_now = is_longer(settings, (directory.record() or {}).get("settings", ()))
    is_complete = results.get("status") == "complete"
    return is_complete and isinstance(settings.resume, str) and not is_longer_now


def _order(
    settings: TrainingSettings,
    argv: Sequence[str],
    *,
    needs: "Needs",
    workers: int,
    output_dir: str,
) -> "Order":
    """What is to be run, from settings with the recipe's values."""
    from demo_bert.commands.host_inputs import fetched_inputs
    from demo_bert.commands.worker_memory import checkpoint_bytes, worker_bytes
    from demo_bert.launch.hosts import Order

    assert settings.hosts is not None
    each = worker_bytes(settings)
    return Order(
        names=settings.hosts,
        workers=workers,
        argv=tuple(argv),
        output_dir=output_dir,
        global_batch_size=settings.global_batch_size,
        needs=dataclasses.replace(
            needs,
            output_dir=output_dir,
            workers=workers,
            disk_bytes=checkpoint_bytes(settings) or 0,
            memory_bytes=None if each is None or settings.device != "cpu" else each * workers,
        ),
        min_hosts=len(settings.hosts) if settings.min_hosts == "all" else int(settings.min_hosts),
        max_restarts=settings.max_restarts,
        timeout_s=settings.timeout.seconds or 600.0,
        interface=settings.network_interface,
        map_by=settings.map_by,
        cores=settings.map_by_pe,
        mpirun_command=settings.mpirun_command,
        fetched=fetched_inputs(settings),
    )


def hosts_of(settings: Any) -> "Hosts":
    """The way to the hosts.

    Args:
        settings: With `remote_dir` and `ssh_port`.

    Returns:
        It.
    """
    from demo_bert.launch.remote import Hosts, program_on_hosts

    program = program_on_hosts(_SOURCE, cwd=Path.cwd(), remote_dir=settings.remote_dir)
    return Hosts(program, port=settings.ssh_port)


def needs_of(settings: TrainingSettings, *, output_dir: str) -> "Needs":
    """What a training command needs of each host.

    Args:
        settings: As resolved.
        output_dir: The run directory.

    Returns:
        Needs of `launch.preflight`.
    """
    from demo_bert.launch.preflight import Needs

    named = [*(settings.dataset_path or ()), settings.config, settings.data_root]
    named += [settings.model, settings.init_checkpoint]
    paths = tuple(dict.fromkeys(text for text in named if text and _is_path(text)))
    mpirun = shutil.which((settings.mpirun_command or "mpirun").split()[0])
    return Needs(
        device=settings.device,
        workers=settings.workers if isinstance(settings.workers, int) else None,
        paths=paths,
        output_dir=output_dir,
        interface=settings.network_interface,
        mpi_path=str(Path(mpirun).parent) if mpirun else "/usr/bin",
    )


def as_job_says(
    settings: TrainingSettings, origins: Mapping[str, Origin], job: Job
) -> tuple[TrainingSettings, dict[str, Origin]]:
    """A worker's settings, with what the invoking process has worked out.

    Args:
        settings: As resolved.
        origins: Where each came from.
        job: The worker's.

    Returns:
        Both, completed.
    """
    is_first = job.attempt == 0 and isinstance(settings.resume, int)
    values: dict[str, Any] = {
        "output_dir": job.output_dir,
        "new": False,
        "resume": settings.resume if is_first else "auto",
        "hosts": job.hosts,
        "mpirun_command": job.shown["mpirun_command"],
    }
    found = dict(origins)
    computed = {
        "network_interface": job.shown["network_interface"],
        "map_by_pe": int(job.shown["map_by_pe"]),
        "global_batch_size": job.global_batch_size,
    }
    for name, value in computed.items():
        if getattr(settings, name) is None and value is not None:
            values[name] = value
            found[name] = Origin("recipe", f"{len(job.hosts)} hosts x {job.workers} workers")
    return dataclasses.replace(settings, **values), found


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or Path(text).exists()


def _workers_of_all(settings: TrainingSettings, hosts: "Hosts", needs: "Needs") -> int:
    """What `-v` alone starts on each host: as many as each can take."""
    from demo_bert.commands.worker_memory import worker_bytes
    from demo_bert.launch.preflight import look

    assert settings.hosts is not None
    findings = look(hosts, settings.hosts, needs, marker="")
    if findings.problems:
        raise FailureError("; ".join(findings.lines()))
    each = worker_bytes(settings)
    counts: dict[str, int] = {}
    for name, facts in findings.facts.items():
        count = facts["devices"] or min(_MOST_BY_DEFAULT, facts["cores"])
        free = facts["free_memory_bytes"]
        if not facts["devices"] and each and free:
            count = min(count, max(1, free // each))
        counts[name] = count
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        _LOG.info("workers that hosts can take: %s; the smallest counts", told)
    return min(counts.values())
