"""What a command fetches, by its settings."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from demo_bert.commands.host_inputs import fetched_inputs
from demo_bert.hub import HubFile, HubSource
from demo_bert.model.sizes import SIZES

DATA = {"task": "mrpc", "dataset_path": None, "sample": None}
NONE = {"task": "mrpc", "dataset_path": None, "sample": True}


def names(**settings: Any) -> list[str]:
    """What is fetched, in words."""
    return [each.what for each in fetched_inputs(cast(Any, SimpleNamespace(**settings)))]


@pytest.mark.parametrize(
    ("model", "init", "data", "wanted"),
    [
        ("minilm", "published", DATA, ["weights of minilm", "data of mrpc"]),
        ("base", "random", NONE, []),
        ("base", "published", NONE, ["weights of base"]),
        ("base", "/some/directory", NONE, []),
        ("./runs/mine", "published", NONE, []),
        ("base", "random", {**DATA, "dataset_path": ("mine.tsv",)}, []),
        ("base", "random", {**DATA, "task": "squad"}, ["data of squad"]),
        ("base", "random", {**DATA, "task": "classification"}, []),
        ("base", "random", {**DATA, "task": "bookswiki"}, []),
    ],
)
def test_what_has_no_path_is_fetched(
    model: str, init: str, data: dict[str, Any], wanted: list[str]
) -> None:
    assert names(model=model, init_checkpoint=init, **data) == wanted


def test_a_name_on_the_hub_stands_for_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HubSource("a/b", "model", "c" * 40, "", (HubFile("config.json"),))
    monkeypatch.setattr("demo_bert.hub.resolve_named", lambda name, announce: source)
    assert names(model="a/b", init_checkpoint="published", **NONE) == ["model a/b"]
    assert names(model="a/b", init_checkpoint="random", **NONE) == ["model a/b"]
    assert names(model="base", init_checkpoint="a/b", **NONE) == ["model a/b"]


def test_weights_may_lie_in_the_hubs_cache_or_in_ours() -> None:
    settings = SimpleNamespace(model="minilm", init_checkpoint="published", **NONE)
    (found,) = fetched_inputs(cast(Any, settings))
    source = SIZES["minilm"].source
    assert [place.root for place in found.places] == ["hub", "own"]
    assert found.places[0].directory.endswith(f"snapshots/{source.revision}")
    assert found.places[1].directory.startswith("published/minilm-")
    assert {file.path for file in found.places[0].files} == {file.path for file in source.files}
