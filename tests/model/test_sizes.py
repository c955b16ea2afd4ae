import re
import subprocess
import sys
from pathlib import Path

import pytest

import demo_bert
from demo_bert.model.bert import BertConfig
from demo_bert.model.sizes import SIZES

EXPECTED = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "minilm": (6, 384, 12),
}


def test_the_sizes_are_the_published_ones() -> None:
    shapes = {
        name: (
            size.config["num_hidden_layers"],
            size.config["hidden_size"],
            size.config["num_attention_heads"],
        )
        for name, size in SIZES.items()
    }
    assert shapes == EXPECTED


@pytest.mark.parametrize("name", SIZES)
def test_each_size_is_a_model(name: str) -> None:
    config = BertConfig(**SIZES[name].config)
    assert config.intermediate_size == 4 * config.hidden_size
    assert config.to_dict().items() >= SIZES[name].config.items()


@pytest.mark.parametrize("name", SIZES)
def test_each_source_is_pinned_by_commit_and_names_what_a_model_needs(name: str) -> None:
    source = SIZES[name].source
    assert re.fullmatch(r"[0-9a-f]{40}", source.revision)
    assert source.repo_type == "model" and source.licence == "apache-2.0"
    paths = [file.path for file in source.files]
    assert {"config.json", "vocab.txt"} <= set(paths)
    assert len({"model.safetensors", "pytorch_model.bin"} & set(paths)) == 1


@pytest.mark.parametrize("name", SIZES)
def test_every_stated_hash_is_a_hash(name: str) -> None:
    for file in SIZES[name].source.files:
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)


def test_the_files_without_a_hash_are_these_and_no_others() -> None:
    unpinned = {
        name: sorted(file.path for file in size.source.files if file.sha256 is None)
        for name, size in SIZES.items()
        if any(file.sha256 is None for file in size.source.files)
    }
    assert unpinned == {
        "mini": ["config.json", "vocab.txt"],
        "small": ["config.json", "vocab.txt"],
        "medium": ["config.json", "pytorch_model.bin", "vocab.txt"],
        "large": ["config.json", "model.safetensors", "vocab.txt"],
    }


def test_the_wheel_of_minilm_holds_the_very_files_of_the_hub() -> None:
    minilm = SIZES["minilm"]
    assert minilm.wheel is not None
    assert [(m.name, m.sha256, m.size_bytes) for m in minilm.wheel.members] == [
        (f.path, f.sha256, f.size_bytes) for f in minilm.source.files
    ]


def test_the_table_of_sizes_needs_the_standard_library_alone() -> None:
    program = "import sys, demo_bert.model.sizes; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(demo_bert.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"torch", "numpy", "huggingface_hub", "httpx2", "httpx"} & set(modules)


def test_every_pin_is_in_the_document_with_its_source() -> None:
    document = Path(demo_bert.__file__).parents[2] / "docs" / "pins.md"
    if not document.is_file():
        pytest.skip("the documents are not beside the code here")
    text = document.read_text("utf-8")
    for size in SIZES.values():
        assert size.source.repo_id in text and size.source.revision in text
        for file in size.source.files:
            assert file.sha256 is None or file.sha256 in text
