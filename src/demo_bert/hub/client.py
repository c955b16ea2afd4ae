"""The hub's side of the wire: short requests under a deadline, downloads, errors of ours."""

import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from demo_bert.downloads import Announce, show_bytes, without_credentials
from demo_bert.errors import (
    DemoBertError,
    DiskError,
    NetworkError,
    UnreachableError,
    UsageError,
)
from demo_bert.hub import failures, resuming
from demo_bert.hub.sources import HubSource

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

_DEADLINE_S = 9.0
_REQUEST_TIMEOUT_S = 5.0
_QUARTERS = 4
_SILENT_BYTES = 20_000_000

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteFile:
    """What the hub says of a file before it is fetched.

    Attributes:
        sha256: 64 hexadecimal digits; None for small files, of which the hub keeps another hash.
        size_bytes: None where the hub does not say.
    """

    sha256: str | None
    size_bytes: int | None


def prepare() -> None:
    """Imports the hub's library with nothing sent unasked, and checks what the user set for it.

    Raises:
        UsageError: `HF_ENDPOINT` or a proxy variable is not an address.
    """
    # Telemetry would also ask the hub which tool started this process.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Plain HTTP reaches mirrors and passes proxies that know nothing of the chunk protocol.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import logging

    if not {"HF_HUB_VERBOSITY", "HF_DEBUG"} & os.environ.keys():
        logging.set_verbosity_error()
    address = urlsplit(constants.ENDPOINT)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UsageError(
            f"HF_ENDPOINT is {without_credentials(constants.ENDPOINT)!r}; it has to be an address"
            " that begins with http:// or https://"
        )
    try:
        get_session()
    except (ValueError, ImportError) as error:
        raise UsageError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY holds a proxy that cannot be used:"
            f" {failures.reason(error)}"
        ) from error


def endpoint() -> str:
    """The hub's address, without credentials."""
    from huggingface_hub import constants

    return without_credentials(constants.ENDPOINT)


def hub_cache() -> Path:
    """The directory that the hub's files lie in."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids requests."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached_file(source: HubSource, path: str) -> Path | None:
    """A file of a repository as it lies in the hub's cache.

    Args:
        source: Names the repository; the revision may also be a name such as `main` here, which
            then stands for what it was resolved to before.
        path: The file's path in the repository.

    Returns:
        Its path; None where it was not fetched.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        source.repo_id, path, revision=source.revision, repo_type=source.repo_type
    )
    return Path(found) if isinstance(found, str) else None


def file_on_hub(source: HubSource, path: str) -> RemoteFile:
    """Asks the hub for a file's hash and size; the first such request shows whether it is there.

    Args:
        source: Names the repository and the commit.
        path: The file's path in the repository.

    Returns:
        What the hub says.

    Raises:
        UnreachableError: Nobody answered in time, or requests are forbidden.
        NetworkError: The hub refused, or what answered is not a hub.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(source.repo_id, path, repo_type=source.repo_type, revision=source.revision)
    what = f"{source}, {path}"
    answer = ask(lambda: get_hf_file_metadata(url, timeout=_REQUEST_TIMEOUT_S), what=what)
    if answer.commit_hash is None:
        raise failures.not_a_hub(what, endpoint=endpoint())
    if answer.commit_hash != source.revision:
        raise NetworkError(
            f"{what}: {endpoint()} answers with commit {answer.commit_hash[:12]} instead;"
            " check HF_ENDPOINT"
        )
    etag = answer.etag or ""
    return RemoteFile(
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None, size_bytes=answer.size
    )


def model_on_hub(
    repo_id: str, revision: str | None, *, refused: type[DemoBertError]
) -> "ModelInfo":
    """Asks the hub for a model's commit, its files and its licence.

    Args:
        repo_id: `owner/name`.
        revision: A branch, a tag or a commit; None for the main branch.
        refused: What to raise where the hub does not know the name or does not open it.

    Returns:
        The library's description; `sha` is the commit.

    Raises:
        UnreachableError: Nobody answered in time, or requests are forbidden.
        NetworkError: The hub failed, or what answered is not a hub.
    """
    from huggingface_hub import HfApi

    what = repo_id + (f"@{revision}" if revision else "")

    def request() -> "ModelInfo":
        return HfApi().model_info(
            repo_id, revision=revision, files_metadata=True, timeout=_REQUEST_TIMEOUT_S
        )

    return ask(request, what=what, refused=refused)


def ask(request: Callable[[], _T], *, what: str, refused: type[DemoBertError] = NetworkError) -> _T:
    """Makes one short request, in some seconds at most, and sorts what can go wrong.

    Args:
        request: Makes it with the hub's library.
        what: What is asked for, in words.
        refused: What to raise for 401, 403 and 404.

    Returns:
        The answer.

    Raises:
        UnreachableError: Nobody answered in time, or requests are forbidden.
        NetworkError: The hub failed, or what answered is not a hub.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # The base of the HTTP library's own errors, whichever library that is (httpx, httpx2).
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    if is_offline():
        raise UnreachableError(f"{what}: not in {hub_cache()}, and HF_HUB_OFFLINE forbids to ask")
    try:
        return _within(_DEADLINE_S, request)
    except HfHubHTTPError as error:
        raise failures.refusal(
            what, error.response.status_code, endpoint=endpoint(), refused=refused
        ) from error
    except HFValidationError as error:
        raise refused(f"{what}: not a name on the hub ({failures.reason(error)})") from error
    except OfflineModeIsEnabled as error:
        raise UnreachableError(f"{what}: HF_HUB_OFFLINE forbids to ask") from error
    except (transport_error, ConnectionError, TimeoutError) as error:
        raise failures.no_answer(what, error, endpoint=endpoint()) from error
    except OSError as error:
        raise NetworkError(f"{what}: cannot be asked for ({failures.reason(error)})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise failures.not_a_hub(what, endpoint=endpoint()) from error


def download(
    source: HubSource, path: str, *, again: bool, announce: Announce, said: RemoteFile | None = None
) -> Path:
    """Fetches one file into the hub's cache; half a file never gets its name.

    Args:
        source: Names the repository and the commit.
        path: The file's path in the repository.
        again: Replace the copy in the cache.
        said: What the hub says of it; a large file then goes on where a killed download stood.
        announce: Gets a line now and then where there is no terminal to draw on.

    Returns:
        The file's path.

    Raises:
        NetworkError: The download broke off, or the hub refused.
        DiskError: The cache cannot be written.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    what = f"{source}, {path}"
    try:
        return _download(source, path, again=again, announce=announce, said=said)
    except HfHubHTTPError as error:
        raise failures.refusal(
            what, error.response.status_code, endpoint=endpoint(), refused=NetworkError
        ) from error
    except (transport_error, LocalEntryNotFoundError, ValueError, RuntimeError) as error:
        raise failures.broke_off(what, error, endpoint=endpoint()) from error
    except OSError as error:
        if error.errno is None:
            raise failures.broke_off(what, error, endpoint=endpoint()) from error
        raise DiskError(f"{hub_cache()}: cannot be written ({error.strerror})") from error


def _download(
    source: HubSource, path: str, *, again: bool, announce: Announce, said: RemoteFile | None
) -> Path:
    from huggingface_hub import hf_hub_download

    progress = _progress(path, announce=announce)
    if said is not None and said.sha256 and (said.size_bytes or 0) >= resuming.RESUMED_BYTES:
        is_there = resuming.fetch_bytes(
            source,
            path,
            sha256=said.sha256,
            size_bytes=said.size_bytes or 0,
            cache=hub_cache(),
            progress=progress,
            announce=announce,
        )
        again = again and not is_there
    return Path(
        hf_hub_download(
            source.repo_id,
            path,
            repo_type=source.repo_type,
            revision=source.revision,
            force_download=again,
            tqdm_class=progress,
        )
    )


def _progress(name: str, *, announce: Announce) -> Any:
    """The library's own bar on a terminal; elsewhere a line for each quarter of a large file."""
    from huggingface_hub.utils import tqdm

    if sys.stderr.isatty():
        return tqdm

    class Quarters(tqdm):
        """Counts without drawing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._received = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            expected = int(self.total or 0)
            before = self._received * _QUARTERS // max(expected, 1)
            self._received += int(n or 0)
            after = self._received * _QUARTERS // max(expected, 1)
            if expected > _SILENT_BYTES and before < after:
                announce(f"{name}: {show_bytes(self._received)} of {show_bytes(expected)}")
            return super().update(n)

    return Quarters


def _within(seconds: float, request: Callable[[], _T]) -> _T:
    """Runs the request on a thread: looking up a name has no time limit of its own."""
    answers: list[_T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(request())
        except BaseException as error:
            faults.append(error)

    worker = threading.Thread(target=run, daemon=True, name="hub request")
    worker.start()
    worker.join(seconds)
    if faults:
        raise faults[0]
    if not answers:
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    return answers[0]
