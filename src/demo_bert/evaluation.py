"""The one evaluation loop.

Shapes: N examples, B of a batch, C outputs for each.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from demo_bert.data.loader import ahead, token_batches
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.distributed import World, sum_tensor
from demo_bert.hardware.backend import Backend, Dtype

Outputs = Callable[[nn.Module, Batch], Tensor]
"""Model and batch, on its device -> (B, C): what is to be known of each example."""


def logits_of(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    outputs: Outputs,
    num_outputs: int,
    max_tokens: int,
    max_examples: int = 1024,
    dtype: Dtype,
    backend: Backend,
    world: World,
    fill: Callable[[Batch], Batch] | None = None,
) -> np.ndarray:
    """The model's outputs for every example, in the examples' order.

    Args:
        model: On the backend's device; put into evaluation mode.
        examples: At least one.
        outputs: The task's: logits of classes, the best starts and ends of spans.
        num_outputs: C.
        max_tokens: Tokens of a batch, at most; batches are made of examples of similar length and
            dealt to the workers.
        max_examples: Examples of a batch, at most.
        dtype: "bf16" or "fp32".
        backend: The hardware.
        world: This worker's place; every worker gets all outputs.
        fill: Brings a batch to one of a few shapes, for backends that need it.

    Returns:
        (N, C) float32.
    """
    model.eval()
    device = backend.device()
    lengths = [len(example.input_ids) for example in examples]
    groups = token_batches(lengths, max_tokens=max_tokens, max_examples=max_examples)
    mine = groups[world.rank :: world.world_size]

    def prepared() -> Iterator[tuple[list[int], Batch]]:
        for rows in mine:
            batch = pack([examples[row] for row in rows])
            yield rows, fill(batch) if fill else batch

    logits = torch.zeros(len(examples), num_outputs, device=device)  # (N, C)
    with torch.inference_mode():
        for rows, batch in ahead(prepared()):
            moved = batch.to(device)
            with backend.autocast(dtype):
                found = outputs(model, moved)  # (B, C)
            logits[torch.tensor(rows, device=device)] = found[: len(rows)].float()
            backend.step_boundary()
    return sum_tensor(logits, world).cpu().numpy()  # (N, C)
