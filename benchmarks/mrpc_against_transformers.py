"""Training speed on MRPC beside a plain `transformers` loop, interleaved in one process.

    python benchmarks/mrpc_against_transformers.py --dataset-path MRPC -m base -b 32 --steps 5

Both sides: random weights of one configuration, the same pairs in the same order, the model's own
dropout (0.1, 0.1), AdamW in torch's fused form, clipping at 1.0, from token ids on the host to the
updated weights. One thread setting for both. Ours is the product's own loop (`training.train`),
logging and the check for non-finite values included. The peers are `transformers`
BertForSequenceClassification with its default attention:

    padded-bf16   padded to the maximum length, torch.autocast("cpu", bfloat16)
    padded-fp32   padded to the maximum length, float32
    dynamic-fp32  padded to the longest pair of the batch, float32

The rule: one step of each side is thrown away; then A B A B; a ratio is taken of each pair of
neighbours, and the median of the ratios is printed with the smallest and the largest. On a CPU
without bfloat16 instructions padded-bf16 takes minutes a step: there, and only there, it takes one
step of --peer-examples, and the ratio is of examples per second.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from demo_bert.data.loader import micro_batches
from demo_bert.data.order import rows_at
from demo_bert.data.packing import Example
from demo_bert.distributed import World
from demo_bert.hardware import Dtype, select
from demo_bert.hardware.cpu import has_bf16_instructions
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.linear import round_products
from demo_bert.model.sizes import SIZES
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary
from demo_bert.optim import make_optimizer
from demo_bert.optim.schedule import constant
from demo_bert.tasks import load_task
from demo_bert.tasks.mrpc_files import LABELS, read_mrpc
from demo_bert.training import Actions, train

SEED = 42
RATE = 2e-5
Step = Callable[[int], tuple[int, float]]
"""Number of the step -> examples and seconds."""


def main() -> None:
    """Measures, prints a table, and writes JSON where asked."""
    options = _options()
    torch.set_num_threads(options.threads)
    examples = _examples(options.dataset_path, options.max_seq_length)
    numbers: dict[str, Any] = dict(SIZES[options.model].config)
    config = BertConfig(**numbers)
    ours = _ours(config, examples, batch=options.batch_size, dtype=options.dtype)
    rows = []
    for peer in options.peers:
        is_cut = peer == "padded-bf16" and not has_bf16_instructions()
        theirs = _theirs(
            peer,
            config,
            examples,
            batch=options.peer_examples if is_cut else options.batch_size,
            order_batch=options.batch_size,
            longest=options.max_seq_length,
        )
        pairs = _interleaved(ours, theirs, steps=1 if is_cut else options.steps)
        ratios = [a / b for a, b in pairs]
        rows.append(
            {
                "peer": peer,
                "ours_examples_per_s": statistics.median(a for a, _ in pairs),
                "peer_examples_per_s": statistics.median(b for _, b in pairs),
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "pairs": len(pairs),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    if options.output:
        facts = {
            "model": options.model,
            "batch_size": options.batch_size,
            "max_seq_length": options.max_seq_length,
            "dtype": options.dtype,
            "threads": options.threads,
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "bf16_products": select("cpu").product_mode(options.dtype),
            "load": os.getloadavg()[0],
            "rows": rows,
        }
        options.output.write_text(json.dumps(facts, indent=1) + "\n")


def _interleaved(ours: Step, theirs: Step, *, steps: int) -> list[tuple[float, float]]:
    if steps > 1:
        ours(0)
        theirs(0)
    pairs = []
    for step in range(1, steps + 1):
        rates = [count / seconds for count, seconds in (ours(step), theirs(step))]
        pairs.append((rates[0], rates[1]))
    return pairs


def _examples(path: Path, longest: int) -> list[Example]:
    data = read_mrpc([path])["train"]
    tokenizer = build_tokenizer(read_vocabulary(STANDARD_VOCABULARY), do_lower_case=True)
    task = load_task("mrpc")
    return list(task.features(data, labels=LABELS, tokenizer=tokenizer, max_seq_length=longest))


def _ours(config: BertConfig, examples: list[Example], *, batch: int, dtype: Dtype) -> Step:
    task, backend = load_task("mrpc"), select("cpu")
    backend.prepare()
    model = task.make_model(config, LABELS)
    initialise(model, initializer_range=config.initializer_range, seed=SEED)
    round_products(model, backend.product_mode(dtype) == "rounded")
    optimizer = make_optimizer("adamw", dict(model.named_parameters()), weight_decay=0.01)
    actions = Actions(
        emit=_say_nothing,
        evaluate=lambda step: None,
        save=lambda step: None,
        is_evaluation_due=lambda step: False,
        is_save_due=lambda step: False,
        stop_reason=lambda: None,
    )

    def step(number: int) -> tuple[int, float]:
        started = time.perf_counter()
        train(
            model,
            optimizer,
            batches=micro_batches(
                examples,
                seed=SEED,
                first_step=number,
                num_steps=number + 1,
                global_batch_size=batch,
                micro_batch_size=batch,
            ),
            num_steps=number + 1,
            loss_sum=task.loss_sum,
            schedule=constant(1, 0),
            peak_rate=RATE,
            clip_norm=1.0,
            dtype=dtype,
            seed=SEED,
            backend=backend,
            world=World(),
            actions=actions,
        )
        return batch, time.perf_counter() - started

    return step


def _say_nothing(event: str, **fields: object) -> None:
    pass


def _theirs(
    peer: str,
    config: BertConfig,
    examples: list[Example],
    *,
    batch: int,
    order_batch: int,
    longest: int,
) -> Step:
    from transformers import BertConfig as TheirConfig
    from transformers import BertForSequenceClassification

    torch.manual_seed(SEED)
    numbers: dict[str, Any] = {**config.to_dict(), "num_labels": len(LABELS)}
    model: Any = BertForSequenceClassification(TheirConfig(**numbers)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    is_bf16 = peer.endswith("bf16")

    def step(number: int) -> tuple[int, float]:
        started = time.perf_counter()
        order = rows_at(number * order_batch, order_batch, num_rows=len(examples), seed=SEED)
        rows = [examples[row] for row in order[:batch]]
        length = max(len(row.input_ids) for row in rows) if peer.startswith("dynamic") else longest
        inputs = _padded(rows, length)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        return len(rows), time.perf_counter() - started

    return step


def _padded(rows: list[Example], length: int) -> dict[str, torch.Tensor]:
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for number, row in enumerate(rows):
        size = len(row.input_ids)
        ids[number, :size] = torch.from_numpy(row.input_ids.astype("int64"))
        mask[number, :size] = 1
        types[number, row.first_segment : size] = 1
    labels = torch.tensor([row.label for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": labels}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset-path", type=Path, required=True)
    parser.add_argument("-m", "--model", default="base")
    parser.add_argument("-d", "--dtype", default="bf16")
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("-s", "--max-seq-length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peers", nargs="+", default=["padded-fp32", "dynamic-fp32"])
    parser.add_argument("--peer-examples", type=int, default=2)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
