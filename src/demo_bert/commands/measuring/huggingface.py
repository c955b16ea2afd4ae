"""The peer: the same work through `transformers`.

`padded` is how people run it: every batch padded to the longest length that is allowed, and in
pre-training the head over all positions. `best` is the best that its users can make of it without
other kernels: padded to the longest example of the batch, batches of examples of like length, and
the head of masked LM over the masked tokens alone. Both: the published architecture with random
weights, its default attention, autocast in bf16, AdamW in torch's fused form with the recipe's
decay groups, clipping at 1.0, the loss read and the norm checked at each step, batches from the
host.
"""

import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from demo_bert.commands.measuring.own import Block, OwnSide, Work
from demo_bert.data.packing import Batch
from demo_bert.errors import TrainingError, UsageError
from demo_bert.hardware import Dtype
from demo_bert.losses import IGNORED
from demo_bert.model.flops import TRAINING_FACTOR

Form = Literal["padded", "best"]
FORMS: dict[Form, str] = {
    "padded": "as people run it: padded to {length}",
    "best": "at its best: padded to the batch's longest, batches of like length",
}
"""What each form is, in words."""
_RATE = 2e-5
_NO_DECAY = ("bias", "LayerNorm.weight")


class Source(Protocol):
    """Where batches come from; both sides ask the same."""

    def batch(self, number: int) -> Batch:
        """The batch of that number of the course."""
        ...

    def flops(self, config: Any, number: int) -> float:
        """Operations of its forward pass on real tokens."""
        ...


def transformers_version() -> str:
    """The version that is installed.

    Returns:
        As the package states it.

    Raises:
        UsageError: It is missing.
    """
    try:
        return version("transformers")
    except PackageNotFoundError as error:
        raise UsageError(
            "--against huggingface: transformers is not installed; pip install transformers (the"
            " version measured with is in requirements-dev.lock)"
        ) from error


def peer_dtype(own: OwnSide) -> Dtype:
    """The type that the peer computes in.

    Args:
        own: The program's side.

    Returns:
        The same; float32 where this machine has no bfloat16 units, for which torch's bfloat16
        products take many times as long.
    """
    backend, dtype = own.backend, own.dtype
    return "fp32" if backend.product_mode(dtype) == "rounded" else dtype


class HuggingFaceSide:
    """A plain training loop over a model of `transformers`.

    Args:
        own: The program's side, whose configuration, device and batches it shares.
        form: "padded" or "best".
    """

    def __init__(self, own: OwnSide, form: Form) -> None:
        self.form: Form = form
        self._own, self._work = own, own.work
        self._backend = own.backend
        self._dtype = peer_dtype(own)
        torch.manual_seed(own.work.seed)
        self._model: Any = _model(own.work, own.config.to_dict()).train()
        self._model.to(self._backend.device())
        named = list(self._model.named_parameters())
        plain = [p for n, p in named if n.endswith(_NO_DECAY)]
        decayed = [p for n, p in named if not n.endswith(_NO_DECAY)]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=_RATE, eps=1e-6, fused=True)

    def run(self, first: int, num_steps: int) -> Block:
        """Trains batches of the course.

        Args:
            first: The first one's number.
            num_steps: How many.

        Returns:
            What was done.

        Raises:
            TrainingError: A value was not finite.
        """
        source: Source = self._own.source
        examples = tokens = 0
        self._backend.synchronize()
        started = time.perf_counter()
        for number in range(first, first + num_steps):
            batch = source.batch(number)
            self._step(batch)
            examples += batch.num_examples
            tokens += batch.num_tokens
        self._backend.synchronize()
        seconds = time.perf_counter() - started
        flops = sum(source.flops(self._own.config, first + n) for n in range(num_steps))
        return Block(seconds, examples, tokens, TRAINING_FACTOR * flops)

    def _step(self, batch: Batch) -> None:
        length = self._work.max_seq_length if self.form == "padded" else batch.max_seqlen
        device = self._backend.device()
        inputs = {
            name: tensor.to(device, non_blocking=True)
            for name, tensor in padded(batch, length, self._work.task).items()
        }
        with self._backend.autocast(self._dtype):
            loss = self._loss(inputs)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if not torch.isfinite(norm + loss.detach()).item():
            raise TrainingError("transformers: a loss or gradient was not finite")

    def _loss(self, inputs: dict[str, Tensor]) -> Tensor:
        if self._work.is_fine_tuned or self.form == "padded":
            return self._model(**inputs).loss
        names = ("input_ids", "attention_mask", "token_type_ids")
        outputs = self._model.bert(**{name: inputs[name] for name in names})
        chosen = inputs["labels"] != IGNORED  # (B, S)
        words = self._model.cls.predictions(outputs.last_hidden_state[chosen])  # (M, V)
        pairs = self._model.cls.seq_relationship(outputs.pooler_output)  # (B, 2)
        losses = torch.nn.functional.cross_entropy
        return losses(words.float(), inputs["labels"][chosen]) + losses(
            pairs.float(), inputs["next_sentence_label"]
        )


def padded(batch: Batch, length: int, task: str) -> dict[str, Tensor]:
    """A flat batch as the peer takes it.

    Args:
        batch: On the host.
        length: S, tokens of a row.
        task: Says what the labels are.

    Returns:
        input_ids, token_type_ids, attention_mask (B, S) and the labels, by the peer's names.
    """
    sizes = batch.cu_seqlens.diff().long()  # (B,)
    starts = torch.arange(len(sizes)) * length  # (B,)
    flat = torch.repeat_interleave(starts, sizes) + batch.position_ids  # (T,)
    rows = (len(sizes), length)
    ids, types, mask = (torch.zeros(rows[0] * length, dtype=torch.int64) for _ in range(3))
    ids[flat], types[flat], mask[flat] = batch.input_ids, batch.token_type_ids, 1
    inputs = {
        "input_ids": ids.view(rows),
        "token_type_ids": types.view(rows),
        "attention_mask": mask.view(rows),
    }
    if batch.masked_tokens is not None and batch.masked_labels is not None:
        labels = torch.full((rows[0] * length,), IGNORED)
        labels[flat[batch.masked_tokens]] = batch.masked_labels
        return inputs | {"labels": labels.view(rows), "next_sentence_label": batch.labels}
    if task == "squad":
        names = ("start_positions", "end_positions")
        return inputs | dict(zip(names, batch.labels.unbind(1), strict=True))
    return inputs | {"labels": batch.labels}


def _model(work: Work, config: dict[str, Any]) -> Any:
    import transformers

    kinds = {"mrpc": "BertForSequenceClassification", "squad": "BertForQuestionAnswering"}
    kind = getattr(transformers, kinds.get(work.task, "BertForPreTraining"))
    return kind(transformers.BertConfig(**config))
