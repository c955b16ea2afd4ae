"""The client's checks of the environment, and its deadline."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from demo_bert.errors import ModelError, NetworkError, UnreachableError, UsageError
from demo_bert.hub import client


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    client.prepare()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:secret@hub.example")
    yield


def test_nothing_is_sent_unasked() -> None:
    # In a process of its own: the library reads the environment once, when it is imported.
    program = (
        "from demo_bert.hub import client; client.prepare();"
        "from huggingface_hub import constants as c;"
        "print(c.HF_HUB_DISABLE_TELEMETRY, c.HF_HUB_DISABLE_XET)"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    told = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["True", "True"]


@pytest.mark.parametrize("address", ["hub.example", "ftp://hub.example", "http://"])
def test_an_endpoint_that_is_no_address_is_the_users_mistake(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    with pytest.raises(UsageError, match="HF_ENDPOINT is "):
        client.prepare()


def test_a_proxy_that_is_no_address_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session

    close_session()
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://me:secret@host")
    try:
        with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
            client.prepare()
    finally:
        monkeypatch.undo()
        close_session()
    assert "secret" not in str(caught.value)


def test_a_request_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(client, "_DEADLINE_S", 0.05)
    with pytest.raises(UnreachableError, match="a/b: http://hub.example cannot be reached"):
        client.ask(never.wait, what="a/b")
    never.set()


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr(client, "_REQUEST_TIMEOUT_S", 0.05)
        with pytest.raises(UnreachableError, match=f"{address} cannot be reached"):
            client.model_on_hub("a/b", None, refused=ModelError)


def test_an_answer_that_cannot_be_read_is_not_from_a_hub() -> None:
    with pytest.raises(NetworkError, match="is not a hub"):
        client.ask(lambda: int("<html>"), what="a/b")


def test_a_name_that_the_library_refuses_is_the_users_mistake() -> None:
    with pytest.raises(ModelError, match="a--b/c"):
        client.model_on_hub("a--b/c", None, refused=ModelError)


def test_a_fault_of_the_machine_is_not_taken_for_silence() -> None:
    def denied() -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(NetworkError, match="Permission denied") as caught:
        client.ask(denied, what="a/b")
    assert not isinstance(caught.value, UnreachableError)
