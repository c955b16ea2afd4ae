"""torch.compile over the parts of a layer that work token by token.

Compiled are the feed-forward block and what follows attention: products with their bias, GELU,
dropout, residual and norm around them. Attention's kernels stay as they are, and token counts are
dynamic, so one graph serves all layers and batches.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from subprocess import SubprocessError
from typing import Any

import torch
from torch import nn

from demo_bert.model.bert import Bert

_TRIAL_TOKENS = (37, 80)
_MOST_OF_A_REASON = 200
FAILURES = (
    RuntimeError,  # torch's compilers raise its subclasses
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    SubprocessError,
    TypeError,
    ValueError,
)
"""What a compiler and the tools that it starts may raise."""


def compile_layers(
    model: nn.Module, autocast: Callable[[], AbstractContextManager[object]], **options: Any
) -> str | None:
    """Compiles a model's layers in place and tries them; names of weights stay.

    Args:
        model: With a `Bert` in it, on its device, its rounding chosen.
        autocast: Surrounds the forward pass.
        **options: Of `torch.compile`.

    Returns:
        None, or in one line why compiling failed; the model is as before then.
    """
    berts = [module for module in model.modules() if isinstance(module, Bert)]
    for module, name in _parts(berts):
        setattr(module, name, torch.compile(getattr(module, name), dynamic=True, **options))
    try:
        for bert in berts:
            _try(bert, autocast)
    except FAILURES as error:
        for module, name in _parts(berts):
            delattr(module, name)
        return reason_of(error)
    finally:
        model.zero_grad(set_to_none=True)
    return None


def reason_of(error: BaseException) -> str:
    """An error of a compiler's or a library's in one line.

    Args:
        error: Of any kind.

    Returns:
        Its kind and the beginning of what it says, whose first line often says only that it failed.
    """
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:_MOST_OF_A_REASON]}"


def _parts(berts: list[Bert]) -> Iterator[tuple[nn.Module, str]]:
    """Each part that is compiled: its module, and the method's name."""
    for bert in berts:
        for layer in map(_any, bert.layers):
            yield layer.attention, "finish"
            yield layer.feed_forward, "forward"


def _try(bert: Bert, autocast: Callable[[], AbstractContextManager[object]]) -> None:
    """A forward and backward of every layer's parts, in training and in evaluation."""
    weight = bert.embeddings.word.weight
    was_training = bert.training
    for num_tokens in _TRIAL_TOKENS:
        for is_training in (True, False):
            bert.train(is_training)
            hidden = torch.randn(num_tokens, bert.config.hidden_size, device=weight.device)
            with torch.inference_mode(not is_training), autocast():
                for layer in map(_any, bert.layers):
                    hidden = layer.feed_forward(layer.attention.finish(hidden, hidden))
            if is_training:
                hidden.sum().backward()
    bert.train(was_training)


def _any(layer: nn.Module) -> Any:
    """A layer of a list, whose type nn.ModuleList does not know."""
    return layer
