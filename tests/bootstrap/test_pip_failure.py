"""What pip says when it fails, and the one line that becomes of it."""

from pathlib import Path

import pytest

from demo_bert.bootstrap.pip_failure import explain
from demo_bert.errors import DiskError, FailureError, NetworkError, UnreachableError

LOG = Path("/environment/pip-torch.log")
RETRIES = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by"
    " 'NewConnectionError('<connection>: Failed to establish a new connection: [Errno -2] Name or"
    " service not known')': /simple/torch/\n"
)
NOT_FOUND = (
    "ERROR: Could not find a version that satisfies the requirement torch==2.13.0"
    " (from versions: none)\nERROR: No matching distribution found for torch==2.13.0\n"
)
OTHERS = NOT_FOUND.replace("none", "2.12.0, 2.14.0")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            RETRIES + NOT_FOUND,
            UnreachableError,
            "no package index can be reached (NewConnectionErr",
        ),
        (NOT_FOUND, NetworkError, "offers no torch==2.13.0 for Python 3"),
        (OTHERS, NetworkError, "offers other versions than torch==2.13.0 for Python 3"),
        ("ERROR: [Errno 28] No space left on device\n", DiskError, "the disk became full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM\n", NetworkError, "other bytes"),
        ("ERROR: first\n  detail\nERROR: the last\n", FailureError, "pip failed: the last (all of"),
        ("Traceback\nKeyError: 'x'\n", FailureError, "pip failed: KeyError: 'x' (all of"),
        ("", FailureError, "pip failed: no message"),
    ],
)
def test_the_reason_is_found(said: str, kind: type[FailureError], words: str) -> None:
    error = explain(said, LOG)
    assert type(error) is kind
    assert words in str(error) and str(LOG) in str(error) and "\n" not in str(error)


def test_credentials_are_taken_out() -> None:
    error = explain("ERROR: HTTP error 401 while getting https://me:secret@index.example/x\n", LOG)
    assert "secret" not in str(error) and "index.example" in str(error)
