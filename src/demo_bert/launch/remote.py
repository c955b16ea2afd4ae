"""Asks hosts over ssh: without questions, host keys always checked. Standard library alone."""

import io
import json
import shlex
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from demo_bert import launchers
from demo_bert.errors import FailureError
from demo_bert.launch.host import START

SSH_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"),
)
"""Of every ssh that we start, and of mpirun's."""

_SSH_FAILED = 255
_MENDS = (
    (
        "identification has changed",
        "its key is not the one that is known here: where that is meant (it was installed anew),"
        " `ssh-keygen -R '{known}'`, then `ssh {host}` once by hand",
    ),
    ("host key", "its key is not known: compare it by `ssh {host}` once by hand"),
    ("permission denied", "it wants a password: `ssh-copy-id {host}`"),
    ("could not resolve", "no such name: give its address"),
    ("refused", "no sshd listens there: start it, or give its port in SSH_PORT"),
    ("", "not reachable: is it on, and its network up?"),
)


class HostError(FailureError):
    """A host did not answer, or not as it should."""


@dataclass(frozen=True)
class Program:
    """Where the program stands on the hosts.

    Attributes:
        python: The interpreter.
        source: The directory that holds the package.
        cwd: Where it runs.
        root: The checkout; None where the program was installed.
    """

    python: str
    source: str
    cwd: str
    root: str | None


def program_on_hosts(source: Path, *, cwd: Path, remote_dir: str | None) -> Program:
    """The program's place on the hosts: as here, but for the checkout's own directory.

    Args:
        source: The directory that holds the package here.
        cwd: Where the program runs here.
        remote_dir: Where the checkout is on the hosts; None: as here.

    Returns:
        The place.
    """
    root = source.parent
    is_checkout = (root / "demo_bert").is_file() and (root / "pyproject.toml").is_file()
    if not is_checkout:
        return Program(sys.executable, str(source), remote_dir or str(cwd), None)

    def there(path: str | Path) -> str:
        path = Path(path)
        if remote_dir is None or not path.is_relative_to(root):
            return str(path)
        return str(Path(remote_dir) / path.relative_to(root))

    return Program(there(sys.executable), there(source), there(cwd), there(root))


class Hosts:
    """The way to the hosts.

    Args:
        program: Where the program stands there.
        port: Of ssh; None: as the user's ssh configuration says.
    """

    def __init__(self, program: Program, *, port: int | None) -> None:
        self.program, self.port = program, port

    @property
    def ssh_arguments(self) -> tuple[str, ...]:
        """What follows `ssh`."""
        return (*SSH_OPTIONS, *(() if self.port is None else ("-p", str(self.port))))

    def ask(self, host: str, verb: str, asked: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Asks one host.

        Args:
            host: Its name or address.
            verb: See `host.main`.
            asked: Plain values.
            timeout_s: How long it may take.

        Returns:
            Its answer.

        Raises:
            HostError: With what is wrong, and the mend.
        """
        done = self._run(host, verb, json.dumps(asked).encode(), timeout_s=timeout_s)
        try:
            return json.loads(done)
        except ValueError as error:
            raise HostError(f"{host}: answered {done[:200]!r}; a login there must not print") from (
                error
            )

    def ask_all(
        self,
        hosts: Sequence[str],
        verb: str,
        asked: Callable[[str], Mapping[str, Any]],
        *,
        timeout_s: float,
    ) -> dict[str, Any | HostError]:
        """Asks all hosts at once.

        Args:
            hosts: Whom.
            verb: See `host.main`.
            asked: What each is asked.
            timeout_s: How long each may take.

        Returns:
            Host -> its answer, or what is wrong with it.
        """

        def one(host: str) -> Any:
            try:
                return self.ask(host, verb, asked(host), timeout_s=timeout_s)
            except HostError as error:
                return error

        with ThreadPoolExecutor(max(1, len(hosts))) as pool:
            return dict(zip(hosts, pool.map(one, hosts), strict=True))

    def pull(
        self, host: str, path: str, *, to: Path, without: Sequence[str], timeout_s: float
    ) -> None:
        """Fetches the files below a directory of a host.

        Args:
            host: Whose.
            path: Which, from where the program runs.
            to: Where to; made where it is missing.
            without: Names of directories and files that stay.
            timeout_s: How long it may take.

        Raises:
            HostError: It failed.
        """
        asked = {"cwd": self.program.cwd, "path": path, "without": list(without)}
        data = self._run(host, "pull", json.dumps(asked).encode(), timeout_s=timeout_s)
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                if members := tar.getmembers():
                    to.mkdir(parents=True, exist_ok=True)
                    tar.extractall(to, members, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise HostError(f"{host}: {path} could not be brought to {to} ({error})") from error

    def push(
        self, host: str, path: str, *, files: Sequence[Path], below: Path, timeout_s: float
    ) -> None:
        """Gives a host files.

        Args:
            host: Whom.
            path: The directory there that they go to, from where the program runs.
            files: Which.
            below: The directory here whose place `path` takes.
            timeout_s: How long it may take.

        Raises:
            HostError: It failed.
        """
        asked = json.dumps({"cwd": self.program.cwd, "path": path}).encode() + b"\n"
        with tempfile.TemporaryFile() as packed:
            packed.write(asked)
            packed.flush()
            # The hub's cache has links where others have files.
            with tarfile.open(fileobj=packed, mode="w", dereference=True) as tar:
                for file in files:
                    tar.add(file, arcname=file.relative_to(below).as_posix(), recursive=False)
            packed.seek(0)
            self._run(host, "push", packed, timeout_s=timeout_s)

    def command(self, host: str, *arguments: str) -> list[str]:
        """The command that runs our part there.

        Args:
            host: Where; this machine itself needs no ssh.
            *arguments: Of `host.main`.

        Returns:
            A command line.
        """
        there = [self.program.python, "-P", "-c", START, self.program.source, *arguments]
        return there if is_here(host) else ["ssh", *self.ssh_arguments, host, shlex.join(there)]

    def _run(self, host: str, verb: str, given: bytes | IO[bytes], *, timeout_s: float) -> bytes:
        data, file = (given, None) if isinstance(given, bytes) else (None, given)
        try:
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                self.command(host, verb),
                input=data,
                stdin=file,
                capture_output=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise HostError(f"{host}: no answer in {timeout_s:.0f} s; is it up?") from error
        except OSError as error:
            raise HostError(f"{host}: ssh cannot be started ({error}); install it") from error
        if done.returncode == 0:
            return done.stdout
        raise HostError(f"{host}: {self._what_is_wrong(host, done)}")

    def _what_is_wrong(self, host: str, done: "subprocess.CompletedProcess[bytes]") -> str:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = lines[-1].strip() if lines else f"exit code {done.returncode}"
        if done.returncode == _SSH_FAILED:
            text = " ".join(lines).lower()
            mend = next(mend for sign, mend in _MENDS if sign in text)
            known = host if self.port in (None, 22) else f"[{host}]:{self.port}"
            return f"{mend.format(host=host, known=known)} (ssh: {said})"
        if done.returncode in (126, 127) or "No module named 'demo_bert" in said:
            return (
                f"the program is not at {self.program.source} with {self.program.python} ({said});"
                " give DEMO_BERT_REMOTE_DIR, or copy it there: demo_bert doctor --setup-hosts"
            )
        return said


def is_here(host: str) -> bool:
    """Whether a host is this machine.

    Args:
        host: A name or an address.

    Returns:
        True where its address is one of this machine's.
    """
    try:
        address = socket.gethostbyname(host)
    except OSError:
        return False
    return address in launchers.addresses().values()
