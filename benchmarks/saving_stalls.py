"""How long saving holds up training: step times of `base` with and without a save under way.

    python benchmarks/saving_stalls.py --steps 100 --save-every 30

Trains `base` from random weights on the embedded stand-in (`-b 32 -s 32`, so that all steps have
nearly as many tokens) and reads the run's own events. What a save costs has two parts: training
waits while the state is copied, and the steps go slower while the copy is written. The first is
held against a plain copy of as many bytes, the second against the steps without a save. The last
save, at the run's end, is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

COPIES = 5


def main() -> None:
    """Runs, and prints one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=30)
    parser.add_argument("--size", default="base")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saving-stalls-") as place:
        directory = Path(place) / "run"
        train(directory, given)
        newest = directory / "checkpoints" / f"step-{given.steps}"
        state_bytes = sum(file.stat().st_size for file in newest.glob("*.safetensors"))
        lines = (directory / "events.jsonl").read_text("utf-8").splitlines()
    rate = copy_rate(state_bytes)
    print(json.dumps(figures([json.loads(line) for line in lines], state_bytes, rate), indent=2))


def train(directory: Path, given: argparse.Namespace) -> None:
    """The run."""
    options = [
        *("finetuning", "-d", "bf16", "-m", given.size, "--init-checkpoint", "random"),
        *("--device", "cpu", "-t", "mrpc", "--sample", "-b", "32", "-s", "32"),
        *("-i", str(given.steps), "--save-every", str(given.save_every), "--keep", "1"),
        *("--eval-every", "1000000", "--log-every", "1000", "-o", str(directory)),
    ]
    subprocess.run([sys.executable, "-m", "demo_bert", *options], check=True, capture_output=True)


def copy_rate(size_bytes: int) -> float:
    """Bytes per second of a plain copy into fresh memory, in pieces as a model has them."""
    pieces = [torch.ones(768, 3072) for _ in range(max(1, size_bytes // (4 * 768 * 3072)))]
    seconds: list[float] = []
    for _ in range(COPIES):
        began = time.perf_counter()
        copies = [piece.detach().to("cpu", copy=True) for piece in pieces]
        seconds.append(time.perf_counter() - began)
        del copies
    return sum(4 * piece.numel() for piece in pieces) / statistics.median(seconds)


def figures(events: list[dict[str, Any]], state_bytes: int, rate: float) -> dict[str, Any]:
    """What the events of a run say."""
    steps = {e["step"]: e for e in events if e["event"] == "step"}
    last = max(steps)
    saves = [e for e in events if e["event"] == "checkpoint" and e["step"] < last]
    per_token = {
        n: (steps[n]["time"] - steps[n - 1]["time"]) / steps[n]["tokens"]
        for n in steps
        if n > 5  # the first ones warm up
    }
    busy: set[int] = set()
    for save in saves:
        begin = steps[save["step"]]["time"]
        busy |= {n for n in per_token if begin < steps[n]["time"] <= begin + save["seconds"] + 3}
    quiet = statistics.median(seconds for n, seconds in per_token.items() if n not in busy)
    extra_s = sum((per_token[n] - quiet) * steps[n]["tokens"] for n in sorted(busy))
    stalled_s = sum(save["stalled_s"] for save in saves)
    beyond_s = (extra_s - stalled_s) / len(saves)
    median_s = quiet * statistics.median(e["tokens"] for e in steps.values())
    whole_s = sum(quiet * steps[n]["tokens"] for n in per_token)
    return {
        "steps": last,
        "saves": len(saves),
        "state_bytes": state_bytes,
        "copy_bytes_per_s": round(rate),
        "plain_copy_s": round(state_bytes / rate, 3),
        "stalled_s": [round(save["stalled_s"], 3) for save in saves],
        "stall_over_plain_copy": round(stalled_s / len(saves) / (state_bytes / rate), 3),
        "written_s": [round(save["seconds"], 2) for save in saves],
        "median_step_s": round(median_s, 3),
        "steps_without_saves_s": round(whole_s, 2),
        "extra_s": round(extra_s, 2),
        "stall_fraction": round(stalled_s / whole_s, 4),
        "beyond_the_stalls_s_a_save": round(beyond_s, 3),
        "longer_of_100_steps_with_3_saves_fraction": round(3 * beyond_s / (100 * median_s), 4),
    }


if __name__ == "__main__":
    main()
