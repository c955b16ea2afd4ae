"""Pre-training beside a plain `transformers` BertForPreTraining loop, on the same examples.

    python benchmarks/pretraining_against_transformers.py losses -m tiny --steps 50
    python benchmarks/pretraining_against_transformers.py speed -m base -d bf16 --steps 5

`losses`: the same starting weights, dropout 0, float32, AdamW, the same batches; prints the largest
relative difference of the two losses over the steps. `speed`: the model's own dropout, interleaved
steps of both sides as in `mrpc_against_transformers.py`; the ratio is of examples per second.

Examples come from --store, else from the embedded text. The peer's batches are padded to the
maximum length, its head runs over all positions, as its users have it; `best-fp32` pads to the
longest example and gives the head the masked tokens alone.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo_bert.commands.held_out import loss_of
from demo_bert.corpus.store import open_store
from demo_bert.data import sample_text
from demo_bert.data.loader import MicroBatch
from demo_bert.data.masking import pieces_of
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import PairSource
from demo_bert.data.pretraining import Examples, pretraining_batches
from demo_bert.distributed import World
from demo_bert.hardware import Dtype, select
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.heads import PreTrainer
from demo_bert.model.linear import round_products
from demo_bert.model.sizes import SIZES
from demo_bert.model.vocabulary import (
    STANDARD_VOCABULARY,
    CaseRules,
    build_tokenizer,
    read_vocabulary,
)
from demo_bert.optim import make_optimizer
from demo_bert.optim.schedule import constant
from demo_bert.training import Actions, train

SEED = 42
RATE = 1e-4
PARTS = ("mlm_loss", "nsp_loss")
Step = Callable[[int], tuple[float, float]]
"""Number of the step -> loss and seconds."""


def main() -> None:
    """Compares and prints."""
    options = _options()
    torch.set_num_threads(options.threads)
    vocabulary = read_vocabulary(STANDARD_VOCABULARY)
    examples = _examples(options.store, options.max_seq_length, vocabulary)
    numbers: dict[str, Any] = dict(SIZES[options.model].config)
    if options.what == "losses":
        numbers |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**numbers)
    model = PreTrainer(config)
    initialise(model, initializer_range=config.initializer_range, seed=SEED)
    with tempfile.TemporaryDirectory() as directory:
        save_model_directory(
            Path(directory),
            model,
            config=config,
            vocabulary=vocabulary,
            case_rules=CaseRules(do_lower_case=True),
        )
        peers = {name: _theirs(name, Path(directory), examples, options) for name in options.peers}
    ours = _ours(model, examples, options)
    for name, theirs in peers.items():
        pairs = [(ours(step), theirs(step)) for step in range(options.steps + 1)]
        if options.what == "losses":
            gaps = [abs(a[0] - b[0]) / abs(b[0]) for a, b in pairs]
            print(json.dumps({"peer": name, "steps": len(gaps), "largest_gap": max(gaps)}))
            return  # the weights have moved: one peer at a time
        ratios = [b[1] / a[1] for a, b in pairs[1:]]
        print(
            json.dumps(
                {
                    "peer": name,
                    "ratio": statistics.median(ratios),
                    "ratio_min": min(ratios),
                    "ratio_max": max(ratios),
                    "pairs": len(ratios),
                    "load": os.getloadavg()[0],
                }
            ),
            flush=True,
        )


def _examples(store: Path | None, length: int, vocabulary: list[str]) -> Examples:
    if store:
        source = PairSource(open_store(store).shards, max_seq_length=length, seed=SEED)
    else:
        tokenizer = build_tokenizer(vocabulary, do_lower_case=True)
        shard = sample_text.shard_of_text(sample_text.sample_documents(), tokenizer)
        source = PairSource([shard], max_seq_length=length, seed=SEED)
    return Examples(source, pieces_of(vocabulary), length)


def _batches(examples: Examples, number: int, size: int) -> Iterator[MicroBatch]:
    return pretraining_batches(
        examples,
        seed=SEED,
        first_step=number,
        num_steps=number + 1,
        global_batch_size=size,
        micro_batch_size=size,
    )


def _ours(model: PreTrainer, examples: Examples, options: argparse.Namespace) -> Step:
    backend = select("cpu")
    backend.prepare()
    dtype: Dtype = options.dtype
    round_products(model, backend.product_mode(dtype) == "rounded")
    optimizer = make_optimizer("adamw", dict(model.named_parameters()), weight_decay=0.01)
    losses: list[float] = []

    def emit(event: str, **fields: Any) -> None:
        if event == "step":
            losses.append(fields["loss"])

    actions = Actions(
        emit=emit,
        evaluate=lambda step: None,
        save=lambda step: None,
        is_evaluation_due=lambda step: False,
        is_save_due=lambda step: False,
        stop_reason=lambda: None,
    )

    def step(number: int) -> tuple[float, float]:
        started = time.perf_counter()
        train(
            model,
            optimizer,
            batches=_batches(examples, number, options.batch_size),
            num_steps=number + 1,
            loss_sum=lambda model, batch: loss_of(model, batch, parts=PARTS),
            schedule=constant(1, 0),
            peak_rate=RATE,
            clip_norm=1.0,
            dtype=dtype,
            seed=SEED,
            backend=backend,
            world=World(),
            actions=actions,
            parts=PARTS,
        )
        return losses[-1], time.perf_counter() - started

    return step


def _theirs(peer: str, directory: Path, examples: Examples, options: argparse.Namespace) -> Step:
    from transformers import BertForPreTraining

    torch.manual_seed(SEED)
    model: Any = BertForPreTraining.from_pretrained(str(directory)).train()
    decaying = [p for n, p in model.named_parameters() if not n.lower().endswith(_WITHOUT_DECAY)]
    rest = [p for n, p in model.named_parameters() if n.lower().endswith(_WITHOUT_DECAY)]
    groups = [{"params": decaying, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, eps=1e-6, fused=True)
    is_bf16 = peer.endswith("bf16")

    def step(number: int) -> tuple[float, float]:
        started = time.perf_counter()
        (micro,) = _batches(examples, number, options.batch_size)
        assert micro.batch is not None
        length = micro.batch.max_seqlen if peer.startswith("best") else options.max_seq_length
        inputs = _padded(micro.batch, length)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            loss = _masked_only(model, inputs) if peer.startswith("best") else model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item()), time.perf_counter() - started

    return step


_WITHOUT_DECAY = ("bias", "norm.weight")


def _masked_only(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same loss with the head over masked tokens alone."""
    encoded = {k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    outputs = model.bert(**encoded)
    chosen = inputs["labels"] != -100
    words = model.cls.predictions(outputs.last_hidden_state[chosen])
    pairs = model.cls.seq_relationship(outputs.pooler_output)
    return torch.nn.functional.cross_entropy(
        words.float(), inputs["labels"][chosen]
    ) + torch.nn.functional.cross_entropy(pairs.float(), inputs["next_sentence_label"])


def _padded(batch: Batch, length: int) -> dict[str, torch.Tensor]:
    """The flat batch as rows."""
    bounds = batch.cu_seqlens.numpy().astype(np.int64)
    sizes = np.diff(bounds)
    flat = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes) * length) + batch.position_ids
    rows = (len(sizes), length)
    ids, types, mask = (torch.zeros(rows[0] * length, dtype=torch.int64) for _ in range(3))
    labels = torch.full((rows[0] * length,), -100)
    ids[flat], types[flat], mask[flat] = batch.input_ids, batch.token_type_ids, 1
    assert batch.masked_tokens is not None and batch.masked_labels is not None
    labels[flat[batch.masked_tokens]] = batch.masked_labels
    return {
        "input_ids": ids.view(rows),
        "attention_mask": mask.view(rows),
        "token_type_ids": types.view(rows),
        "labels": labels.view(rows),
        "next_sentence_label": batch.labels,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("losses", "speed"))
    parser.add_argument("--store", type=Path)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("-d", "--dtype", default="fp32", choices=("bf16", "fp32"))
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("-s", "--max-seq-length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peers", nargs="+", default=["padded-fp32", "best-fp32"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
