"""What hosts lack of the hub: looked for in their own caches, given where they do not reach it."""

import hashlib
import os
from pathlib import Path

import pytest

from demo_bert.hub import HubFile, HubSource, client, records
from demo_bert.launch import caches
from demo_bert.launch.caches import Fetched, Place
from demo_bert.launch.remote import Hosts, Program, program_on_hosts
from hub_server import Repository, hub_server

NOWHERE = "http://127.0.0.1:9"
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 200}


class HostsHere(Hosts):
    """Hosts that are directories of this machine: each has a home of its own."""

    def __init__(self, root: Path) -> None:
        source = Path(caches.__file__).parents[2]
        program = program_on_hosts(source, cwd=root, remote_dir=None)
        super().__init__(Program(program.python, program.source, str(root), None), port=None)
        self.root = root
        self.pushed: list[tuple[str, str]] = []

    def command(self, host: str, *arguments: str) -> list[str]:
        """See `Hosts.command`."""
        there = super().command("127.0.0.1", *arguments)
        return ["env", "-u", "HF_HOME", f"HOME={self.root / host}", *there]

    def push(self, host: str, path: str, **more: object) -> None:
        """See `Hosts.push`."""
        self.pushed.append((host, Path(path).name))
        super().push(host, path, **more)  # type: ignore[bad-argument-type]

    def hub(self, host: str) -> Path:
        """A host's own cache of the hub."""
        return self.root / host / ".cache" / "huggingface" / "hub"


def source_of(content: dict[str, bytes]) -> HubSource:
    """A model on the hub, one of its files without a known hash."""
    files = tuple(
        HubFile(name, hashlib.sha256(data).hexdigest() if "safe" in name else None, len(data))
        for name, data in content.items()
    )
    return HubSource("owner/model", "model", "c" * 40, "apache-2.0", files)


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """A model in the invoking machine's cache: links, as the hub's library makes them."""
    for name in [name for name in os.environ if name.startswith(("HF_", "DEMO_BERT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(client, "hub_cache", lambda: tmp_path / "here" / "hub")
    for module in (caches, records):
        monkeypatch.setattr(module, "cache_directory", lambda: tmp_path / "here" / "demo_bert")
    source = source_of(CONTENT)
    directory = tmp_path / "here" / "hub" / source.folder
    (directory.parents[1] / "blobs").mkdir(parents=True)
    directory.mkdir(parents=True)
    for number, (name, data) in enumerate(CONTENT.items()):
        blob = directory.parents[1] / "blobs" / str(number)
        blob.write_bytes(data)
        (directory / name).symlink_to(blob)
    records.record_hashes(source, {"config.json": "h"})
    place = Place("hub", source.folder, source.files)
    return Fetched("weights of it", source, (place,), lambda: directory)


def test_a_host_without_the_hub_gets_what_it_lacks_and_nothing_twice(
    ours: Fetched, tmp_path: Path
) -> None:
    hosts = HostsHere(tmp_path)
    (whole, damaged) = (hosts.hub(name) / ours.source.folder for name in ("has", "damaged"))
    for directory in (whole, damaged):
        directory.mkdir(parents=True)
        for name, data in CONTENT.items():
            (directory / name).write_bytes(data if directory == whole else data[::-1])
    names = ("lacks", "has", "damaged")
    assert caches.give(hosts, names, [ours], environ={"HF_ENDPOINT": NOWHERE}) == {}
    assert [host for host, path in hosts.pushed if path == "c" * 40] == ["lacks", "damaged"]
    for name in ("lacks", "damaged"):
        directory = hosts.hub(name) / ours.source.folder
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == CONTENT
    # What was recorded here of a file without a known hash holds there too.
    record = "demo_bert/hub/sha256/model--owner--model--" + "c" * 40 + ".json"
    assert (tmp_path / "lacks" / ".cache" / record).read_bytes() == (
        tmp_path / "here" / record
    ).read_bytes()
    hosts.pushed.clear()
    assert caches.give(hosts, names, [ours], environ={"HF_ENDPOINT": NOWHERE}) == {}
    assert hosts.pushed == []


def test_a_host_that_reaches_the_hub_fetches_by_itself(ours: Fetched, tmp_path: Path) -> None:
    hosts = HostsHere(tmp_path)
    with hub_server() as server:
        server.repositories["owner/model"] = Repository(CONTENT)
        environ = {"HF_ENDPOINT": server.address}
        assert caches.give(hosts, ("lacks",), [ours], environ=environ) == {}
    assert hosts.pushed == []


def test_what_is_nowhere_is_for_the_workers_to_say(ours: Fetched, tmp_path: Path) -> None:
    hosts = HostsHere(tmp_path)
    packaged = Fetched(ours.what, ours.source, ours.places, lambda: tmp_path / "package")
    environ = {"HF_HUB_OFFLINE": "1"}
    assert caches.give(hosts, ("lacks",), [packaged], environ=environ) == {}
    assert hosts.pushed == []
