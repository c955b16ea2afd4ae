"""torch's AdamW kernel, fused where there is one, with gradients scaled on the way.

One pass over weights, gradients and moments: clipping costs no pass of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_FUSED = ("cpu", "cuda")


def is_fused(weight: Tensor) -> bool:
    """Whether a kernel updates everything in one pass where this tensor is.

    Args:
        weight: Any weight.

    Returns:
        True on a CPU and on CUDA.
    """
    return weight.device.type in _FUSED


def adamw_(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    *,
    learning_rate: float,
    step: float,
    factor: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """One update in place.

    Args:
        weights: Float32, at least one, all on one device.
        gradients: Of the weights' shapes; they may be scaled in place.
        first: First moments.
        second: Second moments.
        learning_rate: Of this step.
        step: Updates before this one; from it comes the bias correction.
        factor: What the gradients are multiplied by first.
        betas: Decay of the moments.
        eps: Added to the root of the second moment.
        weight_decay: Share of the weight taken off per unit of learning rate.
    """
    fused, divisor = is_fused(weights[0]), None
    if factor != 1.0 and fused:
        divisor = torch.tensor(1.0 / factor, device=weights[0].device)
    elif factor != 1.0:
        torch._foreach_mul_(list(gradients), factor)
    adamw(
        list(weights),
        list(gradients),
        list(first),
        list(second),
        [],
        [torch.tensor(step, device=weight.device) for weight in weights],
        grad_scale=divisor,
        fused=fused,
        foreach=False,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=learning_rate,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
    )
