"""Optimizers, parameter groups and schedules.

OPTIMIZERS and SCHEDULES are the tables of names; a new one is one file or function and its line.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from demo_bert.choices import unknown_name_message
from demo_bert.errors import UsageError
from demo_bert.optim.adamw import AdamW
from demo_bert.optim.schedule import SCHEDULES, Schedule, make_schedule

OPTIMIZERS: dict[str, Callable[..., AdamW]] = {
    "adamw": AdamW,
    "adamw-google": partial(AdamW, bias_correction=False),
}


def make_optimizer(name: str, parameters: Mapping[str, Tensor], *, weight_decay: float) -> AdamW:
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


__all__ = ["OPTIMIZERS", "SCHEDULES", "AdamW", "Schedule", "make_optimizer", "make_schedule"]
