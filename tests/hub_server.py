"""A small server on loopback that answers like the hub, and misbehaves where it is told to."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 1000
"""Files from here on are kept like large files: their ETag is their SHA-256."""

_FILE = re.compile(
    r"/(?P<data>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)
_ABOUT = re.compile(
    r"/api/(?:models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?"
)


@dataclass
class Repository:
    """A repository with one commit.

    Attributes:
        files: Contents by path.
        commit: 40 hexadecimal digits.
        branch: The name that stands for the commit.
        status: Answered to every request instead of the truth.
        behaviour: "page": a sign-in page with status 200; "wrong": other bytes of the same length;
            "cut": the first download of each large file breaks off in the middle; "broken": every
            download of one does, at its start; "stall": the first one stops in the middle until
            the server closes; "elsewhere": large files lie on another server.
    """

    files: dict[str, bytes]
    commit: str = "c" * 40
    branch: str = "main"
    status: int = 200
    behaviour: Literal["", "page", "wrong", "cut", "broken", "stall", "elsewhere"] = ""
    cut_already: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]


class HubServer:
    """The server: its repositories by name, and the requests that it has seen."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.storage: HubServer | None = None
        self.stalled = threading.Event()
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def requests_for(self, text: str, *, method: str = "GET") -> list[Request]:
        return [r for r in self.requests if text in r.path and r.method == method]

    def close(self) -> None:
        self.closing.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._http.server_close()
            self._thread.join(10)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A running server, and one more beside it that "elsewhere" points to."""
    hub, storage = HubServer(), HubServer()
    hub.storage, storage.repositories = storage, hub.repositories
    try:
        yield hub
    finally:
        hub.close()
        storage.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        _stop_at: int | None = None

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            hub.requests.append(Request(self.command, self.path, dict(self.headers.items())))
            path = unquote(urlsplit(self.path).path)
            if match := _FILE.fullmatch(path):
                self._file(match, body=body)
            elif match := _ABOUT.fullmatch(path):
                self._about(match)
            else:
                self._send(404, b"", {})

        def _refused(self, repository: Repository | None) -> bool:
            if repository is None:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif repository.status != 200:
                self._send(repository.status, b'{"error": "no"}', {})
            elif repository.behaviour == "page":
                page = b"<html><form>Sign in to this network</form></html>"
                self._send(200, page, {"Content-Type": "text/html", "ETag": '"page"'})
            else:
                return False
            return True

        def _file(self, match: re.Match[str], *, body: bool) -> None:
            repository = hub.repositories.get(match["repo"])
            if self._refused(repository) or repository is None:
                return
            data = repository.files.get(match["path"])
            if match["revision"] not in (repository.commit, repository.branch):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif data is None:
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            elif (
                body
                and "Range" in self.headers
                and repository.behaviour == "elsewhere"
                and hub.storage
            ):
                self._send(302, b"", {"Location": hub.storage.address + self.path})
            elif body:
                self._download(repository, match["path"], data)
            else:
                self._metadata(repository, data)

        def _metadata(self, repository: Repository, data: bytes) -> None:
            large = len(data) >= LARGE_BYTES
            etag = sha256(data) if large else hashlib.sha1(data).hexdigest()
            headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{etag}"'}
            if large and repository.behaviour == "elsewhere" and hub.storage is not None:
                headers["Location"] = hub.storage.address + self.path
                headers["X-Linked-Etag"] = f'"{etag}"'
                headers["X-Linked-Size"] = str(len(data))
                self._send(302, b"", headers)
            else:
                self._send(200, data, headers, body=False)

        def _download(self, repository: Repository, path: str, data: bytes) -> None:
            start, end = 0, len(data)
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start = int(wanted[1])
                end = min(int(wanted[2] or end) + 1, end)
            if repository.behaviour == "wrong" and len(data) >= LARGE_BYTES:
                data = bytes(len(data))
            headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{sha256(data)}"'}
            if wanted:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            self._stop_at = None
            if len(data) >= LARGE_BYTES and repository.behaviour == "broken":
                self._stop_at = 0
            elif path not in repository.cut_already and repository.behaviour in ("cut", "stall"):
                repository.cut_already.add(path)
                if len(data) >= LARGE_BYTES:
                    self._stop_at = (end - start) // 2
            self._send(206 if wanted else 200, data[start:end], headers)
            if self._stop_at is not None:
                self.close_connection = True
                if repository.behaviour == "stall":
                    self.wfile.flush()
                    hub.stalled.set()
                    hub.closing.wait(60)

        def _about(self, match: re.Match[str]) -> None:
            repository = hub.repositories.get(match["repo"])
            if self._refused(repository) or repository is None:
                return
            if (match["revision"] or repository.branch) not in (
                repository.commit,
                repository.branch,
            ):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = []
            for path, data in repository.files.items():
                about: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": "0"}
                if len(data) >= LARGE_BYTES:
                    about["lfs"] = {"size": len(data), "sha256": sha256(data), "pointerSize": 130}
                siblings.append(about)
            answer = {
                "id": match["repo"],
                "modelId": match["repo"],
                "sha": repository.commit,
                "private": False,
                "tags": ["license:apache-2.0"],
                "siblings": siblings,
            }
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _send(
            self,
            status: int,
            data: bytes,
            headers: dict[str, str],
            *,
            body: bool = True,
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body and self.command != "HEAD":
                self.wfile.write(data[: self._stop_at])

    return Handler
