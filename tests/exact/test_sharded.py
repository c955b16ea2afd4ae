"""`--shard-optimizer`: checkpoints that any number of workers takes up."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from small_run import Program, events, losses, start

OPTIONS = ("-i", "6", "--global-batch-size", "10", "--eval-every", "3")


def moments(directory: Path) -> dict[str, torch.Tensor]:
    newest = (directory / "checkpoints" / "newest").read_text().strip()
    return load_file(directory / "checkpoints" / newest / "optimizer.safetensors")


def test_two_workers_go_on_where_one_stopped_and_save_what_one_can_take_up(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    assert program.run(tmp_path / "one", *OPTIONS).code == 0
    stop_at.append(2)
    assert program.run(tmp_path / "run", *OPTIONS).code == 75
    stop_at.clear()
    argv = program.argv(tmp_path / "run", *OPTIONS, "-v", "2", "--shard-optimizer")
    process = start(argv, tmp_path)
    _, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    one, two = losses(tmp_path / "one"), losses(tmp_path / "run")
    assert [*one] == [*two] == [1, 2, 3, 4, 5, 6]
    for step in one:
        assert two[step] == pytest.approx(one[step], rel=1e-5)
    found, expected = moments(tmp_path / "run"), moments(tmp_path / "one")
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-6)
    assert events(tmp_path / "run", "step")[-1]["sent_bytes"] > 0
    # It is the last step's: one worker takes the run up there, and has nothing left to do.
    again = program.run(tmp_path / "run", *OPTIONS, "--resume", "6")
    assert again.code == 0


def test_with_one_worker_it_has_no_effect_and_says_so(program: Program, tmp_path: Path) -> None:
    outcome = program.run(tmp_path / "run", *OPTIONS, "--shard-optimizer", "--grad-dtype", "bf16")
    assert outcome.code == 0
    assert "warning: --shard-optimizer has no effect with one worker" in outcome.err
    assert "warning: --grad-dtype bf16 has no effect with one worker" in outcome.err
