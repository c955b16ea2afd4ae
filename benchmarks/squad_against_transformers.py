"""SQuAD beside a plain `transformers` loop: its scores, and its speed.

    python benchmarks/squad_against_transformers.py score -m DIR --dataset-path DIR --seeds 42 43 44
    python benchmarks/squad_against_transformers.py speed -m DIR --dataset-path DIR --steps 5

`score` trains BertForQuestionAnswering as its users do: rows padded to the longest of the batch,
bf16 autocast or float32 (`-d`), its own shuffling (`--grouped`: its Trainer's groups of like
lengths), torch's AdamW with the recipe's decay groups,
warm-up over 10 % and linear decay, clipping at 1.0; then answers the validation split. It starts
from the very weights that the program starts from, the new head too, and its answers are searched
and scored by the program's own code, so that only training differs. The program's side is

    demo_bert finetuning -d bf16 -m DIR -t squad -b 24 --dataset-path DIR --seeds 3

`speed` runs training steps of both in turn on the same rows: one step of each is thrown away, then
A B A B; the median of the ratios of neighbours is printed with the smallest and the largest. Both
with the same threads; ours is `training.train` with all that it does in a step.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from demo_bert.commands.starting_weights import StartingWeights, fill_model, find_starting_weights
from demo_bert.data.loader import micro_batches, token_batches
from demo_bert.data.order import rows_at
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.distributed import World
from demo_bert.hardware import Dtype, select
from demo_bert.model.convert import save_model_directory
from demo_bert.model.linear import round_products
from demo_bert.model.vocabulary import build_tokenizer
from demo_bert.optim import make_optimizer
from demo_bert.optim.schedule import constant, linear
from demo_bert.tasks import load_task
from demo_bert.tasks.spans.task import SpanTask
from demo_bert.tasks.task import DataRequest, TaskData
from demo_bert.training import Actions, train

Step = Callable[[int], float]
"""Number of the step -> seconds."""


def main() -> None:
    """Measures and prints one line of JSON for each result."""
    options = _options()
    torch.set_num_threads(options.threads)
    task = cast(SpanTask, load_task(options.task))
    data = task.load(DataRequest(paths=tuple(options.dataset_path)), print)
    start = find_starting_weights(options.model, "published", announce=print)
    tokenizer = build_tokenizer(start.vocabulary, **vars(start.case_rules))
    rows = {
        name: task.features(
            data.splits[name], labels=(), tokenizer=tokenizer, max_seq_length=options.max_seq_length
        )
        for name in ("train", "validation")
    }
    if options.what == "speed":
        _print(_speed(task, start, rows["train"], options=options))
        return
    for seed in options.seeds:
        _print(_score(task, start, data, rows=rows, options=options, seed=seed))


def _score(
    task: SpanTask,
    start: StartingWeights,
    data: TaskData,
    *,
    rows: dict[str, Any],
    options: argparse.Namespace,
    seed: int,
) -> dict[str, Any]:
    """Trains the plain loop with one seed."""
    started = time.perf_counter()
    model, optimizer = _theirs(task, start, seed=seed)
    num_rows, batch = len(rows["train"]), options.batch_size
    num_steps = round(options.epochs * num_rows / batch)
    schedule = linear(num_steps, round(0.1 * num_steps))
    torch.manual_seed(seed)
    epochs = range(int(options.epochs) + 1)
    if options.grouped:
        from transformers.trainer_pt_utils import LengthGroupedSampler

        lengths = [len(row.input_ids) for row in rows["train"]]
        order = torch.tensor(
            [r for _ in epochs for r in LengthGroupedSampler(batch, None, lengths)]
        )
    else:
        order = torch.cat([torch.randperm(num_rows) for _ in epochs])
    begun, state = 0, options.state
    if state and state.exists():
        kept = torch.load(state, weights_only=True)
        begun, order, started = kept["step"], kept["order"], started - kept["seconds"]
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        torch.set_rng_state(kept["draws"])
    for number in range(begun, num_steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * schedule(number)
        chosen = order[number * batch : (number + 1) * batch].tolist()
        with _their_products(options.dtype):
            _their_step(model, optimizer, [rows["train"][row] for row in chosen], length=None)
        if number % 50 == 49:
            seconds = time.perf_counter() - started
            print(f"step {number + 1} of {num_steps}, {seconds:.0f} s", file=sys.stderr, flush=True)
            kept = {"step": number + 1, "order": order, "seconds": seconds}
            kept |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            if state:
                torch.save(kept | {"draws": torch.get_rng_state()}, state.with_suffix(".new"))
                state.with_suffix(".new").replace(state)
    with _their_products(options.dtype):
        logits = _their_outputs(task, model, rows["validation"])
    scores = task.score(
        data.splits["validation"], rows=rows["validation"], labels=(), logits=logits
    )
    seconds = time.perf_counter() - started
    return {"seed": seed, "steps": num_steps, "seconds": seconds, "metrics": dict(scores.metrics)}


def _speed(
    task: SpanTask, start: StartingWeights, rows: Sequence[Example], *, options: argparse.Namespace
) -> dict[str, Any]:
    """Steps of both in turn."""
    ours = _our_step(task, start, rows, options=options)
    model, optimizer = _theirs(task, start, seed=options.seeds[0])
    length = options.max_seq_length if options.pad == "full" else None

    def theirs(number: int) -> float:
        started = time.perf_counter()
        with _their_products(options.dtype):
            _their_step(model, optimizer, _rows_of(rows, number, options=options), length=length)
        return time.perf_counter() - started

    ours(0)
    theirs(0)
    pairs = [(ours(number), theirs(number)) for number in range(1, options.steps + 1)]
    ratios = [peer / own for own, peer in pairs]
    return {
        "model": options.model,
        "ours": options.dtype,
        "peer": f"{options.dtype}, padded to {length or 'the longest of the batch'}",
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "pairs": len(pairs),
        "threads": options.threads,
        "load": os.getloadavg()[0],
    }


def _rows_of(rows: Sequence[Example], number: int, *, options: argparse.Namespace) -> list[Example]:
    batch = options.batch_size
    return [rows[row] for row in rows_at(number * batch, batch, num_rows=len(rows), seed=0)]


def _our_step(
    task: SpanTask, start: StartingWeights, rows: Sequence[Example], *, options: argparse.Namespace
) -> Step:
    dtype = cast(Dtype, options.dtype)
    backend = select("cpu")
    backend.prepare()
    torch.set_num_threads(options.threads)
    model = task.make_model(start.config, ())
    fill_model(model, start, seed=options.seeds[0])
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

    def step(number: int) -> float:
        started = time.perf_counter()
        train(
            model,
            optimizer,
            batches=micro_batches(
                rows,
                seed=0,
                first_step=number,
                num_steps=number + 1,
                global_batch_size=options.batch_size,
                micro_batch_size=options.batch_size,
            ),
            num_steps=number + 1,
            loss_sum=task.loss_sum,
            schedule=constant(1, 0),
            peak_rate=options.learning_rate,
            clip_norm=1.0,
            dtype=dtype,
            seed=0,
            backend=backend,
            world=World(),
            actions=actions,
        )
        return time.perf_counter() - started

    return step


def _say_nothing(event: str, **fields: object) -> None:
    del event, fields


def _theirs(
    task: SpanTask, start: StartingWeights, *, seed: int
) -> tuple[Any, torch.optim.Optimizer]:
    """The model of `transformers` with the program's starting weights, and its optimizer."""
    from transformers import BertForQuestionAnswering

    own = task.make_model(start.config, ())
    fill_model(own, start, seed=seed)
    with tempfile.TemporaryDirectory() as place:
        save_model_directory(
            Path(place),
            own,
            config=start.config,
            vocabulary=start.vocabulary,
            case_rules=start.case_rules,
        )
        model: Any = BertForQuestionAnswering.from_pretrained(place)
    named = dict(cast(nn.Module, model).named_parameters())
    plain = [p for n, p in named.items() if n.endswith("bias") or "LayerNorm" in n]
    decayed = [p for n, p in named.items() if not (n.endswith("bias") or "LayerNorm" in n)]
    groups = [
        {"params": decayed, "weight_decay": 0.01},
        {"params": plain, "weight_decay": 0.0},
    ]
    return model.train(), torch.optim.AdamW(groups, lr=1e-4, eps=1e-6, fused=True)


def _their_step(
    model: Any, optimizer: torch.optim.Optimizer, rows: Sequence[Example], *, length: int | None
) -> None:
    batch = pack(rows)
    inputs = _padded(batch, length or batch.max_seqlen)
    loss = model(
        **inputs, start_positions=batch.labels[:, 0], end_positions=batch.labels[:, 1]
    ).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()


def _their_products(dtype: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16")


def _padded(batch: Batch, length: int) -> dict[str, torch.Tensor]:
    ids = torch.zeros(batch.num_examples, length, dtype=torch.int64)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    bounds = batch.cu_seqlens.tolist()
    for number, (begin, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        ids[number, : end - begin] = batch.input_ids[begin:end]
        types[number, : end - begin] = batch.token_type_ids[begin:end]
        mask[number, : end - begin] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _their_outputs(task: SpanTask, model: Any, rows: Sequence[Example]) -> np.ndarray:
    """What the program keeps of each window, from the other model's logits."""
    model.eval()

    def flat(*arrays: torch.Tensor | int) -> torch.Tensor:
        del arrays
        found = model(**_padded(batch, batch.max_seqlen))
        logits = torch.stack([found.start_logits, found.end_logits], dim=2)  # (B, S, 2)
        return torch.cat(
            [logits[n, :size] for n, size in enumerate(batch.cu_seqlens.diff().tolist())]
        )

    outputs = torch.zeros(len(rows), task.num_outputs(()))
    lengths = [len(row.input_ids) for row in rows]
    with torch.inference_mode():
        for group in token_batches(lengths, max_tokens=8192, max_examples=64):
            batch = pack([rows[row] for row in group])
            outputs[group] = task.outputs(cast(nn.Module, flat), batch)
    return outputs.numpy()


def _print(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("score", "speed"))
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--task", default="squad")
    parser.add_argument("--dataset-path", type=Path, action="append", required=True)
    parser.add_argument(
        "-d",
        "--dtype",
        default="bf16",
        help="for speed of the program's side, for score of the other",
    )
    parser.add_argument("-b", "--batch-size", type=int, default=10)
    parser.add_argument("-s", "--max-seq-length", type=int, default=384)
    parser.add_argument("-e", "--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--pad", choices=("longest", "full"), default="full")
    parser.add_argument("--grouped", action="store_true")
    parser.add_argument("--state", type=Path, help="kept every 50 steps of a seed, gone on from")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


if __name__ == "__main__":
    main()
