"""A model as the settings want it on a device: rounding, recomputation, compilation or graphs."""

import logging
from functools import partial
from typing import cast

from torch import nn

from demo_bert.commands.graphs import Graphs
from demo_bert.errors import UsageError
from demo_bert.hardware import Backend, Dtype
from demo_bert.model.bert import Bert, recompute_activations
from demo_bert.model.linear import round_products
from demo_bert.settings import TrainingSettings

_LOG = logging.getLogger(__name__)
_WORTH_STEPS = 200
"""Updates of a run from which on compiling is taken to pay on a GPU; not measured."""
_WORTH_RECORDING_STEPS = 100
"""The same of graphs: recording and checking six shapes is some 50 micro-steps; not measured."""
_WIDEST_RECORDED = 512
"""Hidden size up to which the launches of operations are taken to bound a step on a GPU: the widest
product of a layer, of 1 700 tokens, is 9 us at 400 TFLOP/s there, about what the host takes to
launch an operation; 20 us at 768. Not measured."""


def suit_to_device(
    model: nn.Module,
    settings: TrainingSettings,
    *,
    backend: Backend,
    world_size: int,
    num_steps: int,
) -> Graphs:
    """Puts a model on its device, in the form that the settings ask for.

    Args:
        model: Its weights filled in.
        settings: Of the run.
        backend: The hardware.
        world_size: Workers of the run.
        num_steps: Updates of the run.

    Returns:
        The graphs of its micro-steps; where they are wanted it is not compiled.

    Raises:
        UsageError: The device cannot do what is asked for.
    """
    dtype = cast(Dtype, settings.dtype)
    model.to(backend.device())
    round_products(model, backend.product_mode(dtype) == "rounded")
    recompute_activations(model, settings.checkpoint_activations)
    is_wanted = is_recorded(
        model,
        settings,
        can_capture=backend.capture is not None,
        world_size=world_size,
        num_steps=num_steps,
    )
    if not is_wanted:
        compile_as_asked(model, settings.compile, backend=backend, dtype=dtype, num_steps=num_steps)
    return Graphs(model, is_wanted=is_wanted, dtype=dtype, backend=backend)


def is_recorded(
    model: nn.Module,
    settings: TrainingSettings,
    *,
    can_capture: bool,
    world_size: int,
    num_steps: int,
) -> bool:
    """Whether micro-steps are to be recorded as graphs.

    Args:
        model: Of the run.
        settings: "graphs" asks for them; "auto" takes them for small models, in runs that are not
            short.
        can_capture: Whether the device can.
        world_size: Workers of the run.
        num_steps: Updates of the run.

    Returns:
        True where they are asked for, or possible and taken to pay.

    Raises:
        UsageError: They are asked for, and cannot be.
    """
    reasons = {
        "the device has none": not can_capture,
        "they are for one worker": world_size > 1,
        "not with --checkpoint-activations": settings.checkpoint_activations,
        "not with --reproducible": settings.reproducible,
    }
    against = [reason for reason, holds in reasons.items() if holds]
    if settings.compile == "graphs" and against:
        raise UsageError(f"--compile graphs: {'; '.join(against)}; leave it out")
    if settings.compile != "auto" or against or num_steps < _WORTH_RECORDING_STEPS:
        return settings.compile == "graphs"
    berts = (module for module in model.modules() if isinstance(module, Bert))
    return all(bert.config.hidden_size <= _WIDEST_RECORDED for bert in berts)


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
