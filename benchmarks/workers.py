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

With `--rate 100mbit` (root, iproute2) every worker is alone in a network namespace, and what leaves
it is held to that rate by `tc tbf`; then the forecast of `exchange.forecast` stands beside, made
from the parts of the first side's steps, and `measured_bytes` is what the link counted.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from demo_bert.data.loader import micro_batches
from demo_bert.data.packing import Example
from demo_bert.distributed import join, leave, place, wait_for_all
from demo_bert.exchange.forecast import Link, Work, forecast
from demo_bert.exchange.gradients import Gradients
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
NET = "10.91.7"
LATENCY_S = 5e-5
"""Of a message between two namespaces; a guess, of no weight at these rates."""
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
    with _network(options.rate) as network:
        sides = [_started(name, options, network) for name in options.sides]
        try:
            for row in _measured(sides, options, network):
                print(json.dumps(row), flush=True)
        finally:
            for process in (process for side in sides for process in side.processes):
                assert process.stdin is not None
                process.stdin.close()
                process.wait()


def _measured(
    sides: list[Side], options: argparse.Namespace, network: "_Network"
) -> Iterator[dict[str, Any]]:
    """A row for each side."""
    events: dict[str, list[list[dict[str, Any]]]] = {side.name: [] for side in sides}
    sent: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(options.rounds + 1):
        for side in sides:
            before = network.sent_bytes()
            found = side.steps(options.steps)
            if number:
                events[side.name].append(found)
                sent[side.name].append((network.sent_bytes() - before) / options.steps)
    first = events[sides[0].name]
    for side in sides:
        mine = events[side.name]
        ratios = [_sum(a) / _sum(b) for a, b in zip(first, mine, strict=True)]
        steps = [event for each in mine for event in each]
        middle = statistics.median(event["seconds"] for event in steps)
        row = {
            "side": side.name,
            "step_ms": round(1e3 * middle, 1),
            "examples_per_s": round(options.global_batch_size / middle, 1),
            "to_first": round(statistics.median(ratios), 3),
            "from": round(min(ratios), 3),
            "to": round(max(ratios), 3),
            "parts_ms": _parts_ms(steps),
            "sent_bytes": steps[0].get("sent_bytes", 0),
        }
        if network.bytes_per_s:
            row["measured_bytes"] = round(statistics.median(sent[side.name]))
            base = _parts_ms([event for each in first for event in each])
            row["forecast_ms"] = round(_forecast_ms(side.name, base, options, network), 1)
        yield row


def _sum(events: list[dict[str, Any]]) -> float:
    return sum(event["seconds"] for event in events)


def _parts_ms(events: list[dict[str, Any]]) -> dict[str, float]:
    names = events[0]["parts_s"]
    return {
        name: round(1e3 * statistics.median(event["parts_s"][name] for event in events), 1)
        for name in names
    }


def _forecast_ms(
    name: str, base: dict[str, float], options: argparse.Namespace, network: "_Network"
) -> float:
    """The forecast of a side's step from the work of another side's, whose exchange was hidden."""
    shape, _, way = name.partition(":")
    workers = int(shape.partition("x")[0])
    numbers: dict[str, Any] = dict(SIZES[options.model].config)
    model = load_task("mrpc").make_model(BertConfig(**numbers), LABELS)
    embeddings = sum(p.numel() for n, p in model.named_parameters() if ".embeddings." in n)
    work = Work(
        num_micro_batches=workers,
        micro_step_s=(base["data"] + base["forward"] + base["backward"]) / 1e3,
        backward_s=base["backward"] / 1e3,
        update_s=base["optimizer"] / 1e3,
    )
    found = forecast(
        sum(parameter.numel() for parameter in model.parameters()),
        work,
        num_workers=workers,
        link=Link(network.bytes_per_s, LATENCY_S),
        bytes_each=2 if way == "bf16" else 4,
        is_overlapped=way != "late",
        num_embeddings=embeddings,
    )
    return 1e3 * found.step_s


@dataclass
class _Network:
    """Where workers stand.

    Attributes:
        namespaces: By rank; none: all here.
        bytes_per_s: What leaves a worker; 0: not held.
    """

    namespaces: list[str]
    bytes_per_s: float = 0.0

    def sent_bytes(self) -> int:
        """What has left the first worker so far."""
        if not self.namespaces:
            return 0
        name = self.namespaces[0]
        links = json.loads(_ip("-n", name, "-s", "-j", "link", "show", "dev", "eth0"))
        return int(links[0]["stats64"]["tx"]["bytes"])


@contextmanager
def _network(rate: str | None) -> Iterator[_Network]:
    """Two namespaces with a link between them that is held to the rate; none without one."""
    if rate is None:
        yield _Network([])
        return
    names = [f"demo-bert-{os.getpid()}-{number}" for number in range(2)]
    units = {"kbit": 125.0, "mbit": 125e3, "gbit": 125e6}
    number, unit = float(rate[:-4]), units[rate[-4:]]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip(
            *("link", "add", "eth0", "netns", names[0], "type", "veth"),
            *("peer", "name", "eth0", "netns", names[1]),
        )
        for rank, name in enumerate(names):
            _ip("-n", name, "addr", "add", f"{NET}.{rank + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            subprocess.run(
                ["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "tbf"]
                + ["rate", rate, "burst", "256kb", "latency", "100ms"],
                check=True,
            )
        yield _Network(names, number * unit)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _started(name: str, options: argparse.Namespace, network: _Network) -> Side:
    shape, _, way = name.partition(":")
    workers, threads = map(int, shape.split("x"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {
        "MASTER_ADDR": f"{NET}.1" if network.namespaces else "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(workers),
        "OMP_NUM_THREADS": str(threads),
        **({"GLOO_SOCKET_IFNAME": "eth0"} if network.namespaces else {}),
    }
    argv = [sys.executable, *sys.argv, "--worker", way or "views"]
    return Side(
        name,
        [
            subprocess.Popen(
                [*(["ip", "netns", "exec", network.namespaces[rank]] if network.namespaces else [])]
                + argv,
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(workers)
        ],
    )


class _Events:
    """The fields of events."""

    def __init__(self) -> None:
        self.found: list[dict[str, object]] = []

    def add(self, event: str, **fields: object) -> None:
        """Keeps one."""
        del event
        self.found.append(fields)


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
    parser.add_argument("--rate", help="of the links: 1gbit, 100mbit")
    parser.add_argument("--pin", action="store_true", help="a core for each of several workers")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
