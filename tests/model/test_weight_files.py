"""Files with weights: found by their names, and never trusted."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from demo_bert.errors import ModelError
from demo_bert.model.weight_files import read_raw_weights

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


class Evil:
    """What an attacker would put into a file: unpickling it would make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor] = TENSORS) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def assert_refused(path: Path, message: str = "") -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_raw_weights(path)
    assert "\n" not in str(caught.value)


def test_each_kind_of_file_is_found_and_the_usual_name_wins(tmp_path: Path) -> None:
    assert_refused(tmp_path, "no weights there; looked for model.safetensors")
    save_file(TENSORS, tmp_path / "model.fp16.safetensors")
    assert read_raw_weights(tmp_path).files == (tmp_path / "model.fp16.safetensors",)
    save_file(TENSORS, tmp_path / "other.safetensors")
    assert_refused(tmp_path, "which of model.fp16.safetensors, other.safetensors")
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    raw = read_raw_weights(tmp_path)
    assert raw.source_format == "pytorch"
    assert_same(raw.tensors)
    save_file(TENSORS, tmp_path / "model.safetensors")
    raw = read_raw_weights(tmp_path)
    assert (raw.source_format, raw.files) == ("safetensors", (tmp_path / "model.safetensors",))
    assert_same(raw.tensors)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_parts_are_put_together(tmp_path: Path, name: str) -> None:
    save = save_file if name.endswith("safetensors") else torch.save
    for part in TENSORS:
        save({part: TENSORS[part]}, tmp_path / f"part-{part}.bin")
    index = tmp_path / f"{name}.index.json"
    index.write_text(json.dumps({"weight_map": {part: f"part-{part}.bin" for part in TENSORS}}))
    raw = read_raw_weights(tmp_path)
    assert_same(raw.tensors)
    assert [file.name for file in raw.files] == ["part-a.bin", "part-b.bin"]
    save(TENSORS, tmp_path / "part-b.bin")
    assert_refused(tmp_path, "part-b.bin: has a once more")
    (tmp_path / "part-b.bin").unlink()
    assert_refused(tmp_path, "names part-b.bin, which is not in")


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../secret"}}', "x"]
)
def test_a_faulty_index_of_parts_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").touch()
    (tmp_path / "model" / "model.safetensors.index.json").write_text(content)
    assert_refused(tmp_path / "model", r"index\.json")


def test_other_paths_are_refused(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert_refused(tmp_path / "model.safetensors", "name the directory")
    assert_refused(tmp_path / "nothing", "nothing")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    assert_refused(tmp_path, "is not a file")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(
    tmp_path: Path, is_zip: bool
) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "pytorch_model.bin"
    if is_zip:
        torch.save({"a": TENSORS["a"], "b": Evil(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Evil(marker)}))
    assert_refused(tmp_path, "holds code or objects")
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: TENSORS["a"]}, TENSORS["a"]])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert_refused(tmp_path, "not a table of tensors")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(TENSORS, path)
    data = path.read_bytes()
    for size in range(0, len(data), 1 if len(data) < 300 else 7):
        path.write_bytes(data[:size])
        assert_refused(tmp_path, "copy or download it again|holds code")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_pickle_is_refused_or_read_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """PyTorch's format has no checksum of its own: that a flip is seen is not promised."""
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "pytorch_model.bin"
    is_old = data.draw(st.booleans())
    torch.save(TENSORS, path, _use_new_zipfile_serialization=not is_old)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read_raw_weights(folder)
    except ModelError as error:
        assert "\n" not in str(error)


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**GOOD, "shape": [3]}},
        {"a": {**GOOD, "shape": [-2]}},
        {"a": {**GOOD, "shape": [1 << 62, 4]}},
        {"a": {**GOOD, "dtype": "F99"}},
        {"a": {**GOOD, "data_offsets": [0, 800]}},
        {"a": {**GOOD, "data_offsets": [8, 0]}},
        {"a": {**GOOD, "data_offsets": [4, 12]}},
        {"a": GOOD, "b": GOOD},
        {"a": 5},
        {"a": {}},
        [1],
        "text",
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    assert_refused(tmp_path, "not a safetensors file")


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_a_safetensors_length_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    text = json.dumps({"a": GOOD}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + text + bytes(8))
    assert_refused(tmp_path, "not a safetensors file")
