"""N workers on this host, under PyTorch's own agent."""

import logging
import os
import sys
import tempfile
from collections.abc import Sequence

from demo_bert.choices import Duration

_LOG = logging.getLogger(__name__)
_MOST_BY_DEFAULT = 8
_FAILURE = 1
_PASSED_ON = (2, 75, 130)


def num_local_workers(asked: int | str, *, device: str) -> int:
    """How many workers `-v` starts here.

    Args:
        asked: A number, or "auto" for `-v` alone.
        device: As `--device` gives it.

    Returns:
        The number; "auto" is the host's accelerators, else 8 but not more than its cores.
    """
    from demo_bert.hardware import select

    if isinstance(asked, int):
        return asked
    backend = select(device)
    if backend.name != "cpu":
        return backend.device_count()
    return min(_MOST_BY_DEFAULT, num_cores())


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run_workers(argv: Sequence[str], *, num_workers: int, timeout: Duration) -> int:
    """Runs the same command line once for each worker and waits for all.

    Args:
        argv: The program's arguments.
        num_workers: Workers to start.
        timeout: How long a worker may not answer.

    Returns:
        The exit code that all agree on; 1 where a worker died.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    threads = max(1, num_cores() // num_workers)
    _LOG.info("%d workers on this host, %d threads each", num_workers, threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="demo_bert-workers-") as directory:
        # Rank 0 speaks; what the others print lies in files while they run.
        quiet = {rank: Std.ALL for rank in range(1, num_workers)}
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_workers,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            max_restarts=0,
            monitor_interval=0.1,
            local_addr="127.0.0.1",
            rdzv_configs={"timeout": timeout.seconds or 600},
            logs_specs=DefaultLogsSpecs(log_dir=directory, redirects=quiet),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "demo_bert", *argv)
        except ChildFailedError as error:
            codes = {failure.exitcode for failure in error.failures.values()}
            for code in _PASSED_ON:
                if code in codes:
                    return code
            rank, failure = error.get_first_failure()
            _LOG.error("worker %d ended with exit code %s", rank, failure.exitcode)
            return _FAILURE
        except SignalException:
            return _PASSED_ON[1]
    return 0
