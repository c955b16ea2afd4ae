"""AdamW over all parameters at once, with and without bias correction.

The arithmetic is torch's fused kernel; state is named tensors, so that a checkpoint is a plain
mapping and nothing is unpickled.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from demo_bert.optim.groups import split_by_decay
from demo_bert.optim.kernel import adamw_

_NO_CORRECTION_STEP = 1e9
"""A step so late that 1 - beta**step is exactly 1 in float32."""


class AdamW:
    """Adam with decoupled weight decay.

    Args:
        parameters: Names and float32 master weights; gradients are read from `.grad`, and may be
            scaled in place.
        weight_decay: Share of the weight taken off per unit of learning rate; not on biases and
            layer norms.
        betas: Decay of the first and the second moment.
        eps: Added to the root of the second moment.
        bias_correction: False is Google's form for BERT.

    Source:
        Loshchilov and Hutter 2019, algorithm 2; Mosbach et al. 2021 on why fine-tuning wants the
        bias correction that `optimization.py` of the published code leaves out.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        bias_correction: bool = True,
    ) -> None:
        self.parameters = dict(parameters)
        self.betas = betas
        self.eps = eps
        self.bias_correction = bias_correction
        decaying, rest = split_by_decay(self.parameters)
        self._groups = [(decaying, weight_decay), (rest, 0.0)]
        self.state = {
            f"{moment}.{name}": torch.zeros_like(parameter)
            for name, parameter in self.parameters.items()
            for moment in ("exp_avg", "exp_avg_sq")
        }
        """Named moments, float32; a checkpoint copies into and out of these tensors."""

    @torch.no_grad()
    def step(self, learning_rate: float, step: int, *, norm: float, factor: float = 1.0) -> None:
        """One update from the gradients; parameters without one stay as they are.

        Args:
            learning_rate: Of this step.
            step: Updates before this one, from 0.
            norm: Global norm of the gradients; not needed here.
            factor: What the gradients are multiplied by first.
        """
        del norm
        done = float(step) if self.bias_correction else _NO_CORRECTION_STEP
        for names, weight_decay in self._groups:
            names = [name for name in names if self.parameters[name].grad is not None]
            if not names:
                continue
            weights = [self.parameters[name] for name in names]
            adamw_(
                weights,
                [weight.grad for weight in weights if weight.grad is not None],
                [self.state[f"exp_avg.{name}"] for name in names],
                [self.state[f"exp_avg_sq.{name}"] for name in names],
                learning_rate=learning_rate,
                step=done,
                factor=factor,
                betas=self.betas,
                eps=self.eps,
                weight_decay=weight_decay,
            )
            # The fused kernel does not tell; copies in another type are made anew by it.
            torch.autograd.graph.increment_version(weights)
