"""Fetching against a hub on loopback; what runs in a process of its own is in ask.py."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_process import ask, start
from hub_server import HubServer, Repository, hub_server, sha256

SMALL = b'{"hidden_size": 8}'
LARGE = bytes(range(256)) * 40
VERY_LARGE = bytes(22 << 20)
PIECE = 10 << 20
"""The library writes in pieces of 10 MiB."""
FIRST_USE = Path("hf/hub/models--some--first-use/snapshots", "c" * 40)
TOKEN = "hf_thisIsTheSecret"


def source(
    repo_id: str, *, hashes: bool = True, weights: bytes = LARGE, **changes: Any
) -> dict[str, Any]:
    files = [
        {"path": path, "sha256": sha256(data) if hashes else None, "size_bytes": len(data)}
        for path, data in (("config.json", SMALL), ("deep/weights.bin", weights))
    ]
    plain = {
        "repo_id": repo_id,
        "repo_type": "model",
        "revision": "c" * 40,
        "licence": "apache-2.0",
        "files": files,
    }
    return {"source": {**plain, **changes}}


def served(*, weights: bytes = LARGE, **how: Any) -> Repository:
    return Repository({"config.json": SMALL, "deep/weights.bin": weights}, **how)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        for name, how in {
            "fine": {},
            "data": {},
            "elsewhere": {"behaviour": "elsewhere"},
            "cut": {"behaviour": "cut", "weights": VERY_LARGE},
            "broken": {"behaviour": "broken"},
            "wrong": {"behaviour": "wrong"},
            "page": {"behaviour": "page"},
            "moved": {"commit": "d" * 40, "branch": "c" * 40},
            "first-use": {},
            **{f"status-{status}": {"status": status} for status in (401, 403, 404, 429, 503)},
        }.items():
            server.repositories[f"some/{name}"] = served(**how)
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def outcomes(hub: HubServer, home: Path) -> dict[str, dict[str, Any]]:
    """One process that asks for everything, as starting one takes a second."""
    actions = {
        "fine": source("some/fine"),
        "again": source("some/fine"),
        "data": source("some/data", repo_type="dataset"),
        "elsewhere": source("some/elsewhere"),
        "cut": source("some/cut", weights=VERY_LARGE),
        "broken": source("some/broken"),
        "wrong": source("some/wrong"),
        "page": source("some/page"),
        "moved": source("some/moved"),
        "unknown": source("some/unknown"),
        "no such commit": source("some/fine", revision="e" * 40),
        "first use": source("some/first-use", hashes=False),
        "second use": source("some/first-use", hashes=False),
        "spoilt": {
            **source("some/first-use", hashes=False),
            "spoil": str(home / FIRST_USE / "config.json"),
        },
        "no room": {**source("some/room"), "free_bytes": 5000},
        **{str(status): source(f"some/status-{status}") for status in (401, 403, 404, 429, 503)},
    }
    hub.repositories["some/room"] = served()
    answers = ask(list(actions.values()), hub.address, home, HF_TOKEN=TOKEN)
    return dict(zip(actions, answers, strict=True))


def test_files_are_fetched_and_checked(outcomes: dict[str, dict[str, Any]]) -> None:
    directory = Path(outcomes["fine"]["path"])
    assert (directory / "config.json").read_bytes() == SMALL
    assert (directory / "deep" / "weights.bin").read_bytes() == LARGE
    assert directory.name == "c" * 40


def test_a_download_is_announced_with_its_size_and_server(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    assert outcomes["fine"]["lines"] == [
        f"fetching some/fine at {'c' * 12} (10 kB) from {hub.address}"
    ]


def test_what_is_cached_is_not_asked_for(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    assert outcomes["again"]["path"] == outcomes["fine"]["path"]
    assert outcomes["again"]["lines"] == []
    assert len(hub.requests_for("some/fine/resolve/" + "c" * 40 + "/config.json")) == 1


def test_a_data_set_lies_under_its_own_address(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    assert Path(outcomes["data"]["path"], "deep/weights.bin").read_bytes() == LARGE
    assert hub.requests_for("/datasets/some/data/resolve/")


def test_a_cut_connection_goes_on_where_it_broke(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    assert outcomes["cut"]["error"] is None
    ranges = [r.headers.get("Range") for r in hub.requests_for("some/cut/resolve")]
    assert ranges[-2:] == [None, f"bytes={10 << 20}-"]


def test_a_large_download_tells_how_far_it_is_where_there_is_no_terminal(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    assert outcomes["cut"]["lines"][1:] == [
        "deep/weights.bin: 10 MB of 23 MB",
        "deep/weights.bin: 21 MB of 23 MB",
        "deep/weights.bin: 23 MB of 23 MB",
    ]


def test_a_download_that_does_not_get_through_leaves_no_file(
    outcomes: dict[str, dict[str, Any]], home: Path
) -> None:
    assert outcomes["broken"]["error"] == "NetworkError"
    assert "broke off" in outcomes["broken"]["message"]
    assert not list(home.glob("hf/hub/models--some--broken/**/weights.bin"))


def test_wrong_bytes_are_an_error_and_are_thrown_away(
    outcomes: dict[str, dict[str, Any]], home: Path
) -> None:
    assert outcomes["wrong"]["error"] == "NetworkError"
    assert sha256(LARGE)[:16] in outcomes["wrong"]["message"]
    kept = [p for p in home.glob("hf/hub/models--some--wrong/**/*") if p.is_file()]
    assert all(path.stat().st_size != len(LARGE) for path in kept)


@pytest.mark.parametrize("case", ["401", "403", "404", "429", "503", "unknown", "no such commit"])
def test_an_error_status_is_an_error_and_no_absence(
    outcomes: dict[str, dict[str, Any]], case: str
) -> None:
    assert outcomes[case]["error"] == "NetworkError"
    status = case if case.isdigit() else "404"
    assert f"answers {status} (" in outcomes[case]["message"]


def test_a_sign_in_page_is_not_taken_for_a_hub(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["page"]["error"] == "NetworkError"
    assert "is not a hub" in outcomes["page"]["message"]


def test_another_commit_than_the_pinned_one_is_an_error(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    assert outcomes["moved"]["error"] == "NetworkError"
    assert "d" * 12 in outcomes["moved"]["message"]


def test_all_messages_are_one_line(outcomes: dict[str, dict[str, Any]]) -> None:
    assert not [case for case, outcome in outcomes.items() if "\n" in outcome["message"]]


def test_too_little_disk_is_said_before_the_download(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    assert outcomes["no room"]["error"] == "DiskError"
    assert "5.0 kB are free" in outcomes["no room"]["message"]
    assert not hub.requests_for("some/room/resolve")


def test_hashes_of_first_use_are_recorded_and_hold(
    outcomes: dict[str, dict[str, Any]], home: Path
) -> None:
    assert "is recorded" in outcomes["first use"]["lines"][-1]
    assert outcomes["second use"]["lines"] == []
    assert outcomes["spoilt"]["error"] is None
    assert "fetched again" in outcomes["spoilt"]["lines"][0]
    assert (home / FIRST_USE / "config.json").read_bytes() == SMALL


def test_the_token_goes_to_the_hub_alone_and_is_never_shown(
    outcomes: dict[str, dict[str, Any]], hub: HubServer
) -> None:
    sent = hub.requests_for("some/elsewhere/resolve", method="HEAD")
    assert sent and all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in sent)
    assert hub.storage is not None and hub.storage.requests_for("some/elsewhere")
    assert TOKEN not in str(hub.storage.requests)
    assert Path(outcomes["elsewhere"]["path"], "deep/weights.bin").read_bytes() == LARGE
    assert TOKEN not in str(outcomes)


def test_nothing_is_sent_unasked(outcomes: dict[str, dict[str, Any]], hub: HubServer) -> None:
    assert not [r.path for r in hub.requests if "/resolve/" not in r.path]
    assert "torch" not in str([r.headers for r in hub.requests])


def test_without_the_hub_a_cached_copy_serves_and_all_else_is_unreachable_soon(
    outcomes: dict[str, dict[str, Any]], home: Path
) -> None:
    with hub_server() as gone:
        address = gone.address
    actions = [source("some/fine"), source("some/new")]
    cut = Path(outcomes["cut"]["path"], "config.json")
    spoilt = {**source("some/cut", weights=VERY_LARGE), "spoil": str(cut)}
    cached, new, damaged = ask([*actions, spoilt], address, home)
    assert damaged["error"] == "NetworkError" and "the copy is damaged" in damaged["message"]
    assert cached["error"] is None and cached["lines"] == []
    assert new["error"] == "UnreachableError" and address in new["message"]
    assert new["seconds"] < 10
    cached, new = ask(actions, address, home, HF_HUB_OFFLINE="1")
    assert cached["error"] is None
    assert new["error"] == "UnreachableError" and "HF_HUB_OFFLINE" in new["message"]
    assert new["seconds"] < 5


def test_a_refusing_proxy_is_nobody_and_its_password_stays_hidden(tmp_path: Path) -> None:
    with hub_server() as proxy:
        host = proxy.address.removeprefix("http://")
        (outcome,) = ask(
            [source("some/new")],
            "https://hub.invalid",
            tmp_path,
            HTTPS_PROXY=f"http://me:pass@word@{host}",
        )
    assert outcome["error"] == "UnreachableError"
    assert "pass" not in str(outcome) and "word" not in str(outcome)


def test_two_processes_at_once_both_get_whole_files(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories["some/shared"] = served()
    action = json.dumps([source("some/shared")])
    both = [start(hub.address, tmp_path) for _ in range(2)]
    answers = [""] * 2

    def talk(index: int) -> None:
        answers[index] = both[index].communicate(action, timeout=60)[0]

    threads = [threading.Thread(target=talk, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        (outcome,) = json.loads(answer)
        assert Path(outcome["path"], "deep/weights.bin").read_bytes() == LARGE


def kill_in_the_middle(server: HubServer, home: Path, action: dict[str, Any]) -> None:
    """Starts a process that fetches, and kills it when the server has sent half a file."""
    process = start(server.address, home)
    assert process.stdin is not None
    process.stdin.write(json.dumps([action]))
    process.stdin.close()
    assert server.stalled.wait(30)
    if action["source"]["files"][1]["size_bytes"] == len(VERY_LARGE):
        (partial,) = home.glob("hf/hub/**/*.demo_bert.incomplete")
        deadline = time.monotonic() + 30
        while partial.stat().st_size < PIECE and time.monotonic() < deadline:
            time.sleep(0.01)
    process.kill()
    process.wait(10)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("weights", [LARGE, VERY_LARGE], ids=["large", "very large"])
def test_a_killed_download_leaves_no_half_file_and_a_very_large_one_goes_on(
    tmp_path: Path, weights: bytes
) -> None:
    action = source("some/slow", weights=weights)
    with hub_server() as server:
        server.repositories["some/slow"] = served(behaviour="stall", weights=weights)
        kill_in_the_middle(server, tmp_path, action)
        assert not list(tmp_path.glob("hf/hub/**/weights.bin"))
        server.requests.clear()
        (outcome,) = ask([action], server.address, tmp_path)
        ranges = [r.headers.get("Range") for r in server.requests_for("weights.bin")]
    assert Path(outcome["path"], "deep/weights.bin").read_bytes() == weights
    assert not list(tmp_path.glob("hf/hub/**/*.demo_bert.incomplete"))
    is_resumed = weights is VERY_LARGE
    assert ranges == [f"bytes={PIECE}-" if is_resumed else None]
    said = "deep/weights.bin: goes on at 10 MB of 23 MB"
    assert (said in outcome["lines"]) == is_resumed


def test_what_a_killed_download_left_is_checked_with_the_rest(tmp_path: Path) -> None:
    action = source("some/slow", weights=VERY_LARGE)
    with hub_server() as server:
        server.repositories["some/slow"] = served(behaviour="stall", weights=VERY_LARGE)
        kill_in_the_middle(server, tmp_path, action)
        (partial,) = tmp_path.glob("hf/hub/**/*.demo_bert.incomplete")
        with partial.open("r+b") as file:
            file.write(b"spoilt")
        outcomes = ask([action, action], server.address, tmp_path)
    assert [outcome["error"] for outcome in outcomes] == ["NetworkError", None]
    assert "they were thrown away" in outcomes[0]["message"]
    assert Path(outcomes[1]["path"], "deep/weights.bin").read_bytes() == VERY_LARGE
