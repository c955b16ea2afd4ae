"""Workers against threads on MRPC, and ways to exchange gradients, interleaved in one run.

    python benchmarks/workers.py --dataset-path MRPC -m minilm --rounds 5 --steps 3 \
        --sides 1x2 2x1 2x1:bf16 2x1:canonical

A side is WORKERSxTHREADS, with a way to exchange gradients after a colon: `views` (the default),
`copied`, `bf16`, `canonical` (`--reproducible`), `late` (nothing travels before the backward pass
is over). All sides have random weights of one configuration, the same examples in the same order,
the same global batch divided evenly into micro-batches, dropout, AdamW; all are the product's own
loop. A side's processes wait, idle, while another side is measured. A round is `--steps` steps of
each side in turn; one round is thrown away. Printed: medians over all steps, and the ratio to the
first side, taken of each round, with the smallest and the largest.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from demo_bert.data.loader import micro_batches
from demo_bert.data.packing import Example
from demo_bert.distributed import join, leave, place, wait_for_all
from demo_bert.exchange import Gradients
from demo_bert.hardware import Dtype, select
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
WAYS: dict[str, dict[str, Any]] = {
    "views": {},
    "copied": {"as_views": False},
    "bf16": {"dtype": "bf16"},
    "canonical": {"is_canonical": True},
    "late": {},
}


class Late(Gradients):
    """Gradients that travel when the backward pass is over."""

    def before_backward(self, index: int, *, is_last: bool) -> None:
        """See `Gradients.before_backward`."""
        super().before_backward(index, is_last=False)


@dataclass
class Side:
    """The processes of one side.

    Attributes:
        name: As it was asked for.
        processes: By rank.
    """

    name: str
    processes: list["subprocess.Popen[str]"]

    def steps(self, count: int) -> list[dict[str, Any]]:
        """The `step` events of some more steps, as the first worker has them."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
        answers: list[list[dict[str, Any]]] = []
        for process in self.processes:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.readline()))
        return answers[0]


def main() -> None:
    """Measures, prints a line for each side."""
    options = _options()
    if options.worker:
        _work(options)
        return
    sides = [_started(name, options) for name in options.sides]
    seconds: dict[str, list[list[float]]] = {side.name: [] for side in sides}
    parts: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    for number in range(options.rounds + 1):
        for side in sides:
            events = side.steps(options.steps)
            if number:
                seconds[side.name].append([event["seconds"] for event in events])
                parts[side.name] += [event["parts_s"] for event in events]
    for side in sides:
        for process in side.processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    first = seconds[sides[0].name]
    for side in sides:
        mine = seconds[side.name]
        ratios = [sum(a) / sum(b) for a, b in zip(first, mine, strict=True)]
        middle = statistics.median(s for each in mine for s in each)
        row = {
            "side": side.name,
            "step_ms": round(1e3 * middle, 1),
            "examples_per_s": round(options.global_batch_size / middle, 1),
            "to_first": round(statistics.median(ratios), 3),
            "from": round(min(ratios), 3),
            "to": round(max(ratios), 3),
            "parts_ms": {
                name: round(1e3 * statistics.median(part[name] for part in parts[side.name]), 1)
                for name in parts[side.name][0]
            },
        }
        print(json.dumps(row), flush=True)


class _Events:
    """The fields of events."""

    def __init__(self) -> None:
        self.found: list[dict[str, object]] = []

    def add(self, event: str, **fields: object) -> None:
        """Keeps one."""
        del event
        self.found.append(fields)


def _started(name: str, options: argparse.Namespace) -> Side:
    shape, _, way = name.partition(":")
    workers, threads = map(int, shape.split("x"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(workers),
        "OMP_NUM_THREADS": str(threads),
    }
    argv = [sys.executable, *sys.argv, "--worker", way or "views"]
    return Side(
        name,
        [
            subprocess.Popen(
                argv,
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(workers)
        ],
    )


def _work(options: argparse.Namespace) -> None:
    """One worker: trains as many steps as each line of standard input says."""
    world = place()
    if options.pin and world.world_size > 1:
        os.sched_setaffinity(0, {world.rank % (os.cpu_count() or 1)})
    task, backend = load_task("mrpc"), select("cpu")
    backend.prepare()
    join(world, backend.process_group, timeout_s=120.0)
    examples = _examples(options.dataset_path)
    numbers: dict[str, Any] = dict(SIZES[options.model].config)
    config = BertConfig(**numbers)
    model = task.make_model(config, LABELS)
    initialise(model, initializer_range=config.initializer_range, seed=SEED)
    dtype = cast(Dtype, options.dtype)
    round_products(model, backend.product_mode(dtype) == "rounded")
    parameters = dict(model.named_parameters())
    optimizer = make_optimizer("adamw", parameters, weight_decay=0.01)
    made = Late if options.worker == "late" else Gradients
    gradients = made(parameters, world, **WAYS[options.worker])
    done = 0
    for line in sys.stdin:
        events = _Events()
        wait_for_all(world)
        train(
            model,
            optimizer,
            batches=micro_batches(
                examples,
                seed=SEED,
                first_step=done,
                num_steps=done + int(line),
                global_batch_size=options.global_batch_size,
                micro_batch_size=options.batch_size
                or -(-options.global_batch_size // world.world_size),
                rank=world.rank,
                world_size=world.world_size,
                is_canonical=options.worker == "canonical",
            ),
            num_steps=done + int(line),
            loss_sum=task.loss_sum,
            schedule=constant(1, 0),
            peak_rate=2e-5,
            clip_norm=1.0,
            dtype=dtype,
            seed=SEED,
            backend=backend,
            world=world,
            actions=Actions.of_steps_alone(events.add),
            gradients=gradients,
        )
        done += int(line)
        print(json.dumps(events.found), flush=True)
    leave(world)


def _examples(path: Path) -> list[Example]:
    data = read_mrpc([path])["train"]
    tokenizer = build_tokenizer(read_vocabulary(STANDARD_VOCABULARY), do_lower_case=True)
    task = load_task("mrpc")
    return list(task.features(data, labels=LABELS, tokenizer=tokenizer, max_seq_length=128))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset-path", type=Path, required=True)
    parser.add_argument("-m", "--model", default="minilm")
    parser.add_argument("-d", "--dtype", default="bf16")
    parser.add_argument("--global-batch-size", type=int, default=64)
    parser.add_argument("-b", "--batch-size", type=int, help="else the whole in one micro-step")
    parser.add_argument("--sides", nargs="+", default=["1x2", "2x1"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pin", action="store_true", help="a core for each of several workers")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
