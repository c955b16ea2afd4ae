"""The training commands: one run, one for each of `--seeds`, and the workers that `-v` asks for."""

import dataclasses
import logging
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from demo_bert.commands.going_on import same_command
from demo_bert.commands.not_yet import refuse_what_is_missing
from demo_bert.commands.on_hosts import as_job_says, run_on_hosts
from demo_bert.errors import DemoBertError, StopRequested
from demo_bert.settings import Origin, TrainingSettings
from demo_bert.stopping import StoppedAtOnce, StopRequests

if TYPE_CHECKING:
    from demo_bert.commands.run_session import RunSession

_LOG = logging.getLogger(__name__)


def run_training(
    settings: TrainingSettings,
    origins: Mapping[str, Origin],
    argv: Sequence[str],
    *,
    make_runs: "Callable[..., RunSession]",
) -> int:
    """Runs a training command.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.
        make_runs: Makes this worker's runs; called only where they are trained, not by the process
            that starts workers.

    Returns:
        The exit code.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    try:
        with StopRequests(is_at_once=True):
            return _run(settings, origins, argv, make_runs=make_runs)
    except StoppedAtOnce as stop:
        raise StopRequested(
            f"stopped by {stop} before training began, nothing is lost; it goes on with:"
            f" {same_command(argv)}"
        ) from None


def _run(
    settings: TrainingSettings,
    origins: Mapping[str, Origin],
    argv: Sequence[str],
    *,
    make_runs: "Callable[..., RunSession]",
) -> int:
    """Runs a training command; a stop request that comes before training ends it at once."""
    from demo_bert.commands.logs import to_standard_error
    from demo_bert.commands.worker_memory import worker_bytes
    from demo_bert.launch.local import let_first_speak, num_local_workers, run_workers
    from demo_bert.launchers import is_worker, place, prepare

    to_standard_error(settings.log_level)
    prepare()
    settings, origins = _as_launcher_says(settings, origins)
    refuse_what_is_missing(settings, origins)
    if settings.hosts is not None and settings.workers is None:
        _LOG.warning("%s has no effect without -v; one worker runs here", origins["hosts"])
    if settings.workers is not None and settings.hosts is not None and not is_worker():
        return run_on_hosts(settings, origins, argv, make_runs=make_runs)
    if settings.workers is not None and not is_worker():
        num_workers = num_local_workers(
            settings.workers, device=settings.device, bytes_each=worker_bytes(settings)
        )
        if num_workers > 1:
            return run_workers(
                argv,
                num_workers=num_workers,
                timeout=settings.timeout,
                max_restarts=settings.max_restarts,
                cores=settings.map_by_pe,
            )
    try:
        with make_runs(settings, origins, argv) as runs:
            return runs.run() if settings.seeds is None else _run_seeds(runs, settings, origins)
    except DemoBertError:
        let_first_speak(place().rank)
        raise


def _as_launcher_says(
    settings: TrainingSettings, origins: Mapping[str, Origin]
) -> tuple[TrainingSettings, Mapping[str, Origin]]:
    """Takes up what a launcher of ours worked out for this worker; a host's cores are divided."""
    from demo_bert.heartbeat import GOES_ON, VARIABLE
    from demo_bert.launch.job import own_job
    from demo_bert.launch.placement import settle
    from demo_bert.launchers import place

    if (job := own_job()) is not None:
        return as_job_says(settings, origins, job)
    if os.environ.get(VARIABLE):
        settle(place().local_rank, place().local_size, each=settings.map_by_pe)
    if run := os.environ.get(GOES_ON):
        settings = dataclasses.replace(settings, output_dir=run, new=False, resume="auto")
    return settings, origins


def _run_seeds(
    runs: "RunSession", settings: TrainingSettings, origins: Mapping[str, Origin]
) -> int:
    """A run for each seed, in `seed-<s>/`, and their mean above them."""
    from demo_bert.commands.going_on import program
    from demo_bert.commands.run_records import open_directory
    from demo_bert.distributed import wait_for_all
    from demo_bert.report.console import say
    from demo_bert.report.page import write_report
    from demo_bert.report.summary import final_lines

    assert settings.seeds is not None
    parent = open_directory(runs.command, runs.with_recipe(settings, origins)[0])
    wait_for_all(runs.world)  # nobody makes a directory before all have looked
    runs.parent = parent
    results: list[dict[str, Any]] = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        one = dataclasses.replace(
            settings,
            seed=seed,
            seeds=None,
            output_dir=str(parent.path / f"seed-{seed}"),
            new=False,
            resume=settings.resume if isinstance(settings.resume, int) else "auto",
        )
        result, _ = runs.run_one(one, origins)
        results.append(result)
    if runs.world.is_first:
        summary = _summary(results)
        parent.write_results(summary)
        write_report(parent.path)
        say(final_lines(summary, parent.path, program=program()))
    return 0


def _summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of all seeds: mean, deviation, each of them."""
    every = [result["metrics"] for result in results]
    keys = [key for key, value in every[0].items() if isinstance(value, int | float)]
    return {
        **results[0],
        "metrics": {key: statistics.fmean(m[key] for m in every) for key in keys},
        "metrics_std": {
            key: statistics.stdev([m[key] for m in every]) if len(every) > 1 else 0.0
            for key in keys
        },
        "per_seed": [
            {"seed": result["seed"], "metrics": result["metrics"], "wall_s": result["wall_s"]}
            for result in results
        ],
        "collapsed": [result["seed"] for result in results if result.get("is_collapsed")],
        "is_collapsed": all(result.get("is_collapsed") for result in results),
        "wall_s": sum(result["wall_s"] for result in results),
    }
