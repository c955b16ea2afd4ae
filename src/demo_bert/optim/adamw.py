"""AdamW over all parameters at once, with and without bias correction.

The arithmetic is torch's fused kernel; state is named tensors, so that a checkpoint is a plain
mapping and nothing is unpickled.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from demo_bert.optim.groups import split_by_decay

_NO_CORRECTION_STEP = 1e9
"""A step so late that 1 - beta**step is exactly 1 in float32."""


class AdamW:
    """Adam with decoupled weight decay.

    Args:
        parameters: Names and float32 master weights; gradients are read from `.grad`.
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
    def step(self, learning_rate: float, step: int) -> None:
        """One update from the gradients; parameters without one stay as they are.

        Args:
            learning_rate: Of this step.
            step: Updates before this one, from 0.
        """
        done = float(step) if self.bias_correction else _NO_CORRECTION_STEP
        for names, weight_decay in self._groups:
            names = [name for name in names if self.parameters[name].grad is not None]
            if not names:
                continue
            weights = [self.parameters[name] for name in names]
            adamw(
                weights,
                [weight.grad for weight in weights if weight.grad is not None],
                [self.state[f"exp_avg.{name}"] for name in names],
                [self.state[f"exp_avg_sq.{name}"] for name in names],
                [],
                [torch.tensor(done, device=weight.device) for weight in weights],
                fused=weights[0].device.type in ("cpu", "cuda"),
                foreach=False,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=learning_rate,
                weight_decay=weight_decay,
                eps=self.eps,
                maximize=False,
            )
            # The fused kernel does not tell; copies in another type are made anew by it.
            torch.autograd.graph.increment_version(weights)
