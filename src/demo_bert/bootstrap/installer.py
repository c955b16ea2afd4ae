"""Runs pip in the virtual environment, and shows how far it is."""

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from demo_bert.bootstrap.child import Child
from demo_bert.bootstrap.download_size import Download, measure
from demo_bert.bootstrap.lines import Lines, counted
from demo_bert.bootstrap.pip_failure import explain
from demo_bert.downloads import show_bytes

_WORK = "tmp"

# Settings of pip that would send packages elsewhere, take others than the pins and what they need,
# or silence the lines that are read here.
_NOT_OURS = (
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN"),
    *("PIP_NO_DEPS", "PIP_IGNORE_INSTALLED", "PIP_FORCE_REINSTALL", "PIP_QUIET"),
)
_FETCHED = re.compile(
    r"^\s*(?:Downloading|Using cached|Processing) \S+\.(?:whl|tar\.gz)\b(?!\.)", re.M
)
_MEASURE_LIMIT_S = 15.0
_INSTALLING = re.compile(r"^Installing collected packages: (.*)$", re.M)


@dataclass(frozen=True)
class Wanted:
    """What one pip command installs.

    Attributes:
        name: Names the log, `pip-<name>.log`.
        requirements: As pip takes them.
        index: The address of the only index that is asked, or none: those that pip is set up for.
        constraints: A file with versions that must stay, or none.
    """

    name: str
    requirements: tuple[str, ...]
    index: str | None = None
    constraints: Path | None = None


class Installer:
    """pip in one virtual environment.

    Args:
        python: The environment's interpreter.
        directory: The environment; pip's log and its unfinished files go there, so that no small
            /tmp has to hold them.
        lock: The descriptor of the lock that pip shares with us.
        lines: Where progress is shown.
    """

    def __init__(self, python: Path, directory: Path, *, lock: int, lines: Lines) -> None:
        self._python = python
        self._directory = directory
        self._lock = lock
        self._lines = lines

    def measure(self, wanted: Sequence[Wanted]) -> list[Download]:
        """How much has to be fetched; it takes some 20 seconds at most.

        Args:
            wanted: What the commands install, each as if it were the only one.

        Returns:
            For each command the files with their sizes, as far as the indexes tell.

        Raises:
            FailureError: pip finds that something cannot be installed.
        """
        until_s = time.monotonic() + _MEASURE_LIMIT_S
        downloads: list[Download] = []
        with ExitStack() as stack:
            children: list[Child] = []
            for each in wanted:
                children.append(self._start(each, "--dry-run", "-v"))
                stack.callback(children[-1].end)
            for each, child in zip(wanted, children, strict=True):
                download, status = measure(child, self._env(each), until_s=until_s)
                if status:
                    raise explain(child.said(), self._log(each))
                downloads.append(download)
        self._remove_work()
        return downloads

    def install(self, wanted: Wanted, label: str, *, remote_bytes: int | None = None) -> None:
        """Installs packages, and shows how far that is.

        Args:
            wanted: What to install.
            label: Stands before the progress.
            remote_bytes: What there is to fetch, where that is known.

        Raises:
            FailureError: pip failed; of its classes, the one that fits.
        """
        child = self._start(wanted)
        begin_s = time.monotonic()
        present = self._num_installed()
        try:
            while (status := child.wait(0.5)) is None:
                progress = self._progress(child, present, remote_bytes=remote_bytes)
                self._lines.progress(f"{label}: {progress}, {time.monotonic() - begin_s:.0f} s")
            if status != 0:
                raise explain(child.said(), self._log(wanted))
        finally:
            child.end()
            self._lines.clear()
            self._remove_work()

    def _start(self, wanted: Wanted, *options: str) -> Child:
        # -P: a directory "pip" where the user happens to stand must not be taken for pip.
        command = [str(self._python), "-P", "-m", "pip", "install", "--no-user"]
        command += ["--progress-bar", "off", *options]
        if wanted.constraints is not None:
            command += ["--constraint", str(wanted.constraints)]
        command += wanted.requirements
        return Child(command, self._env(wanted), log=self._log(wanted), lock=self._lock)

    def _log(self, wanted: Wanted) -> Path:
        return self._directory / f"pip-{wanted.name}.log"

    def _env(self, wanted: Wanted) -> dict[str, str]:
        work = self._directory / _WORK
        work.mkdir(exist_ok=True)
        # PYTHONPATH is for the program, not for what counts as installed in the environment.
        dropped = (*_NOT_OURS, "PYTHONPATH", "PYTHONHOME")
        env = {name: value for name, value in os.environ.items() if name not in dropped}
        env |= {"TMPDIR": str(work), "PYTHONUNBUFFERED": "1", "PIP_NO_INPUT": "1"}
        env.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        if wanted.index is not None:
            env["PIP_INDEX_URL"] = wanted.index
        if wanted.constraints is not None:
            # A vendor's constraints keep its packages as they are; ours does that, and the rest
            # goes beside them.
            env.pop("PIP_CONSTRAINT", None)
        return env

    def _remove_work(self) -> None:
        shutil.rmtree(self._directory / _WORK, ignore_errors=True)

    def _progress(self, child: Child, present: int, *, remote_bytes: int | None) -> str:
        said = child.said()
        if match := _INSTALLING.search(said):
            num_packages = match[1].count(",") + 1
            done = min(max(self._num_installed() - present, 0), num_packages)
            written_bytes = child.written_bytes()
            written = f", {show_bytes(written_bytes)} written" if written_bytes else ""
            return f"installed {done} of {counted(num_packages, 'package')}{written}"
        fetched = counted(len(_FETCHED.findall(said)), "package") + " found"
        fetched_bytes = _bytes_in(self._directory / _WORK)
        if not fetched_bytes:
            return fetched
        of = f" of {show_bytes(remote_bytes)}" if remote_bytes else ""
        return f"{fetched}, {show_bytes(fetched_bytes)}{of} fetched"

    def _num_installed(self) -> int:
        return sum(1 for _ in self._directory.glob("lib/python3*/site-packages/*.dist-info"))


def _bytes_in(work: Path) -> int:
    """What lies in the directories that pip downloads to."""
    total_bytes = 0
    for path in work.glob("pip-unpack-*/*"):
        try:
            total_bytes += path.stat().st_size
        except FileNotFoundError:
            pass
    return total_bytes
