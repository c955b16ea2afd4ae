"""LAMB: Adam's direction, scaled for each tensor by the norm of its weights.

The way down is made by torch's fused AdamW kernel, let loose on zeros at a rate of 1: one pass over
gradient and moments, and what the zeros have become is it. Where that kernel is missing the same is
done by plain operations. State is named tensors, as AdamW's.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from demo_bert.optim.groups import decays, num_parts

_FUSED = ("cpu", "cuda")


class Shares(Protocol):
    """What LAMB asks where its parameters are pieces of tensors that are divided among workers."""

    def parts(self, name: str, piece: Tensor) -> list[tuple[int, Tensor]]:
        """The published tensors that a piece has numbers of: place in the parameter, numbers."""
        ...

    def norms(self, keys: Sequence[tuple[str, int]], numbers: Sequence[Tensor]) -> Tensor:
        """Norms of whole tensors; all workers ask together, each for those it has numbers of."""
        ...

    def global_norm(self, numbers: Sequence[Tensor]) -> Tensor:
        """The norm of all workers' numbers; all workers ask together."""
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
    def step(self, learning_rate: float, step: int) -> None:
        """One update from the gradients; parameters without one stay as they are.

        Args:
            learning_rate: Of this step.
            step: Updates before this one, from 0; where a schedule starts anew (the second phase
                of pre-training) it counts from 0 again, though the moments stay.
        """
        present = [name for name, weight in self.parameters.items() if weight.grad is not None]
        if not present and self.shares is None:
            return
        self._normalise([g for name in present if (g := self.parameters[name].grad) is not None])
        # On a CPU one tensor at a time stays in the cache; elsewhere few large kernels are better.
        is_each = self.shares is None and self.parameters[present[0]].device.type == "cpu"
        groups = [[name] for name in present] if is_each else [present]
        for names in groups:
            self._update(names, learning_rate, step=step)

    def _normalise(self, gradients: Sequence[Tensor]) -> None:
        """Scales all gradients down to the largest global norm that is allowed."""
        if self.max_norm is None:
            return
        if self.shares is None:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
        else:
            norm = self.shares.global_norm(gradients)
        factor = (self.max_norm / norm).clamp(max=1.0)  # a norm of 0 gives infinity, and so 1
        if gradients:
            torch._foreach_mul_(list(gradients), factor)

    def _update(self, names: Sequence[str], learning_rate: float, *, step: int) -> None:
        weights = [self.parameters[name] for name in names]
        directions = self._directions(names, step)
        decayed = [place for place, name in enumerate(names) if self._decays[name]]
        if decayed:
            torch._foreach_add_(
                [directions[place] for place in decayed],
                [weights[place] for place in decayed],
                alpha=-self._weight_decay,
            )
        scaled = [place for place, name in enumerate(names) if self._has_ratio[name]]
        if scaled or self.shares is not None:
            chosen_names = [names[place] for place in scaled]
            keys, chosen = self._parts(chosen_names, [directions[place] for place in scaled])
            _, sizes = self._parts(chosen_names, [weights[place] for place in scaled])
            norms, lengths = self._norms(keys, sizes), self._norms(keys, chosen)
            ratios = torch.where((norms > 0) & (lengths > 0), norms / lengths, 1.0)
            if chosen:
                torch._foreach_mul_(chosen, list(ratios.unbind()))
        if names:
            torch._foreach_add_(weights, directions, alpha=learning_rate)

    def _parts(
        self, names: Sequence[str], tensors: Sequence[Tensor]
    ) -> tuple[list[tuple[str, int]], list[Tensor]]:
        """Query, key and value are one tensor here and three in the published models."""
        parts = [
            ((name, place), part)
            for name, tensor in zip(names, tensors, strict=True)
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
        return torch.stack(torch._foreach_norm(list(tensors)))

    def _directions(self, names: Sequence[str], step: int) -> list[Tensor]:
        """Adam's bias-corrected way down for each tensor; moments are brought up to date."""
        weights = [self.parameters[name] for name in names]
        if not weights:
            return []
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        first = [self.state[f"exp_avg.{name}"] for name in names]
        second = [self.state[f"exp_avg_sq.{name}"] for name in names]
        if weights[0].device.type not in _FUSED:
            return self._plain_directions(gradients, first, second, step=step)
        directions = [torch.zeros_like(weight) for weight in weights]
        adamw(
            directions,
            gradients,
            first,
            second,
            [],
            [torch.tensor(float(step), device=weight.device) for weight in weights],
            fused=True,
            foreach=False,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=1.0,
            weight_decay=0.0,
            eps=self.eps,
            maximize=False,
        )
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
