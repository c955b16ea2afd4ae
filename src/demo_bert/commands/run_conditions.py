"""What the bits of a `--reproducible` run depend on: recorded, and held against it when it goes on.

The order of sums is `exchange.tree`'s, whatever the number of workers. What is left is how one
worker computes one micro-batch: the kernels, which libraries choose by processor and version, and
the number of threads, which is always one.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from demo_bert.distributed import World, sum_numbers
from demo_bert.errors import RunDirectoryError, UsageError
from demo_bert.hardware import Backend, Dtype

_LOG = logging.getLogger(__name__)
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
)
"""By which users choose kernels."""


def use_one_thread(backend: Backend) -> None:
    """Computes with one thread from here on, as another number gives other bits.

    Args:
        backend: The hardware.

    Raises:
        UsageError: It is none whose kernels give the same bits twice.
    """
    if backend.name != "cpu":
        raise UsageError(
            f"--reproducible on {backend.name}: its kernels do not promise the same bits twice, so"
            " it goes with --device cpu only"
        )
    if torch.get_num_threads() > 1:
        _LOG.info("--reproducible: one thread for each worker; -v N uses N cores")
    torch.set_num_threads(1)


def conditions(backend: Backend, dtype: Dtype) -> dict[str, object]:
    """What the bits depend on, here and now.

    Args:
        backend: The hardware.
        dtype: "bf16" or "fp32".

    Returns:
        Plain values.
    """
    host = backend.describe()["host"]
    assert isinstance(host, Mapping)
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": host["cpu"],
        "instruction_set": host["instruction_set"],
        "torch_kernels": host["torch_kernels"],
        "products": backend.product_mode(dtype),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def check_same_conditions(now: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Refuses to go on where the bits would be others.

    Args:
        now: Of `conditions`.
        recorded: Of the run's beginning.

    Raises:
        RunDirectoryError: Something differs.
    """
    changed = [
        f"{name} is {now.get(name)}, was {recorded.get(name)}"
        for name in sorted({*now, *recorded})
        if now.get(name) != recorded.get(name)
    ]
    if changed:
        raise RunDirectoryError(
            f"--reproducible: the bits would be others here: {'; '.join(changed)}; go on where it"
            " was begun, or give the promise up: -o and the run's directory, --no-reproducible"
        )


def check_same_workers(now: Mapping[str, Any], world: World, backend: Backend) -> None:
    """Refuses workers that do not compute alike; all workers ask together.

    Args:
        now: Of `conditions`.
        world: This worker's place.
        backend: The hardware.

    Raises:
        UsageError: Some differ from the first.
    """
    text = json.dumps(now, sort_keys=True)
    mine = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)  # exact in float64
    values = [float(mine * (rank == world.rank)) for rank in range(world.world_size)]
    found = sum_numbers(values, world, backend.device())
    others = [str(rank) for rank, value in enumerate(found) if value != found[0]]
    if others:
        raise UsageError(
            f"--reproducible: workers {', '.join(others)} have another processor or torch than"
            f" worker 0; take hosts that are alike (worker {world.rank}: {text})"
        )
