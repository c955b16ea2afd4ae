"""200 checkpoints damaged at random: the one before is used, none is read in silence."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from demo_bert import checkpoint
from small_run import save_checkpoint

DAMAGES = 200


def save_two(directory: Path, seed: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for step in (5, 10):
        weights = {"w": torch.randn(30, 7, generator=generator)}
        moments = {"w": torch.randn(30, 7, generator=generator)}
        state = {"examples_consumed": 32 * step, "micro_batch_size": 8}
        save_checkpoint(directory, step=step, state=state, model=weights, optimizer=moments, keep=2)


def flip(files: list[Path], drawn: random.Random) -> None:
    path = drawn.choice(files)
    data = bytearray(path.read_bytes())
    data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
    path.write_bytes(data)


def cut(files: list[Path], drawn: random.Random) -> None:
    path = drawn.choice(files)
    os.truncate(path, drawn.randrange(path.stat().st_size))


def lengthen(files: list[Path], drawn: random.Random) -> None:
    with drawn.choice(files).open("ab") as file:
        file.write(drawn.randbytes(drawn.randint(1, 64)))


def remove(files: list[Path], drawn: random.Random) -> None:
    drawn.choice(files).unlink()


def swap(files: list[Path], drawn: random.Random) -> None:
    first, second = drawn.sample(files, 2)
    first.rename(first.with_suffix(".away"))
    second.rename(first)
    first.with_suffix(".away").rename(second)


def take_from_another_run(files: list[Path], drawn: random.Random) -> None:
    path = drawn.choice(files)
    other = path.parents[2] / "other"
    if not other.exists():
        save_two(other, seed=-1)
    shutil.copyfile(other / path.parent.name / path.name, path)


def take_from_the_one_before(files: list[Path], drawn: random.Random) -> None:
    path = drawn.choice(files)
    shutil.copyfile(path.parent.with_name("step-5") / path.name, path)


KINDS: tuple[Callable[[list[Path], random.Random], None], ...] = (
    flip,
    cut,
    lengthen,
    remove,
    swap,
    take_from_another_run,
    take_from_the_one_before,
)


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_damaged_checkpoint_is_read_in_silence(
    tmp_path: Path, kind: Callable[[list[Path], random.Random], None]
) -> None:
    drawn = random.Random(kind.__name__)
    for number in range(-(-DAMAGES // len(KINDS))):
        directory = tmp_path / f"{number}" / "checkpoints"
        save_two(directory, seed=number)
        newest = directory / "step-10"
        before = content(newest)
        kind(sorted(newest.iterdir()), drawn)
        assert content(newest) != before
        found, complaints = checkpoint.newest(directory)
        assert found is not None and found.step == 5
        assert len(complaints) == 1 and str(newest) in complaints[0]
