"""How a run's gradients are summed over its workers, by its settings."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Literal, cast

from torch import Tensor

from demo_bert.distributed import World
from demo_bert.errors import UsageError
from demo_bert.exchange.gradients import Gradients
from demo_bert.optim import Optimizer, make_optimizer
from demo_bert.optim.sharded import ShardedOptimizer
from demo_bert.settings import TrainingSettings

_LOG = logging.getLogger(__name__)


def summed_and_updated(
    parameters: Mapping[str, Tensor], settings: TrainingSettings, world: World
) -> tuple[Gradients, Optimizer]:
    """The gradients of a run and its optimizer.

    Args:
        parameters: Names and float32 master weights.
        settings: As resolved: `optimizer`, `weight_decay`, `gradient_as_bucket_view`,
            `grad_dtype`, `reproducible`, `shard_optimizer`.
        world: This worker's place.

    Returns:
        What `train` sums with, and what it updates with.

    Raises:
        UsageError: Two of the settings contradict each other, or the number of workers one.
    """
    assert settings.optimizer is not None and settings.weight_decay is not None
    is_alone = world.world_size == 1
    for name, is_asked in (
        ("--grad-dtype bf16", settings.grad_dtype == "bf16"),
        ("--shard-optimizer", settings.shard_optimizer),
    ):
        if is_asked and settings.reproducible:
            raise UsageError(
                f"--reproducible and {name}: what is rounded depends on the number of workers;"
                " leave one of them out"
            )
        if is_asked and is_alone:
            _LOG.warning("%s has no effect with one worker", name)
    gradients = Gradients(
        parameters,
        world,
        as_views=settings.gradient_as_bucket_view,
        dtype=cast(Literal["fp32", "bf16"], settings.grad_dtype),
        is_canonical=settings.reproducible,
        is_sharded=settings.shard_optimizer,
    )
    make = partial(make_optimizer, settings.optimizer, weight_decay=settings.weight_decay)
    if settings.shard_optimizer and not is_alone:
        return gradients, ShardedOptimizer(make, parameters, gradients, world)
    return gradients, make(parameters)
