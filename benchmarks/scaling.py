"""Computes docs/scaling.md's table and plot: pre-training `base` with 1 to 1024 workers.

    python benchmarks/scaling.py > docs/scaling-table.md    (and writes docs/scaling.svg)

Nothing is measured here: the model is `demo_bert.exchange.forecast`, the work of a step is counted
by `demo_bert.model.flops`, and what a worker and a link do in a second is assumed.
"""

import re
from pathlib import Path
from typing import Any

import torch

from demo_bert.exchange.forecast import Link, StepForecast, Work, forecast
from demo_bert.model.bert import BertConfig
from demo_bert.model.flops import TRAINING_FACTOR, pretraining_flops
from demo_bert.model.heads import PreTrainer
from demo_bert.model.sizes import SIZES
from demo_bert.report.svg import Chart, Series, figure

GLOBAL_BATCH, MICRO_BATCH, LENGTH, MASKED = 65536, 64, 128, 20
LATENCY_S = 5e-5
UPDATE_BYTES = 28
"""Read and written by LAMB for each number: gradient, weight, both moments."""

WORKERS = {"0.3 TFLOP/s": (0.3e12, 10e9), "100 TFLOP/s": (100e12, 1e12)}
"""A worker's products and memory in a second: a core or two of a CPU, an accelerator."""

GIGABITS = (1, 10, 100)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STYLE = """
text { fill: #555; font: 12.5px sans-serif } path { fill: none } .grid { stroke: #ddd }
.axis { stroke: #888 } .line { stroke-width: 2 } .on { fill: #222 }
path.c0 { stroke: #2353c9 } path.c1 { stroke: #c2410c } path.c2 { stroke: #0f7a5a }
circle.c0 { fill: #2353c9 } circle.c1 { fill: #c2410c } circle.c2 { fill: #0f7a5a }
"""


def main() -> None:
    """Prints the table, writes the plot."""
    print(
        "| a worker | link, Gbit/s | gradients | workers | step, s | of it waiting, s |"
        " sent by each, MB | efficiency |\n|---|---|---|---|---|---|---|---|"
    )
    for worker in WORKERS:
        for gigabits in GIGABITS:
            for bytes_each in (4, 2):
                for count in (8, 64, 1024):
                    _print_row(worker, gigabits, bytes_each, count)
    _write_plot(Path(__file__).parents[1] / "docs" / "scaling.svg")


def _print_row(worker: str, gigabits: int, bytes_each: int, count: int) -> None:
    found = _step(worker, gigabits, bytes_each, count)
    dtype = {4: "fp32", 2: "bf16"}[bytes_each]
    print(
        f"| {worker} | {gigabits} | {dtype} | {count} | {found.step_s:.3g} | {found.waited_s:.3g}"
        f" | {found.sent_bytes / 1e6:.0f} | {_efficiency(worker, gigabits, bytes_each, count):.2f}"
        " |"
    )


def _efficiency(worker: str, gigabits: int, bytes_each: int, count: int) -> float:
    one = _step(worker, gigabits, bytes_each, 1).step_s
    return one / count / _step(worker, gigabits, bytes_each, count).step_s


def _step(worker: str, gigabits: int, bytes_each: int, count: int) -> StepForecast:
    numbers: dict[str, Any] = dict(SIZES["base"].config)
    config = BertConfig(**numbers)
    with torch.device("meta"):
        model = PreTrainer(config)
    flops_per_s, bytes_per_s = WORKERS[worker]
    forward = pretraining_flops(config, [LENGTH] * MICRO_BATCH, MASKED * MICRO_BATCH) / flops_per_s
    total = sum(parameter.numel() for parameter in model.parameters())
    work = Work(
        num_micro_batches=-(-GLOBAL_BATCH // MICRO_BATCH),
        micro_step_s=TRAINING_FACTOR * forward,
        backward_s=(TRAINING_FACTOR - 1) * forward,
        update_s=UPDATE_BYTES * total / bytes_per_s,
    )
    return forecast(
        total,
        work,
        num_workers=count,
        link=Link(gigabits * 125e6, LATENCY_S),
        bytes_each=bytes_each,
        num_embeddings=sum(p.numel() for n, p in model.named_parameters() if ".embeddings." in n),
    )


def _write_plot(path: Path) -> None:
    worker = "100 TFLOP/s"
    series = [
        Series(
            f"{gigabits} Gbit/s",
            [(float(p), _efficiency(worker, gigabits, 4, c)) for p, c in enumerate(COUNTS)],
            style="dots",
            colour=colour,
        )
        for colour, gigabits in enumerate(GIGABITS)
    ]
    chart = Chart(
        f"Computed: efficiency with workers of {worker}",
        series,
        from_zero=True,
        x_name="workers, as a power of 2",
    )
    drawn = re.findall(r'<svg viewBox="0 0 [34].*?</svg>', figure(chart))[-1]
    legend = "".join(
        f'<circle class="c{s.colour}" cx="70" cy="{160 + 18 * s.colour}" r="3.5"/>'
        f'<text x="80" y="{164 + 18 * s.colour}">{s.name}</text>'
        for s in series
    )
    whole = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    opening, rest = whole.split(">", 1)
    inside = rest.removesuffix("</svg>")
    path.write_text(f"{opening}><style>{STYLE}</style>{inside}{legend}</svg>\n", encoding="ascii")


if __name__ == "__main__":
    main()
