"""Real environments and the real pip, with packages that the tests make themselves."""

import io
import json
import os
import select
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bootstrap_checkout import Checkout, write_wheel
from demo_bert.bootstrap.download_size import Download
from demo_bert.bootstrap.installer import Installer, Wanted
from demo_bert.bootstrap.lines import Lines
from demo_bert.errors import NetworkError, UnreachableError


def test_a_first_run_installs_the_pins_and_a_second_says_nothing(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, is_real=True)
    write_wheel(checkout.wheels, "torch", version="2.13.0", requires="one>=1")
    write_wheel(checkout.wheels, "one")
    write_wheel(checkout.wheels, "one", version="1.1")
    result = checkout.run(variables={"PIP_TARGET": "/nowhere", "PIP_QUIET": "1"})
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["prefix"] == str(checkout.environment)
    packages = {path.name for path in checkout.environment.rglob("*.dist-info")}
    assert {"torch-2.13.0.dist-info", "one-1.0.dist-info"} <= packages
    (sizes,) = (line for line in result.stderr.splitlines() if " download: " in line)
    assert sizes.startswith("demo_bert: download: nothing (1 package: 1.0 kB from this machine;")
    assert not (checkout.environment / "tmp").exists()
    log = (checkout.environment / "pip-packages.log").read_text(encoding="utf-8")
    assert "Successfully installed one-1.0" in log
    again = checkout.run("-x", "y")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["argv"] == ["-x", "y"]


class Index(BaseHTTPRequestHandler):
    """A package index on loopback that says that every file is very large."""

    wheels: Path
    has_metadata: bool
    asked: list[str]
    is_slow = False
    size_bytes = 123_456_789_000_000

    def do_GET(self) -> None:
        name = self.path.rstrip("/").rpartition("/")[2]
        self.asked.append(f"GET {name}")
        if self.path.startswith("/simple/"):
            offer = ' data-dist-info-metadata="true"' if self.has_metadata else ""
            links = (
                f'<a href="/files/{path.name}"{offer}>{path.name}</a>'
                for path in self.wheels.glob(f"{name}-*.whl")
            )
            self._answer(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode())
        elif name.endswith(".metadata"):
            with zipfile.ZipFile(self.wheels / name.removesuffix(".metadata")) as wheel:
                (path,) = (each for each in wheel.namelist() if each.endswith("/METADATA"))
                self._answer(wheel.read(path))
        else:
            self._answer((self.wheels / name).read_bytes())

    def do_HEAD(self) -> None:
        self.asked.append(f"HEAD {self.path.rpartition('/')[2]}")
        self.send_response(200)
        self.send_header("Content-Length", str(self.size_bytes))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.is_slow and len(body) > 1_000_000:
            self.wfile.write(body[:1_000_000])
            select.select([self.connection], [], [], 20.0)  # until the other side has hung up
            return
        self.wfile.write(body)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Index]]:
    """An index with metadata and one wheel, which this process's pip asks instead of any other."""
    (tmp_path / "index").mkdir()
    handler = type(
        "OneIndex", (Index,), {"wheels": tmp_path / "index", "asked": [], "has_metadata": True}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    write_wheel(tmp_path / "index", "large", requires="other")
    write_wheel(tmp_path / "index", "other")
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def installer(tmp_path: Path) -> Iterator[Installer]:
    """The pip of this interpreter, which is only asked."""
    (tmp_path / "environment").mkdir()
    with (tmp_path / "lock").open("w") as lock:
        yield Installer(
            Path(sys.executable),
            tmp_path / "environment",
            lock=lock.fileno(),
            lines=Lines(io.StringIO()),
        )


def test_sizes_come_from_the_index_before_anything_is_fetched(
    installer: Installer, index: type[Index]
) -> None:
    (download,) = installer.measure([Wanted("large", ("large==1.0",))])
    names = {"large-1.0-py3-none-any.whl", "other-1.0-py3-none-any.whl"}
    assert download == Download(dict.fromkeys(names, index.size_bytes), {}, is_complete=True)
    assert {f"HEAD {name}" for name in names} <= set(index.asked)


def test_an_index_without_metadata_tells_what_it_can(
    installer: Installer, index: type[Index]
) -> None:
    index.has_metadata = False
    index.is_slow = True
    write_wheel(index.wheels, "large", requires="other", size_bytes=25_000_000)
    (download,) = installer.measure([Wanted("large", ("large==1.0",))])
    assert download.remote == {"large-1.0-py3-none-any.whl": pytest.approx(25e6, rel=0.01)}
    assert not download.is_complete
    assert "GET other" not in index.asked, "the large file was fetched to the end"


def test_a_requirement_that_the_index_lacks_is_one_line(
    installer: Installer, index: type[Index]
) -> None:
    with pytest.raises(NetworkError, match="offers other versions than large==3.0 for"):
        installer.measure([Wanted("large", ("large==3.0",))])


def test_an_index_that_does_not_answer_is_one_line(
    installer: Installer, index: type[Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:  # bound and never listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{bound.getsockname()[1]}/simple/"
        monkeypatch.setenv("PIP_RETRIES", "1")
        with pytest.raises(UnreachableError, match="no package index can be reached") as failure:
            installer.measure([Wanted("other", ("large==1.0",), index=address)])
    assert "secret" not in str(failure.value)


def test_torch_may_come_from_an_index_of_its_own(installer: Installer, index: type[Index]) -> None:
    own = os.environ.pop("PIP_INDEX_URL")
    (download,) = installer.measure([Wanted("torch", ("large==1.0",), index=own)])
    assert len(download.remote) == 2


def test_a_disk_that_is_too_small_is_said_before_the_download(
    index: type[Index], tmp_path: Path
) -> None:
    address = os.environ["PIP_INDEX_URL"].replace("simple/", "files/large-1.0-py3-none-any.whl")
    said = f"Obtaining dependency information for large from {address}.metadata (from torch)"
    checkout = Checkout(tmp_path)
    result = checkout.run(variables={"TEST_PIP_SIZES": said, "NO_PROXY": "127.0.0.1"})
    assert result.returncode == 1
    *_, size, room, last = result.stderr.splitlines()
    assert size.startswith("demo_bert: download: 123 TB (1 package: 123 TB; torch 2.13.0 and")
    assert room.startswith(f"demo_bert: they go to {checkout.environment}, where ")
    assert "DiskError" in last and "309 TB are needed" in last
    assert checkout.pip_calls() == []


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """Another virtual environment that has a torch, and no pip."""
    directory = tmp_path / "outer"
    base = os.path.realpath(sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", str(directory)], check=True)
    (packages,) = directory.glob("lib/python3*/site-packages")
    for name, version in (("torch", "2.12.0+vendor.1"), ("one", "1.5"), ("three", "1.0")):
        wheel = write_wheel(tmp_path, name, version=version)
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(packages)
    return directory


def test_a_torch_that_the_interpreter_has_is_kept(outer: Path, tmp_path: Path) -> None:
    pip = pytest.importorskip("pip")
    checkout = Checkout(tmp_path, pip=Path(pip.__file__).parent)
    (checkout.root / "requirements.lock").write_text(
        "torch==2.13.0\none==1.0\ntwo==1.0\nthree==2.0\n"
    )
    for name, requires in (("torch", ""), ("two", "three>=2")):
        write_wheel(checkout.wheels, name, requires=requires)
    write_wheel(checkout.wheels, "three", version="2.0")
    (tmp_path / "constraints").write_text("two==0.5\n")
    variables = {"PIP_CONSTRAINT": str(tmp_path / "constraints")}
    before = sorted(outer.rglob("*"))
    result = checkout.run(python=outer / "bin" / "python", variables=variables)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["prefix"] == str(checkout.environment)
    assert Path(said["torch"]).is_relative_to(outer) and Path(said["one"]).is_relative_to(outer)
    assert "torch 2.12.0+vendor.1 of " in result.stderr and "is kept and used" in result.stderr
    (packages,) = checkout.environment.glob("lib/python3*/site-packages")
    added = {path.name for path in packages.glob("*.dist-info")} - {"pip", "setuptools"}
    assert {"two-1.0.dist-info", "three-2.0.dist-info"} <= added
    assert not {name for name in added if name.startswith(("torch-", "one-"))}
    assert sorted(outer.rglob("*")) == before
    assert checkout.run().stderr == ""
