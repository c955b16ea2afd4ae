"""What is wanted of the hub, as plain values."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HubFile:
    """One file of a repository on the hub.

    Attributes:
        path: Its path in the repository.
        sha256: 64 hexadecimal digits; None where the hash of the first copy is to hold.
        size_bytes: None where only the hub knows.
    """

    path: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class HubSource:
    """Files of one commit of a repository on the hub.

    Attributes:
        repo_id: `owner/name`.
        repo_type: Whether it is a model's repository or a data set's.
        revision: The commit, 40 hexadecimal digits.
        licence: Its licence, as the repository states it.
        files: What is used of it; to be fetched it needs at least one.
    """

    repo_id: str
    repo_type: Literal["model", "dataset"]
    revision: str
    licence: str
    files: tuple[HubFile, ...]

    @property
    def folder(self) -> str:
        """Where the hub's cache has this commit, from its root.

        Example:
            >>> HubSource("owner/name", "dataset", "c" * 4, "", ()).folder
            'datasets--owner--name/snapshots/cccc'
        """
        return f"{self.repo_type}s--{self.repo_id.replace('/', '--')}/snapshots/{self.revision}"

    def __str__(self) -> str:
        """The repository and the commit, for messages."""
        return f"{self.repo_id} at {self.revision[:12]}"
