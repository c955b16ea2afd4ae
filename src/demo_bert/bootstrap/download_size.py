"""How much pip would fetch, asked of the index itself before anything large is fetched."""

import os
import re
import ssl
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from demo_bert.bootstrap.child import Child
from demo_bert.downloads import without_credentials

_ANSWER_LIMIT_S = 3.0
_CONNECTIONS = 16
_LARGE_BYTES = 20_000_000

# pip -v names each file whose metadata it could read on its own. Where the index has no such
# metadata, pip must fetch the file to read it, and shows its name or address and its size then.
_METADATA_OF = re.compile(r"Obtaining dependency information for \S+ from (\S+)\.metadata\s")
_LOCAL_FILE = re.compile(r"^\s*Processing (/\S+\.(?:whl|tar\.gz))\s", re.MULTILINE)
_FETCHING = re.compile(
    r"^\s*Downloading (\S+\.(?:whl|tar\.gz)) \(([0-9.]+) (bytes|kB|MB|GB)\)", re.MULTILINE
)
_UNITS = {"bytes": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


@dataclass(frozen=True)
class Download:
    """What pip would fetch, as far as it is known.

    Attributes:
        remote: File name -> bytes, of files on servers.
        local: File name -> bytes, of files that pip takes from directories of this machine.
        is_complete: Whether every file is there with its size.
    """

    remote: dict[str, int] = field(default_factory=dict)
    local: dict[str, int] = field(default_factory=dict)
    is_complete: bool = True

    @property
    def remote_bytes(self) -> int:
        """The sum over all files on servers."""
        return sum(self.remote.values())

    @property
    def local_bytes(self) -> int:
        """The sum over all files of this machine."""
        return sum(self.local.values())

    def without(self, other: "Download") -> "Download":
        """What is left of it after another one.

        Args:
            other: What has been fetched before.

        Returns:
            The files that are in this one alone.
        """
        remote = {name: size for name, size in self.remote.items() if name not in other.remote}
        local = {name: size for name, size in self.local.items() if name not in other.local}
        return Download(remote, local, self.is_complete)


def measure(child: Child, env: Mapping[str, str], *, until_s: float) -> tuple[Download, int | None]:
    """Reads from a dry run of pip what it would fetch, and asks the servers how large that is.

    The child is ended where it begins to fetch what it was only asked about.

    Args:
        child: A `pip install --dry-run -v`.
        env: Its environment.
        until_s: When to stop waiting for pip, on the monotonic clock.

    Returns:
        The files, and pip's exit status where it came to its end.
    """
    while True:
        status = child.wait(0.1)
        said = child.said()
        addresses = {_name_in(address): address for address in _METADATA_OF.findall(said)}
        fetching = {
            _name_in(shown): round(float(number) * _UNITS[unit])
            for shown, number, unit in _FETCHING.findall(said)
        }
        # pip before 23.3 fetches all files at the end of a dry run: by then they are all named.
        is_all_named = status == 0 or any(name in addresses for name in fetching)
        is_fetching = max(fetching.values(), default=0) >= _LARGE_BYTES
        if status is not None or is_all_named or is_fetching or time.monotonic() > until_s:
            break
    child.end()
    local = {os.path.basename(path): _size_of_file(path) for path in _LOCAL_FILE.findall(said)}
    sizes = _ask(addresses, env)
    remote = fetching | {name: size for name, size in sizes.items() if size is not None}
    is_complete = is_all_named and None not in sizes.values()
    return Download(remote, local, is_complete), status


def _ask(addresses: Mapping[str, str], env: Mapping[str, str]) -> dict[str, int | None]:
    """File name -> the size that its server states; None where it does not."""
    if not addresses:
        return {}
    try:
        opener = _opener(env)
    except ssl.SSLError:  # a file of certificates that cannot be read; pip will say so
        return dict.fromkeys(addresses)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        sizes = pool.map(partial(_size_of_address, opener=opener), addresses.values())
        return dict(zip(addresses, sizes, strict=True))


def _opener(env: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Follows the proxies and certificates that pip's variables name."""
    certificates = env.get("PIP_CERT") or env.get("REQUESTS_CA_BUNDLE") or None
    context = ssl.create_default_context(
        cafile=certificates if certificates and os.path.isfile(certificates) else None
    )
    proxy = env.get("PIP_PROXY")
    return urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None),
    )


def _size_of_address(address: str, *, opener: urllib.request.OpenerDirector) -> int | None:
    request = urllib.request.Request(without_credentials(address), method="HEAD")
    try:
        with opener.open(request, timeout=_ANSWER_LIMIT_S) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, HTTPException, TypeError, ValueError):
        return None


def _size_of_file(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _name_in(address: str) -> str:
    return unquote(urlsplit(address).path).rpartition("/")[2]
