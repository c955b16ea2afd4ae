"""A model as the settings want it on a device: rounding, recomputation, compilation."""

import logging
from functools import partial
from typing import cast

from torch import nn

from demo_bert.errors import UsageError
from demo_bert.hardware import Backend, Dtype
from demo_bert.model.bert import recompute_activations
from demo_bert.model.linear import round_products
from demo_bert.settings import TrainingSettings

_LOG = logging.getLogger(__name__)
_WORTH_STEPS = 200
"""Updates of a run from which on compiling is taken to pay on a GPU; not measured."""


def suit_to_device(
    model: nn.Module, settings: TrainingSettings, *, backend: Backend, num_steps: int
) -> None:
    """Puts a model on its device, in the form that the settings ask for.

    Args:
        model: Its weights filled in.
        settings: Of the run.
        backend: The hardware.
        num_steps: Updates of the run.

    Raises:
        UsageError: The device cannot do what is asked for.
    """
    dtype = cast(Dtype, settings.dtype)
    model.to(backend.device())
    round_products(model, backend.product_mode(dtype) == "rounded")
    recompute_activations(model, settings.checkpoint_activations)
    compile_as_asked(model, settings.compile, backend=backend, dtype=dtype, num_steps=num_steps)


def compile_as_asked(
    model: nn.Module, choice: str, *, backend: Backend, dtype: Dtype, num_steps: int
) -> bool:
    """Compiles the model in place where the option and the device ask for it.

    Args:
        model: On the backend's device, its rounding chosen.
        choice: "auto" (on a GPU, in runs that are not short; never on a CPU, where it was not
            shown to pay), "on" or "off".
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
