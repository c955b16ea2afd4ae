"""The one line that matters in what pip says when it fails."""

import re
import sys
from pathlib import Path

from demo_bert.downloads import without_credentials
from demo_bert.errors import DiskError, FailureError, NetworkError, UnreachableError

_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b")
_NO_ANSWER = re.compile(
    r"connection broken by '(\w+)|(\w*(?:ConnectionError|Timeout\w*|ProxyError|SSLError))\("
    r"|(Name or service not known)"
)
_NOT_THERE = re.compile(r"No matching distribution found for (\S+)")
_LONGEST = 300


def explain(said: str, log: Path) -> FailureError:
    """The error that stands for a failed pip.

    Args:
        said: All that pip has written.
        log: The file that holds it, which the message names.

    Returns:
        An error with what failed and what to do; credentials in addresses are taken out.
    """
    if _NO_SPACE.search(said):
        return DiskError(
            f"the disk became full while packages were installed ({log}); make room, or set"
            " DEMO_BERT_VENV to a directory on a larger disk, then call again"
        )
    if "DO NOT MATCH THE HASHES" in said:
        return NetworkError(
            f"the package index sent other bytes than it announced ({log}); call again, or use"
            " another index (PIP_INDEX_URL)"
        )
    wanted = _NOT_THERE.search(said)
    if answer := _NO_ANSWER.search(said):
        kind = next(group for group in answer.groups() if group)
        return UnreachableError(
            f"no package index can be reached ({kind}; {log}); check the network, or name an index"
            " (PIP_INDEX_URL) or a proxy (HTTPS_PROXY), then call again"
        )
    if wanted:
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        lacks = "offers no" if "(from versions: none)" in said else "offers other versions than"
        return NetworkError(
            f"the package index {lacks} {wanted[1]} for {python} on this platform ({log}); use"
            " another index (PIP_INDEX_URL; DEMO_BERT_TORCH_INDEX for torch) or a Python from 3.11"
            " to 3.14"
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    lines = errors or [line for line in said.splitlines() if line.strip()] or ["no message"]
    reason = without_credentials(lines[-1].removeprefix("ERROR:").strip())[:_LONGEST]
    return FailureError(f"pip failed: {reason} (all of it: {log})")
