"""One update of pre-training from the same 64 examples, however they are dealt."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corpus.stores import make_store
from small_run import VOCABULARY, Program, read_json, start

DEALT = {
    "at once": ("-b", "64"),
    "8 micro-batches of 8": ("-b", "8"),
    "2 workers with 4 of 8 each": ("-b", "8", "-v", "2"),
}
TOLERANCE = 2e-5
"""Of the update's norm: float32 sums in another order, through LAMB's square roots."""


def updated(
    program: Program, directory: Path, *options: str
) -> tuple[dict[str, torch.Tensor], float]:
    """The model after one step without dropout, and the step's loss."""
    root = directory.parent
    if not (root / "store").exists():
        drawn = random.Random(3)
        documents = [
            [[drawn.randrange(5, 60) for _ in range(drawn.randint(3, 9))] for _ in range(12)]
            for _ in range(33)
        ]
        held_out = [number % 5 == 4 for number in range(33)]
        make_store(root / "store", [documents], held_out=[held_out], vocabulary=VOCABULARY)
    argv = [
        *("pretraining", "-d", "fp32", "-m", str(program.model), "--device", "cpu", "-t", "text"),
        *("--dataset-path", str(root / "store"), "--phases", "1", "-i", "1", "-s", "24"),
        *("--global-batch-size", "64", "--dropout", "0", "--attention-dropout", "0"),
        *("--learning-rate", "1e-2", "-o", str(directory), *options),
    ]
    if "-v" in options:  # workers are started by a process of its own
        with start(argv, root) as process:
            _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    else:
        outcome = program.call(*argv)
        assert outcome.code == 0, outcome.err
    metrics = read_json(directory / "results.json")["metrics"]
    return load_file(directory / "model" / "model.safetensors"), metrics["mlm_loss"]


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].flatten().double() for name in sorted(tensors)])


@pytest.fixture
def whole(program: Program, tmp_path: Path) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The weights before, and after an update by all examples at once; its held-out loss."""
    tensors, loss = updated(program, tmp_path / "whole", *DEALT["at once"])
    rate_zero = ("-b", "64", "--learning-rate", "1e-30")
    before, _ = updated(program, tmp_path / "before", *rate_zero)
    return flat(before), flat(tensors), loss


@pytest.mark.parametrize("how", list(DEALT)[1:])
def test_the_update_is_that_of_the_whole_batch(
    program: Program, tmp_path: Path, whole: tuple[torch.Tensor, torch.Tensor, float], how: str
) -> None:
    before, wanted, loss = whole
    tensors, own_loss = updated(program, tmp_path / "dealt", *DEALT[how])
    update = wanted - before
    assert update.norm() > 1e-2
    assert (flat(tensors) - wanted).norm() < TOLERANCE * update.norm()
    assert own_loss == pytest.approx(loss, rel=1e-5)
    micro = read_json(tmp_path / "dealt" / "checkpoints" / "step-1" / "manifest.json")
    assert micro["state"]["phases"][0]["micro_batch_size"] == 8
