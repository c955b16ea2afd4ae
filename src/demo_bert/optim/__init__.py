"""Optimizers, parameter groups and schedules.

OPTIMIZERS and SCHEDULES are the tables of names; a new one is one file or function and its line.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from torch import Tensor

from demo_bert.choices import unknown_name_message
from demo_bert.errors import UsageError
from demo_bert.optim.adamw import AdamW
from demo_bert.optim.lamb import Lamb
from demo_bert.optim.schedule import SCHEDULES, Schedule, make_schedule


class Optimizer(Protocol):
    """What training needs of an optimizer."""

    parameters: dict[str, Tensor]
    state: dict[str, Tensor]
    """Named moments, float32; a checkpoint copies into and out of these tensors."""

    def step(self, learning_rate: float, step: int, *, norm: float, factor: float = 1.0) -> None:
        """One update from the gradients, which may be scaled in place.

        Args:
            learning_rate: Of this step.
            step: Updates before this one, from 0.
            norm: Global norm of the gradients as they are.
            factor: What they are multiplied by first.
        """
        ...


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": AdamW,
    "adamw-google": partial(AdamW, bias_correction=False),
    "lamb": Lamb,
    "lamb-paper": partial(Lamb, max_norm=None, ratio_on_all=True, decay_on_all=True),
    "nvlamb": partial(Lamb, ratio_on_all=True),
}


def make_optimizer(
    name: str, parameters: Mapping[str, Tensor], *, weight_decay: float
) -> Optimizer:
    """The optimizer of that name.

    Args:
        name: A key of OPTIMIZERS.
        parameters: Names and float32 master weights.
        weight_decay: Applied to all but biases and layer norms.

    Returns:
        The optimizer, its moments zero.

    Raises:
        UsageError: The name is unknown.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"--optimizer: {unknown_name_message('optimizer', name, OPTIMIZERS)}")
    return OPTIMIZERS[name](parameters, weight_decay=weight_decay)


__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "AdamW",
    "Lamb",
    "Optimizer",
    "Schedule",
    "make_optimizer",
    "make_schedule",
]
