"""A few steps of a small model with dropout, told as hashes and numbers."""

import hashlib
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from demo_bert.data.loader import micro_batches
from demo_bert.data.packing import Example
from demo_bert.distributed import World
from demo_bert.errors import TrainingError
from demo_bert.exchange.gradients import Gradients
from demo_bert.hardware.backend import Dtype
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.bert import initialise
from demo_bert.model.heads import SequenceClassifier
from demo_bert.optim import make_optimizer
from demo_bert.optim.sharded import ShardedOptimizer, whole_state
from demo_bert.tasks import load_task
from demo_bert.training import Actions, train
from small_run import CONFIG

DRAWN = np.random.default_rng(1)
EXAMPLES = [
    Example(DRAWN.integers(5, CONFIG.vocab_size, 3 + number % 9), 3, number % 2)
    for number in range(40)
]
SPLITS = ((10, 3), (10, 2), (11, 6))
"""Rows of a step, and of a micro-batch: 4, 5 and 2 micro-batches, the last one smaller."""


def learn(
    world: World,
    *,
    split: int = 0,
    optimizer: str = "adamw",
    clip_norm: float | None = 1.0,
    compute: Dtype = "fp32",
    poisoned: int | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Trains for three steps.

    Args:
        world: This worker's place.
        split: Which of SPLITS.
        optimizer: Its name.
        clip_norm: As `train`.
        compute: The compute type.
        poisoned: The worker whose second backward pass makes a gradient that is not finite.
        **how: For `Gradients`.

    Returns:
        `bits` of weights and moments, `losses`, `norms`, `weights`, `moments` on rank 0, how many
        of them this worker `held`, bytes `sent` in a step.
    """
    model = SequenceClassifier(CONFIG, 2)
    initialise(model, initializer_range=0.2, seed=3)
    model.register_parameter("unused", nn.Parameter(torch.ones(7)))
    parameters = dict(model.named_parameters())
    make = partial(make_optimizer, optimizer, weight_decay=0.1)
    gradients = Gradients(parameters, world, bucket_elements=600, **how)
    is_sharded = how.get("is_sharded", False) and world.world_size > 1
    updates: Any = (
        ShardedOptimizer(make, parameters, gradients, world) if is_sharded else make(parameters)
    )
    events: list[dict[str, Any]] = []
    backend = CpuBackend()
    backend.prepare()
    rows, micro = SPLITS[split]
    if poisoned == world.rank:
        _poison(model)
    run = partial(
        train,
        model,
        updates,
        batches=micro_batches(
            EXAMPLES,
            seed=5,
            first_step=0,
            num_steps=3,
            global_batch_size=rows,
            micro_batch_size=micro,
            rank=world.rank,
            world_size=world.world_size,
            is_canonical=how.get("is_canonical", False),
        ),
        num_steps=3,
        loss_sum=load_task("classification").loss_sum,
        schedule=lambda step: 1.0,
        peak_rate=1e-2,
        clip_norm=clip_norm,
        dtype=compute,
        seed=5,
        backend=backend,
        world=world,
        actions=Actions(
            emit=lambda event, **fields: events.append(fields),
            evaluate=lambda step: None,
            save=lambda step: None,
            is_evaluation_due=lambda step: False,
            is_save_due=lambda step: False,
            stop_reason=lambda: None,
        ),
        gradients=gradients,
    )
    error = None
    try:
        run()
    except TrainingError as caught:
        error = str(caught)
    state = dict(whole_state(updates))
    digest = hashlib.sha256()
    for tensors in (model.state_dict(), {} if is_sharded else state):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode() + tensor.detach().numpy().tobytes())
    moments = [state[name].flatten() for name in sorted(state)] if world.is_first else []
    return {
        "bits": digest.hexdigest(),
        "held": sum(tensor.numel() for tensor in updates.state.values()),
        "moments": torch.cat(moments).tolist() if moments else None,
        "losses": [event["loss"] for event in events if "loss" in event],
        "norms": [event["grad_norm"] for event in events if "loss" in event],
        "sent": events[0].get("sent_bytes"),
        "error": error,
        "faults": [
            {key: event[key] for key in ("step", "tensor", "rank")}
            for event in events
            if "tensor" in event
        ],
        "unused": parameters["unused"].tolist(),
        "weights": torch.cat([p.detach().flatten() for p in parameters.values()]).tolist(),
    }


def _poison(model: nn.Module) -> None:
    """Makes a value of a gradient infinite in the second backward pass."""
    passes = 0

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return gradient * torch.inf if passes == 2 else gradient

    dict(model.named_parameters())["bert.layers.0.attention.qkv.weight"].register_hook(hook)
