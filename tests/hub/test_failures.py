import socket
import ssl

import pytest

from demo_bert.errors import ModelError, NetworkError, UnreachableError
from demo_bert.hub.failures import broke_off, no_answer, reason, refusal


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_of_the_class_that_was_asked_for(status: int) -> None:
    assert type(refusal("a/b", status, endpoint="E", refused=ModelError)) is ModelError
    assert type(refusal("a/b", status, endpoint="E", refused=NetworkError)) is NetworkError


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_fault_of_the_hub_is_never_the_users_mistake(status: int) -> None:
    error = refusal("a/b", status, endpoint="E", refused=ModelError)
    assert type(error) is NetworkError
    assert f"E answers {status} (" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(-2, "Name or service not known"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError("no answer in 9 s"),
    ],
)
def test_nobody_there_is_unreachable(error: Exception) -> None:
    assert type(no_answer("a/b", error, endpoint="E")) is UnreachableError


def test_a_certificate_that_is_not_accepted_is_somebody() -> None:
    outer = ConnectionError("handshake failed")
    outer.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error = no_answer("a/b", outer, endpoint="E")
    assert type(error) is NetworkError
    assert "SSL_CERT_FILE" in str(error)


def test_a_reason_is_one_short_line_without_credentials() -> None:
    error = OSError("GET http://me:s@cret@host/x failed\nand more")
    assert reason(error) == "GET http://host/x failed"
    assert reason(OSError("x" * 500)) == "x" * 120
    assert reason(OSError()) == "OSError"


def test_a_break_names_its_cause() -> None:
    outer = OSError("not found locally")
    outer.__cause__ = ConnectionResetError(104, "reset by peer")
    assert "reset by peer" in str(broke_off("a/b", outer, endpoint="E"))
