"""A user's own names, against a hub on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo_bert.errors import ModelError
from demo_bert.hub.naming import is_hub_name, resolve_named
from hub_process import ask
from hub_server import HubServer, Repository, hub_server

LARGE = bytes(range(256)) * 8
MODEL = {"config.json": b"{}", "vocab.txt": b"[PAD]\n", "README.md": b"hello"}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        server.repositories |= {
            "me/model": Repository(
                {**MODEL, "model.safetensors": LARGE, "pytorch_model.bin": LARGE}
            ),
            "me/sharded": Repository(
                {
                    **MODEL,
                    "pytorch_model.bin.index.json": b"{}",
                    "pytorch_model-00001-of-00002.bin": LARGE,
                    "pytorch_model-00002-of-00002.bin": LARGE,
                    "tokenizer_config.json": b"{}",
                }
            ),
            "me/no-weights": Repository(MODEL),
            "me/private": Repository(MODEL, status=401),
            "me/gated": Repository(MODEL, status=403),
            "me/down": Repository(MODEL, status=500),
            "me/page": Repository(MODEL, behaviour="page"),
        }
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def outcomes(hub: HubServer, home: Path) -> dict[str, dict[str, Any]]:
    names = ["me/model", "me/model@main", "me/model@v9", f"me/model@{'c' * 40}", "me/nothing"]
    names += sorted(set(hub.repositories) - {"me/model"})
    answers = ask([{"name": name} for name in names], hub.address, home)
    return dict(zip(names, answers, strict=True))


def test_a_name_is_resolved_to_a_commit_and_the_files_that_make_a_model(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    outcome = outcomes["me/model"]
    assert outcome["commit"] == "c" * 40
    assert outcome["licence"] == "apache-2.0"
    assert outcome["files"] == ["config.json", "model.safetensors", "vocab.txt"]
    assert Path(outcome["path"], "model.safetensors").read_bytes() == LARGE


def test_the_hashes_of_a_users_model_are_recorded(
    outcomes: dict[str, dict[str, Any]], home: Path
) -> None:
    assert "config.json, vocab.txt" in outcomes["me/model"]["lines"][-1]
    (record,) = home.glob("own/hub/sha256/*me--model*.json")
    assert record.read_text().count('": "') == 3


def test_a_revision_may_be_named(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["me/model@main"]["commit"] == "c" * 40
    assert outcomes["me/model@v9"]["error"] == "ModelError"


def test_a_commit_that_is_cached_is_not_asked_for(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    assert outcomes[f"me/model@{'c' * 40}"]["path"] == outcomes["me/model"]["path"]
    assert not hub.requests_for("/api/models/me/model/revision/" + "c" * 40)


def test_weights_may_come_in_pieces(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["me/sharded"]["files"] == [
        "config.json",
        "pytorch_model.bin.index.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "vocab.txt",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("name", "status"), [("me/nothing", 404), ("me/private", 401), ("me/gated", 403)]
)
def test_a_name_that_the_hub_does_not_open_is_the_users_mistake(
    outcomes: dict[str, dict[str, Any]], name: str, status: int
) -> None:
    assert outcomes[name]["error"] == "ModelError"
    assert outcomes[name]["exit_code"] == 2
    assert f"answers {status} (" in outcomes[name]["message"]


@pytest.mark.parametrize("name", ["me/down", "me/page"])
def test_a_fault_of_the_hub_is_not_the_users_mistake(
    outcomes: dict[str, dict[str, Any]], name: str
) -> None:
    assert outcomes[name]["error"] == "NetworkError"


def test_a_repository_without_weights_says_what_it_lacks(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    assert outcomes["me/no-weights"]["error"] == "ModelError"
    assert "it lacks model.safetensors or pytorch_model.bin" in outcomes["me/no-weights"]["message"]


def test_out_of_reach_the_last_copy_stands_in_and_says_so(
    outcomes: dict[str, dict[str, Any]], home: Path
) -> None:
    names = ["me/model", "me/never"]
    model, never = ask([{"name": name} for name in names], "http://127.0.0.1:1", home)
    assert model["path"] == outcomes["me/model"]["path"]
    assert f"the copy of commit {'c' * 12} in the cache is used" in model["lines"][0]
    assert never["error"] == "UnreachableError"


@pytest.mark.parametrize("name", ["base", "a/b/c", "a/b@", "../x", "a b/c", "/a/b", ""])
def test_what_cannot_be_a_name_is_refused_before_anybody_is_asked(name: str) -> None:
    assert not is_hub_name(name)
    with pytest.raises(ModelError, match="owner/model"):
        resolve_named(name, announce=print)
