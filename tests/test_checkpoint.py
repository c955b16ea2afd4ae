"""Checkpoints: complete or absent, checked, the newest undamaged one found."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from demo_bert import checkpoint
from demo_bert.choices import Duration
from demo_bert.errors import DiskError, RunDirectoryError
from small_run import save_checkpoint, tree

FILES = {"manifest.json", "model.safetensors", "optimizer.safetensors"}


def tensors(step: int) -> dict[str, Tensor]:
    return {"a": torch.full((3, 2), float(step)), "b": torch.arange(4)}


def save(directory: Path, step: int, *, keep: int = 10, keep_every: Duration | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    return save_checkpoint(
        directory,
        step=step,
        state={"examples_consumed": 8 * step},
        model=tensors(step),
        optimizer=tensors(-step),
        keep=keep,
        keep_every=keep_every,
    )


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def steps(directory: Path) -> list[int]:
    found = [name for name in names(directory) if name.startswith("step-")]
    return sorted(int(name.removeprefix("step-")) for name in found)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 7)
    found, complaints = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert complaints == []
    assert (found.path, found.step, found.state) == (path, 7, {"examples_consumed": 56})
    for part, step in (("model", 7), ("optimizer", -7)):
        for name, tensor in tensors(step).items():
            assert torch.equal(found.tensors(part)[name], tensor)
    assert names(path) == FILES
    assert (tmp_path / "checkpoints" / "newest").read_text() == "step-7\n"


def test_tensors_of_odd_layout_are_saved_as_they_read(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3).t()
    parameter = torch.nn.Parameter(weight)
    save_checkpoint(tmp_path, step=1, state={}, model={"w": parameter}, optimizer={}, keep=1)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert torch.equal(found.tensors("model")["w"], weight)


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nothing") == (None, [])
    assert checkpoint.newest(tmp_path) == (None, [])


def test_the_newest_is_the_one_of_the_latest_step(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        save(tmp_path, step)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 10


def test_the_oldest_are_removed(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10, 11):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == [10, 11]
    assert names(tmp_path) == {"step-10", "step-11", "newest"}


def test_every_so_many_steps_one_stays_for_good(tmp_path: Path) -> None:
    for step in range(1, 12):
        save(tmp_path, step, keep=2, keep_every=Duration(steps=4))
    assert steps(tmp_path) == [4, 8, 10, 11]


def test_one_in_so_much_time_stays_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 12):
        monkeypatch.setattr(time, "time", lambda step=step: 1e9 + 60.0 * step)
        save(tmp_path, step, keep=1, keep_every=Duration(seconds=240.0))
    assert steps(tmp_path) == [1, 5, 9, 11]


def test_the_one_that_was_just_saved_stays_also_beside_later_ones(tmp_path: Path) -> None:
    for step in (1, 2, 9):
        save(tmp_path, step)
    (tmp_path / "step-9" / "model.safetensors").write_bytes(b"damaged")
    save(tmp_path, 3, keep=1)
    assert steps(tmp_path) == [3, 9]
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 3


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    path = save(tmp_path, 4)
    (path / "manifest.json").unlink()
    save(tmp_path, 4)
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert complaints == []


def damage_flip(path: Path) -> None:
    data = bytearray((path / "optimizer.safetensors").read_bytes())
    data[-3] ^= 1
    (path / "optimizer.safetensors").write_bytes(data)


def damage_cut(path: Path) -> None:
    os.truncate(path / "model.safetensors", 40)


def damage_missing(path: Path) -> None:
    (path / "model.safetensors").unlink()


def damage_no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def damage_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("[]")


def damage_half_a_manifest(path: Path) -> None:
    os.truncate(path / "manifest.json", 60)


def damage_other_manifest(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"step": 1}))


def damage_fewer_files(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["optimizer.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))


def damage_empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def damage_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


DAMAGES = [function for name, function in globals().items() if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path: Path, damage: Any) -> None:
    save(tmp_path, 3)
    damage(save(tmp_path, 5))
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 3
    (complaint,) = complaints
    assert "step-5: damaged" in complaint
    assert "\n" not in complaint
    with pytest.raises(RunDirectoryError, match="step-5: damaged"):
        checkpoint.of_step(tmp_path, 5)


def test_all_damaged_is_none_with_a_line_for_each(tmp_path: Path) -> None:
    for step in (1, 2):
        damage_cut(save(tmp_path, step))
    found, complaints = checkpoint.newest(tmp_path)
    assert found is None
    assert ["step-2" in complaints[0], "step-1" in complaints[1]] == [True, True]


def test_a_step_is_found_or_those_that_there_are_are_named(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        save(tmp_path, step)
    assert checkpoint.of_step(tmp_path, 4).step == 4
    with pytest.raises(RunDirectoryError, match="--resume 3: .*there are 2, 4, 10"):
        checkpoint.of_step(tmp_path, 3)
    with pytest.raises(RunDirectoryError, match="there are none"):
        checkpoint.of_step(tmp_path / "nothing", 3)


def test_later_ones_are_set_aside_and_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        save(tmp_path, step)
    before = {path.read_bytes() for path in (tmp_path / "step-6").iterdir()}
    checkpoint.set_aside_after(tmp_path, 4)
    assert steps(tmp_path) == [2, 4]
    (aside,) = [path for path in tmp_path.iterdir() if path.name.startswith("superseded-step-6-")]
    assert {path.read_bytes() for path in aside.iterdir()} == before
    save(tmp_path, 6)
    checkpoint.set_aside_after(tmp_path, 4)
    assert len([name for name in names(tmp_path) if name.startswith("superseded-")]) == 2


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_leaves_those_before_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    save(tmp_path, 1)
    before = tree(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, full)
        with pytest.raises(DiskError, match=r"step-2: checkpoint not written \(No space left"):
            save(tmp_path, 2, keep=1)
    assert tree(tmp_path) == before
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_a_kill_at_any_call_leaves_a_checkpoint_and_the_next_save_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing may catch it and tidy up."""

    calls = [0]

    def until(limit: int, call: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] > limit:
                raise Killed
            return call(*arguments, **options)

        return counted

    save(tmp_path, 1)
    for limit in range(30):
        with monkeypatch.context() as patched:
            calls[0] = 0
            for name in ("fsync", "rename", "replace", "open", "mkdir"):
                patched.setattr(os, name, until(limit, getattr(os, name)))
            try:
                save(tmp_path, limit + 2, keep=1)
                break
            except Killed:
                pass
        found, complaints = checkpoint.newest(tmp_path)
        assert found is not None, limit
        assert complaints == []
        assert torch.equal(found.tensors("model")["a"], tensors(found.step)["a"])
    else:
        pytest.fail("never saved")
    assert limit > 4, "nothing was interrupted"
    assert names(tmp_path) == {f"step-{limit + 2}", "newest"}


def test_content_and_names_are_on_disk_before_the_checkpoint_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(handle: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def noted_rename(source: Path, target: Path) -> None:
        order.append(f"rename to {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    directory = tmp_path / "checkpoints"
    save(directory, 1)
    at = order.index("rename to step-1")
    assert set(order[:at]) == FILES | {".step-1.partial"}
    assert order[at + 1] == "checkpoints"
