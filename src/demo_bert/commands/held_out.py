"""How well pre-training goes: scores on examples that are not trained on, and what they mean.

Shapes: B examples, M masked tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from demo_bert.commands.pretraining_data import batches_of
from demo_bert.data.packing import Batch
from demo_bert.data.pretraining import Examples
from demo_bert.distributed import World
from demo_bert.evaluation import totals_of
from demo_bert.hardware import Backend, Dtype
from demo_bert.losses import classification_loss

_NUM_TOTALS = 6
_STUCK_NATS = 0.15
_NORMAL_NATS = 1.0
_DIVERGING_NATS = 0.5


@dataclass(frozen=True)
class Unigram:
    """What a model reaches that knows how often each piece occurs, and nothing else.

    Attributes:
        mlm_loss: Mean over the masked tokens that are scored, in nats.
        mlm_accuracy: Share of them that are the most frequent piece.
    """

    mlm_loss: float
    mlm_accuracy: float


def unigram_baseline(examples: Examples, rows: np.ndarray, counts: np.ndarray) -> Unigram:
    """Scores the frequencies of the training text on the masked tokens of chosen rows.

    Args:
        examples: Those that are scored.
        rows: (N,) int64.
        counts: (V,) of the training text; each piece counts once more than it occurs.

    Returns:
        The baseline.
    """
    labels = [
        batch.masked_labels.numpy()
        for batch in batches_of(examples, rows, size=256, rank=0, world_size=1)
        if batch.masked_labels is not None
    ]
    targets = np.concatenate(labels)
    log_probabilities = np.log((counts + 1) / (counts + 1).sum())
    return Unigram(
        mlm_loss=-float(log_probabilities[targets].mean()),
        mlm_accuracy=float((targets == counts.argmax()).mean()),
    )


def score(
    model: nn.Module,
    examples: Examples,
    rows: np.ndarray,
    *,
    max_examples: int,
    dtype: Dtype,
    backend: Backend,
    world: World,
    stop_reason: Callable[[], str | None],
) -> dict[str, float]:
    """Loss and accuracy on chosen rows, in evaluation mode.

    Args:
        model: A `PreTrainer`.
        examples: Those that are scored.
        rows: (N,) int64.
        max_examples: Examples of a batch.
        dtype: "bf16" or "fp32".
        backend: The hardware.
        world: This worker's place.
        stop_reason: Why to stop, or None.

    Returns:
        `mlm_loss`, `mlm_accuracy`, `mlm_perplexity` where tokens are masked, `nsp_loss`,
        `nsp_accuracy` where segments are random.

    Raises:
        EvaluationStopped: A worker was asked to stop.
    """
    mlm_loss, mlm_hits, masked, nsp_loss, nsp_hits, pairs = totals_of(
        model,
        batches_of(examples, rows, size=max_examples, rank=world.rank, world_size=world.world_size),
        lambda batch: _sums(model, batch),
        num_totals=_NUM_TOTALS,
        dtype=dtype,
        backend=backend,
        world=world,
        stop_reason=stop_reason,
    )
    found: dict[str, float] = {}
    if masked:
        found["mlm_loss"] = mlm_loss / masked
        found["mlm_accuracy"] = mlm_hits / masked
        found["mlm_perplexity"] = math.exp(min(mlm_loss / masked, 100.0))
    if examples.source.with_random:
        found["nsp_loss"] = nsp_loss / pairs
        found["nsp_accuracy"] = nsp_hits / pairs
    return found


def loss_of(model: nn.Module, batch: Batch, *, parts: tuple[str, ...]) -> Tensor:
    """The parts of the loss, each summed over the batch.

    Args:
        model: A `PreTrainer`.
        batch: On the model's device.
        parts: Their names, in order.

    Returns:
        (P,) float32.
    """
    labels = batch.masked_labels if "mlm_loss" in parts else None
    words, pairs = _outputs(model, batch, labels)  # (), (B, 2)
    sums = {"nsp_loss": lambda: classification_loss(pairs, batch.labels), "mlm_loss": lambda: words}
    return torch.stack([sums[part]() for part in parts])


def _outputs(model: nn.Module, batch: Batch, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Masked tokens' logits, (M, V), or with labels their loss; the pairs' logits, (B, 2)."""
    masked = batch.masked_tokens
    return model(
        batch.input_ids,
        batch.position_ids,
        batch.token_type_ids,
        batch.cu_seqlens,
        batch.max_seqlen,
        batch.input_ids.new_zeros(0) if masked is None else masked,
        labels,
    )


def verdict(metrics: Mapping[str, float], baseline: Unigram | None, *, best: float | None) -> str:
    """How masked LM goes, in plain words.

    Args:
        metrics: Of the last evaluation.
        baseline: On the same tokens.
        best: The lowest `mlm_loss` of the evaluations before; None where there was none.

    Returns:
        One line: the verdict and its reason.

    Example:
        >>> verdict({"mlm_loss": 4.2}, Unigram(6.9, 0.05), best=4.5)
        'learning normally: masked LM loss 4.20 is 2.70 below the unigram baseline (6.90)'
    """
    if baseline is None or "mlm_loss" not in metrics:
        return "no verdict: no token was masked"
    loss = metrics["mlm_loss"]
    below = baseline.mlm_loss - loss
    where = f"masked LM loss {loss:.2f} is"
    place = f"{abs(below):.2f} {'below' if below >= 0 else 'above'} the unigram baseline"
    place += f" ({baseline.mlm_loss:.2f})"
    if not math.isfinite(loss) or (best is not None and loss > best + _DIVERGING_NATS):
        before = "" if best is None else f", and was {best:.2f} before"
        return f"diverging: {where} {place}{before}; a lower --learning-rate often mends this"
    if below < _STUCK_NATS:
        return (
            f"stuck at the unigram baseline: {where} {place}: only how often pieces occur is learnt"
            " so far; more steps, or another --learning-rate or longer --warmup"
        )
    if below < _NORMAL_NATS:
        return f"slow: {where} {place}; a normal run is {_NORMAL_NATS:.1f} below it or more"
    return f"learning normally: {where} {place}"


def _sums(model: nn.Module, batch: Batch) -> Tensor:
    words, pairs = _outputs(model, batch, None)  # (M, V), (B, 2)
    sums = words.new_zeros(_NUM_TOTALS)
    if batch.masked_labels is not None:
        hits = (words.argmax(1) == batch.masked_labels).sum()
        sums[0], sums[1] = classification_loss(words, batch.masked_labels), hits
        sums[2] = len(batch.masked_labels)
    sums[3] = classification_loss(pairs, batch.labels)
    sums[4] = (pairs.argmax(1) == batch.labels).sum()
    sums[5] = batch.num_examples
    return sums
