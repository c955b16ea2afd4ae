"""LAMB: Adam's direction, scaled for each tensor by the norm of its weights.

The way down is made by torch's fused AdamW kernel, let loose at a rate of 1 on what the weights
decay by: one pass over gradient and moments, and what is there afterwards is it. Where that kernel
is missing the same is done by plain operations. State is named tensors, as AdamW's.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from demo_bert.exchange.norms import norms
from demo_bert.optim.groups import decays, num_parts
from demo_bert.optim.kernel import adamw_, is_fused


class Shares(Protocol):
    """What LAMB asks where its parameters are pieces of tensors that are divided among workers."""

    def parts(self, name: str, piece: Tensor) -> list[tuple[int, Tensor]]:
        """The published tensors that a piece has numbers of: place in the parameter, numbers."""
        ...

    def norms(self, keys: Sequence[tuple[str, int]], numbers: Sequence[Tensor]) -> Tensor:
        """Norms of whole tensors; all workers ask together, each for those it has numbers of."""
        ...


class Lamb:
    """LAMB as NVIDIA trains BERT, and by argument as the paper has it.

    Args:
        parameters: Names and float32 master weights; gradients are read from `.grad`, and may be
            scaled in place.
        weight_decay: Added to the direction as this share of the weight.
        betas: Decay of the first and the second moment.
        eps: Added to the root of the second moment.
        max_norm: Gradients whose global norm is larger are divided by norm / max_norm first; None:
            never.
        ratio_on_all: Whether biases and layer norms are scaled by a trust ratio as well.
        decay_on_all: Whether they decay as well.

    Source:
        You et al. 2020, algorithm 2, where every tensor has decay and ratio and gradients are taken
        as they are. NVIDIA's BERT (`fused_lamb` with `use_nvlamb` off) is the default here:
        pre-normalisation to a global norm of 1, bias correction, ratio and decay on all but biases
        and layer norms.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        max_norm: float | None = 1.0,
        ratio_on_all: bool = False,
        decay_on_all: bool = False,
    ) -> None:
        self.parameters = dict(parameters)
        self.betas = betas
        self.eps = eps
        self.max_norm = max_norm
        self._weight_decay = weight_decay
        self._decays = {name: decay_on_all or decays(name) for name in self.parameters}
        self._has_ratio = {name: ratio_on_all or decays(name) for name in self.parameters}
        self.state = {
            f"{moment}.{name}": torch.zeros_like(parameter)
            for name, parameter in self.parameters.items()
            for moment in ("exp_avg", "exp_avg_sq")
        }
        """Named moments, float32; a checkpoint copies into and out of these tensors."""
        self.shares: Shares | None = None
        """Where the parameters are pieces of tensors; None: they are whole."""

    @torch.no_grad()
    def step(self, learning_rate: float, step: int, *, norm: float, factor: float = 1.0) -> None:
        """One update from the gradients; parameters without one stay as they are.

        Args:
            learning_rate: Of this step.
            step: Updates before this one, from 0; where a schedule starts anew (the second phase
                of pre-training) it counts from 0 again, though the moments stay.
            norm: Global norm of the gradients.
            factor: What the gradients are multiplied by first.
        """
        if self.max_norm is not None and norm * factor > self.max_norm:
            factor = self.max_norm / norm
        present = [name for name, weight in self.parameters.items() if weight.grad is not None]
        # On a CPU one tensor at a time stays in the cache; elsewhere few large kernels are better.
        is_each = self.shares is None and present and self.parameters[present[0]].is_cpu
        groups = [[name] for name in present] if is_each else [present]
        for names in groups:
            directions = self._directions(names, step, factor=factor)
            self._go(names, directions, learning_rate)

    def _go(self, names: Sequence[str], directions: Sequence[Tensor], rate: float) -> None:
        """Takes the weights down, each tensor as far as its trust ratio says."""
        chosen = [place for place, name in enumerate(names) if self._has_ratio[name]]
        others = [place for place, name in enumerate(names) if not self._has_ratio[name]]
        keys, weights = self._parts(names, chosen, [self.parameters[name] for name in names])
        _, downs = self._parts(names, chosen, directions)
        if keys or self.shares is not None:
            sizes, lengths = self._norms(keys, weights), self._norms(keys, downs)
            ratios = torch.where((sizes > 0) & (lengths > 0), sizes / lengths, 1.0)
            if downs and downs[0].is_cpu:
                for weight, down, ratio in zip(weights, downs, ratios.tolist(), strict=True):
                    weight.add_(down, alpha=rate * ratio)
            elif downs:
                torch._foreach_mul_(downs, list(ratios.unbind()))
                torch._foreach_add_(weights, downs, alpha=rate)
        if others:
            torch._foreach_add_(
                [self.parameters[names[place]] for place in others],
                [directions[place] for place in others],
                alpha=rate,
            )

    def _parts(
        self, names: Sequence[str], chosen: Sequence[int], tensors: Sequence[Tensor]
    ) -> tuple[list[tuple[str, int]], list[Tensor]]:
        """Query, key and value are one tensor here and three in the published models."""
        parts = [
            ((name, place), part)
            for name, tensor in ((names[place], tensors[place]) for place in chosen)
            for place, part in (
                enumerate(tensor.chunk(num_parts(name)))
                if self.shares is None
                else self.shares.parts(name, tensor)
            )
        ]
        return [key for key, _ in parts], [part for _, part in parts]

    def _norms(self, keys: Sequence[tuple[str, int]], tensors: Sequence[Tensor]) -> Tensor:
        if self.shares is not None:
            return self.shares.norms(keys, tensors)
        return norms(tensors)

    def _directions(self, names: Sequence[str], step: int, *, factor: float) -> list[Tensor]:
        """The way down for each tensor, decay included; moments are brought up to date."""
        weights = [self.parameters[name] for name in names]
        if not weights:
            return []
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        first = [self.state[f"exp_avg.{name}"] for name in names]
        second = [self.state[f"exp_avg_sq.{name}"] for name in names]
        decayed = [self._weight_decay if self._decays[name] else 0.0 for name in names]
        directions = [
            weight * -decay if decay else torch.zeros_like(weight)
            for weight, decay in zip(weights, decayed, strict=True)
        ]
        if is_fused(weights[0]):
            adamw_(
                directions,
                gradients,
                first,
                second,
                learning_rate=1.0,
                step=float(step),
                factor=factor,
                betas=self.betas,
                eps=self.eps,
                weight_decay=0.0,
            )
            return directions
        torch._foreach_mul_(gradients, factor)
        downs = self._plain_directions(gradients, first, second, step=step)
        torch._foreach_add_(directions, downs)
        return directions

    def _plain_directions(
        self, gradients: list[Tensor], first: list[Tensor], second: list[Tensor], *, step: int
    ) -> list[Tensor]:
        beta1, beta2 = self.betas
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        roots = torch._foreach_div(torch._foreach_sqrt(second), (1 - beta2 ** (step + 1)) ** 0.5)
        torch._foreach_add_(roots, self.eps)
        directions = torch._foreach_div(first, roots)
        torch._foreach_div_(directions, beta1 ** (step + 1) - 1)
        return list(directions)
