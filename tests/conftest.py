"""For every test: one thread, the same examples each time, and no network but loopback."""

import ipaddress
import signal
import socket

import pytest
import torch
from hypothesis import settings

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
