"""Files of data sets on the hub that are read in place, range by range, and never kept."""

import io
import time
from typing import TYPE_CHECKING, Any

from demo_bert.downloads import without_credentials
from demo_bert.errors import DemoBertError, NetworkError
from demo_bert.hub import client, failures
from demo_bert.hub.sources import HubFile, HubSource

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo

_ATTEMPTS = 5
_TIMEOUT_S = 60.0
_LIST_TIMEOUT_S = 8.0


def data_set(repo_id: str, revision: str | None, *, refused: type[DemoBertError]) -> HubSource:
    """What the hub says of a data set.

    Args:
        repo_id: `owner/name`.
        revision: A commit, a branch or a tag; None for the main branch.
        refused: What to raise where the hub does not know the name or does not open it.

    Returns:
        Its commit, licence and files.

    Raises:
        UnreachableError: Nobody answered in time, or requests are forbidden.
        NetworkError: The hub failed, or what answered is not a hub.
        UsageError: `HF_ENDPOINT` or a proxy variable is not an address.
    """
    client.prepare()

    def request() -> "DatasetInfo":
        from huggingface_hub import HfApi

        return HfApi().dataset_info(
            repo_id, revision=revision, files_metadata=True, timeout=_LIST_TIMEOUT_S
        )

    what = repo_id + (f"@{revision[:12]}" if revision else "")
    info = client.ask(request, what=what, refused=refused)
    if not info.sha:
        raise NetworkError(f"{what}: {client.endpoint()} names no commit; check HF_ENDPOINT")
    licences = [tag.removeprefix("license:") for tag in info.tags or [] if "license:" in tag]
    files = tuple(
        HubFile(file.rfilename, file.lfs.sha256 if file.lfs else None, file.size)
        for file in info.siblings or []
    )
    return HubSource(repo_id, "dataset", info.sha, ", ".join(licences) or "not stated", files)


class RemoteFile(io.RawIOBase):
    """A file on the hub, read where it is asked for.

    Args:
        source: Names the repository and the commit.
        path: The file's path in the repository.
        size_bytes: Its size.
    """

    def __init__(self, source: HubSource, path: str, *, size_bytes: int) -> None:
        super().__init__()
        self._source = source
        self._path = path
        self._size_bytes = size_bytes
        self._place = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to another place; nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size_bytes}[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fetches as many bytes as there is room for.

        Raises:
            NetworkError: The hub refused, or broke off again and again.
        """
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._size_bytes - self._place)
        if count <= 0:
            return 0
        view[:count] = self._range(self._place, count)
        self._place += count
        return count

    def _range(self, begin: int, count: int) -> bytes:
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import build_hf_headers

        transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
        what = f"{self._source}, {self._path}"
        url = hf_hub_url(
            self._source.repo_id, self._path, repo_type="dataset", revision=self._source.revision
        )
        headers = {**build_hf_headers(), "Range": f"bytes={begin}-{begin + count - 1}"}
        error: Exception = ConnectionError("fewer bytes than were asked for")
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(2.0**attempt)
            try:
                answer = get_session().get(
                    url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S
                )
            except (transport_error, OSError) as found:
                error = found
                continue
            if answer.status_code >= 500 or answer.status_code == 429:
                error = ConnectionError(f"status {answer.status_code}")
            elif answer.status_code >= 400:
                raise failures.refusal(
                    what, answer.status_code, endpoint=client.endpoint(), refused=NetworkError
                )
            elif answer.status_code == 206 and len(answer.content) == count:
                return answer.content
            elif answer.status_code == 200 and len(answer.content) == self._size_bytes:
                return answer.content[begin : begin + count]
        endpoint = without_credentials(client.endpoint())
        raise failures.broke_off(what, error, endpoint=endpoint) from error
