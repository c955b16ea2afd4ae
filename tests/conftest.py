"""For every test: one thread, the same examples each time, no network but loopback; a small run."""

import ipaddress
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from demo_bert.report.tensorboard import TensorBoardWriter
from launch.cluster import Cluster, cluster
from small_run import Program

settings.register_profile("same-each-time", derandomize=True, deadline=None, database=None)
settings.load_profile("same-each-time")
torch.set_num_threads(1)
# Started in the background, a process and its children ignore these; tests send them.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


def _is_loopback(address: object) -> bool:
    if not isinstance(address, tuple):  # a socket of the file system
        return True
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: drills of faults at their whole length."""
    parser.addoption("--full", action="store_true", help="all faults, not a tenth of them")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What this machine cannot run is said by name, not only counted."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if "NOT RUN" in reason:
            terminalreporter.write_line(reason.removeprefix("Skipped: "))


@pytest.fixture
def is_full(request: pytest.FixtureRequest) -> bool:
    """Whether the drills are to be done at their whole length."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def num_kills(is_full: bool) -> int:
    """How often a drill kills."""
    return 100 if is_full else 10


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses connections to other machines, as one that has no network does."""

    def refusing(connect: object) -> object:
        def checked(self: socket.socket, address: object) -> object:
            if not _is_loopback(address):
                raise OSError(101, f"tests may not connect to {address}")
            return connect(self, address)  # type: ignore[operator]

        return checked

    monkeypatch.setattr(socket.socket, "connect", refusing(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", refusing(socket.socket.connect_ex))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts, and a machine that is none of them."""
    with cluster(tmp_path_factory.mktemp("cluster"), 3) as made:
        yield made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small model and data of a module's tests lie."""
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def program(root: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    """The program on a small model and data."""
    return Program(root, capsys)


@pytest.fixture
def finished(program: Program, root: Path) -> Path:
    """A run that is done, 8 steps with a scoring after each epoch's end; made once."""
    directory = root / "finished"
    if not directory.exists():
        assert program.run(directory, "-i", "8", "--global-batch-size", "10").code == 0
    return directory


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The run gets a SIGTERM during the step after one of these, and stops when that is done."""
    steps: list[int] = []
    add = TensorBoardWriter.add

    def read(self: TensorBoardWriter, event: dict[str, object]) -> None:
        add(self, event)
        if event["event"] == "step" and event["step"] - 1 in steps:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(TensorBoardWriter, "add", read)
    return steps
