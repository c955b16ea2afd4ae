"""How a run's gradients are summed over its workers, by its settings."""

import logging
from typing import Literal, cast

from demo_bert.distributed import World
from demo_bert.errors import UsageError
from demo_bert.exchange import Gradients
from demo_bert.optim import Optimizer
from demo_bert.settings import TrainingSettings

_LOG = logging.getLogger(__name__)


def gradients_of(optimizer: Optimizer, settings: TrainingSettings, world: World) -> Gradients:
    """The gradients of a run.

    Args:
        optimizer: Its parameters' gradients are meant.
        settings: As resolved: `gradient_as_bucket_view`, `grad_dtype`, `reproducible`.
        world: This worker's place.

    Returns:
        What `train` sums with.

    Raises:
        UsageError: Two of the settings contradict each other, or the number of workers one.
    """
    if settings.grad_dtype == "bf16":
        if settings.reproducible:
            raise UsageError(
                "--reproducible and --grad-dtype bf16: what is rounded on the way depends on the"
                " number of workers; leave one of them out"
            )
        if world.world_size == 1:
            _LOG.warning("--grad-dtype bf16 has no effect with one worker: nothing travels")
    return Gradients(
        optimizer.parameters,
        world,
        as_views=settings.gradient_as_bucket_view,
        dtype=cast(Literal["fp32", "bf16"], settings.grad_dtype),
        is_canonical=settings.reproducible,
    )
