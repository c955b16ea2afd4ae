"""An optimizer whose moments are divided among the workers.

Every bucket of the gradients is cut into as many equal shares as there are workers. A worker gets
the sum of its shares, holds their moments alone, makes their update, and gives the new weights to
all: as many bytes as the sum of whole gradients. The arithmetic is that of the optimizer within.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from demo_bert.distributed import World, begin_gather, sum_numbers
from demo_bert.exchange.gradients import Gradients
from demo_bert.exchange.norms import norms
from demo_bert.optim.groups import num_parts
from demo_bert.optim.lamb import Lamb

if TYPE_CHECKING:
    from demo_bert.optim import Optimizer


class ShardedOptimizer:
    """AdamW or LAMB on this worker's shares.

    Args:
        make: Makes the optimizer of the shares: names and pieces of parameters, flat.
        parameters: Names and float32 master weights; from here on they lie in one flat tensor.
        gradients: Of the same parameters, sharded.
        world: This worker's place; there are others.
    """

    def __init__(
        self,
        make: "Callable[[Mapping[str, Tensor]], Optimizer]",
        parameters: Mapping[str, Tensor],
        gradients: Gradients,
        world: World,
    ) -> None:
        self.parameters = dict(parameters)
        self._world, self._arena = world, gradients.arena
        self._flat = torch.zeros_like(self._arena.flat)
        weights = list(self.parameters.values())
        for weight, view in zip(weights, self._arena.views_of(self._flat, weights), strict=True):
            view.copy_(weight.data)
            weight.data = view
        self._names = list(self.parameters)
        # Keys end in the parameter's name, by which decay and parts are told.
        self._pieces = {
            f"{piece.first}.{self._names[piece.index]}": piece
            for piece in self._arena.pieces(world.rank)
        }
        self._shares = {
            key: self._flat[piece.start : piece.end] for key, piece in self._pieces.items()
        }
        self._inner = make(self._shares)
        if isinstance(self._inner, Lamb):
            self._inner.shares = self
        self.state = self._inner.state
        """Named moments of the pieces, float32, flat."""

    @torch.no_grad()
    def step(self, learning_rate: float, step: int, *, norm: float, factor: float = 1.0) -> None:
        """One update from the gradients; parameters without one stay as they are.

        Args:
            learning_rate: Of this step.
            step: Updates before this one, from 0.
            norm: Global norm of all workers' gradients.
            factor: What the gradients are multiplied by first.
        """
        for key, piece in self._pieces.items():
            is_there = self.parameters[self._names[piece.index]].grad is not None
            gradient = self._arena.flat[piece.start : piece.end]
            self._shares[key].grad = gradient if is_there else None
        self._inner.step(learning_rate, step, norm=norm, factor=factor)
        pending = []
        for bucket in self._arena.buckets:
            start, end = self._arena.share(bucket, self._world.rank)
            whole = self._flat[bucket.start : bucket.end]
            pending.append(begin_gather(whole, self._flat[start:end]))
        for each in pending:
            each.wait()
        # Autograd does not see that the parameters' memory changed; layers keep narrow copies.
        torch.autograd.graph.increment_version(list(self.parameters.values()))

    @torch.no_grad()
    def whole_state(self) -> dict[str, Tensor]:
        """The moments of all workers; all of them ask together.

        Returns:
            Named moments in their parameters' shapes, on the host, on rank 0; empty elsewhere.
        """
        found: dict[str, Tensor] = {}
        weights = list(self.parameters.values())
        for moment in sorted({key.split(".", 1)[0] for key in self.state}):
            flat = torch.zeros(self._flat.numel() if self._world.is_first else 0)
            own = torch.zeros_like(self._flat)
            for key, piece in self._pieces.items():
                own[piece.start : piece.end] = self.state[f"{moment}.{key}"]
            for bucket in self._arena.buckets:
                start, end = self._arena.share(bucket, self._world.rank)
                whole = torch.empty_like(own[bucket.start : bucket.end])
                begin_gather(whole, own[start:end].clone()).wait()
                if self._world.is_first:
                    flat[bucket.start : bucket.end] = whole
            if self._world.is_first:
                views = self._arena.views_of(flat, weights)
                found |= {f"{moment}.{n}": v for n, v in zip(self.parameters, views, strict=True)}
        return found

    @torch.no_grad()
    def load_whole(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes this worker's pieces of the moments.

        Args:
            tensors: As `whole_state` gives them, or an optimizer that is not sharded.
        """
        for name, mine in self.state.items():
            moment, key = name.split(".", 1)
            piece = self._pieces[key]
            whole = tensors[f"{moment}.{self._names[piece.index]}"].reshape(-1)
            mine.copy_(whole[piece.first : piece.first + len(mine)])

    def parts(self, name: str, piece: Tensor) -> list[tuple[int, Tensor]]:
        """See `optim.lamb.Shares.parts`."""
        place, count = self._pieces[name], num_parts(name)
        size = self._arena.sizes[place.index] // count
        found: list[tuple[int, Tensor]] = []
        for part in range(count):
            start, end = part * size - place.first, (part + 1) * size - place.first
            if start < len(piece) and end > 0:
                found.append((part, piece[max(0, start) : end]))
        return found

    def norms(self, keys: Sequence[tuple[str, int]], numbers: Sequence[Tensor]) -> Tensor:
        """See `optim.lamb.Shares.norms`."""
        squares = {
            (index, part): 0.0
            for index, name in enumerate(self._names)
            for part in range(num_parts(name))
        }
        places = [(self._pieces[key].index, part) for key, part in keys]
        own = norms(numbers).tolist() if numbers else []
        for place, norm in zip(places, own, strict=True):
            squares[place] += norm**2
        summed = sum_numbers(list(squares.values()), self._world, self._flat.device)
        whole = dict(zip(squares, summed, strict=True))
        return torch.tensor([math.sqrt(whole[p]) for p in places], device=self._flat.device)


def whole_state(optimizer: "Optimizer | ShardedOptimizer") -> Mapping[str, Tensor]:
    """The moments as a checkpoint keeps them; all workers ask together.

    Args:
        optimizer: Sharded or not.

    Returns:
        Named moments in their parameters' shapes; empty on all workers but rank 0 where sharded.
    """
    if isinstance(optimizer, ShardedOptimizer):
        return optimizer.whole_state()
    return optimizer.state


@torch.no_grad()
def load_state(optimizer: "Optimizer | ShardedOptimizer", tensors: Mapping[str, Tensor]) -> None:
    """Sets the moments.

    Args:
        optimizer: Sharded or not.
        tensors: Of a checkpoint.
    """
    if isinstance(optimizer, ShardedOptimizer):
        optimizer.load_whole(tensors)
        return
    for name, tensor in tensors.items():
        optimizer.state[name].copy_(tensor)
