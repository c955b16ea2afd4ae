"""Micro-batches that do not fit in memory are halved; the global batch stays what it is."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from demo_bert.distributed import World, sum_numbers
from demo_bert.errors import TrainingError
from demo_bert.exchange.gradients import Gradients
from demo_bert.hardware import Backend

_LOG = logging.getLogger(__name__)


class MicroBatched(Protocol):
    """A worker whose micro-batches can be made smaller."""

    backend: Backend
    world: World
    gradients: Gradients

    def use_micro_batches(self, sizes: Mapping[str, int]) -> None:
        """Takes other micro-batches, by the name of the load."""
        ...


def with_smaller_micro_batches(
    train: Callable[[], str | None], worker: MicroBatched, now: Callable[[], tuple[str, int]]
) -> str | None:
    """Trains, in smaller micro-steps where the device's memory runs out.

    The step that was under way is done again: weights change at its end alone. Several workers
    would have to notice together, in the midst of a step, so there the run ends; the forecast
    before the first step is what keeps them from it.

    Args:
        train: Goes on from the last step that is done.
        worker: This worker.
        now: The name of the load, and its examples of a micro-step.

    Returns:
        What `train` returns.

    Raises:
        TrainingError: One example does not fit, or there are several workers.
    """
    while True:
        try:
            return train()
        except (MemoryError, RuntimeError) as error:
            if not worker.backend.is_out_of_memory(error):
                raise
        # Outside of the handler, so that the error and the tensors of its frames are gone.
        worker.gradients.drop()
        name, size = now()
        if worker.world.world_size > 1 or size == 1:
            raise TrainingError(
                f"out of memory with {size} example{'s' * (size > 1)} a micro-step; give"
                f" -b {max(1, size // 2)}, a shorter -s or --checkpoint-activations"
            )
        half = -(-size // 2)
        _LOG.warning(
            "out of memory with %d examples a micro-step: going on with %d, more of them a step;"
            " the global batch stays",
            *(size, half),
        )
        worker.use_micro_batches({name: half})


def agreed(sizes: Mapping[str, int], world: World, backend: Backend) -> dict[str, int]:
    """The smallest of what the workers found, the same for all of them.

    Args:
        sizes: Name of the load -> examples of a micro-step; the same names on every worker.
        world: This worker's place.
        backend: The hardware.

    Returns:
        The sizes.
    """
    names = sorted(sizes)
    mine = [
        float(sizes[n]) if r == world.rank else 0.0 for r in range(world.world_size) for n in names
    ]
    every = sum_numbers(mine, world, backend.device())
    return {name: int(min(every[place :: len(names)])) for place, name in enumerate(names)}
