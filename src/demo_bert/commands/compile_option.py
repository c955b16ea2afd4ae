"""What --compile means on a device."""

import logging
from functools import partial

from torch import nn

from demo_bert.errors import UsageError
from demo_bert.hardware import Backend, Dtype

_LOG = logging.getLogger(__name__)
_WORTH_STEPS = 200
"""Updates of a run from which on compiling is taken to pay on a GPU; not measured."""


def compile_as_asked(
    model: nn.Module, choice: str, *, backend: Backend, dtype: Dtype, num_steps: int
) -> bool:
    """Compiles the model in place where the option and the device ask for it.

    Args:
        model: On the backend's device, its rounding chosen.
        choice: "auto" (on a GPU, in runs that are not short; never on a CPU, where it costs more
            than it gives, benchmarks/NOTES.md), "on" or "off".
        backend: The hardware.
        dtype: The compute type.
        num_steps: Updates of the run.

    Returns:
        Whether the model is compiled. A compiler that is missing or fails is one warning.

    Raises:
        UsageError: "on", for a device whose compiler is not used.
    """
    if backend.name == "hpu":
        if choice == "on":
            raise UsageError("--compile on: not used on hpu; leave it out")
        return False
    is_wanted = choice == "on" or (
        choice == "auto" and backend.name == "cuda" and num_steps >= _WORTH_STEPS
    )
    if not is_wanted:
        return False
    from demo_bert.model.compiling import compile_layers

    reason = compile_layers(model, partial(backend.autocast, dtype))
    if reason is not None:
        _LOG.warning("--compile: the model runs uncompiled: %s", reason)
    return reason is None
