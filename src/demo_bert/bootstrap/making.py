"""Makes the virtual environment, step by step.

A directory is ours from the moment it holds `demo_bert-begun`, which is written before anything
else, and ready from the moment it holds `demo_bert-ready.json`, which is written last. Begun and
not ready means that the making was interrupted: it is made anew, from what pip has in its cache.
A directory that is neither ours nor empty is never touched.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from demo_bert.bootstrap.child import Child
from demo_bert.bootstrap.download_size import Download
from demo_bert.bootstrap.existing_torch import Kept
from demo_bert.bootstrap.installer import Installer, Wanted
from demo_bert.bootstrap.interpreter import Distribution, distributions, require_venv
from demo_bert.bootstrap.lines import Lines, counted
from demo_bert.bootstrap.place import Place, Work, read_record, record_text, tools_text
from demo_bert.bootstrap.requirements import TORCH, not_satisfied, read_pins, read_ranges
from demo_bert.downloads import free_disk, show_bytes
from demo_bert.errors import DiskError, FailureError, UserError
from demo_bert.files import write_text

# What has to fit at least, per byte of packed files: the files while they are fetched, and what is
# unpacked from them (torch 2.13.0 for CPUs grows 3.6 times; the plainest packages 1.5 times).
_LEAST_UNPACKED = 1.5


def require_room(place: Place) -> None:
    """Makes sure that an environment can be made in its place.

    Args:
        place: Where; nothing is changed there.

    Raises:
        UserError: The directory holds something that is not ours, or this Python lacks the
            module venv.
        OSError: The directory cannot be read.
    """
    directory = place.directory
    if directory.exists() and not (directory.is_dir() and _is_ours_or_empty(place)):
        raise UserError(
            f"{directory} is there and was not made by demo_bert, so it is left alone; move it"
            " away, or set DEMO_BERT_VENV to another directory"
        )
    require_venv()


class Making:
    """One making of an environment, or of a part of it.

    Args:
        place: The checkout.
        lock: The descriptor of the lock that is held.
        lines: Where steps are shown.
        with_tools: Whether the tools of ./check are made too.
    """

    def __init__(self, place: Place, *, lock: int, lines: Lines, with_tools: bool) -> None:
        self._place = place
        self._lock = lock
        self._lines = lines
        self._with_tools = with_tools
        self._installer = Installer(place.python, place.directory, lock=lock, lines=lines)
        self._step = 0
        self._num_steps = 0

    def run(self, work: Work, kept: Kept | None, *, passed_over: Distribution | None) -> None:
        """Does the work; an interruption at any moment leaves what the next call can go on from.

        Args:
            work: What to do.
            kept: The torch to make the environment on top of, or None.
            passed_over: A torch that the interpreter has and that cannot be used, or None.

        Raises:
            UserError: The directory is not ours.
            FailureError: pip failed, or the disk is too small.
            OSError: Something cannot be written.
        """
        begin_s = time.monotonic()
        record = read_record(self._place.ready)
        if work != "all" and record is not None:
            kept = record.kept
        self._introduce(work, kept, passed_over=passed_over)
        wanted = self._wanted(work, kept)
        self._num_steps = (work == "all") + len(wanted)
        if work == "all":
            require_room(self._place)
            self._make_empty(kept)
        if work != "tools":
            self._place.ready.unlink(missing_ok=True)
        self._place.tools.unlink(missing_ok=True)
        self._install(wanted)
        os.sync()
        write_text(self._place.ready, record_text(self._place.record_now(kept)))
        if self._with_tools:
            write_text(self._place.tools, tools_text(self._place))
        self._lines.say(f"ready after {time.monotonic() - begin_s:.0f} s")

    def _introduce(
        self, work: Work, kept: Kept | None, *, passed_over: Distribution | None
    ) -> None:
        directory = self._place.directory
        if work == "all" and self._place.begun.exists():
            is_changed = self._place.ready.exists()
            reason = "what it was made of has changed" if is_changed else "it was not finished"
            self._lines.say(f"making {directory} anew, as {reason}")
        elif work == "all":
            self._lines.say(f"first run: making {directory} with Python {sys.version.split()[0]}")
        elif work == "pins":
            self._lines.say(f"requirements.lock has changed: bringing {directory} up to date")
        else:
            self._lines.say(f"adding what ./check needs to {directory}")
        if work == "all" and kept is not None:
            torch = kept.torch
            self._lines.say(f"torch {torch.version} of {torch.directory} is kept and used")
        if work == "all" and passed_over is not None:
            self._lines.say(
                f"torch {passed_over.version} of {passed_over.directory} is not used:"
                f" demo_bert needs {read_ranges(self._place.root / 'pyproject.toml')[TORCH]}"
            )

    def _wanted(self, work: Work, kept: Kept | None) -> list[Wanted]:
        """What pip has to install, in this order: what has no torch in it first."""
        place = self._place
        constraints = None if kept is None else self._constraints
        wanted: list[Wanted] = []
        pins = read_pins(place.pins)
        if kept is not None:
            ranges = read_ranges(place.root / "pyproject.toml")
            pins = not_satisfied(pins, ranges, present=distributions(kept.directories))
        if work != "tools":
            others = tuple(pin.requirement for pin in pins if pin.name != TORCH)
            wanted.append(Wanted("packages", others, constraints=constraints))
        if work != "tools" and kept is None:
            torch = tuple(pin.requirement for pin in pins if pin.name == TORCH)
            index = os.environ.get("DEMO_BERT_TORCH_INDEX") or None
            wanted.append(Wanted(TORCH, torch, index=index))
        if self._with_tools:
            tools = tuple(pin.requirement for pin in read_pins(place.tool_pins))
            wanted.append(Wanted("tools", tools, constraints=constraints))
        return [each for each in wanted if each.requirements]

    def _next_step(self, text: str) -> str:
        self._step += 1
        label = f"step {self._step} of {self._num_steps}"
        self._lines.say(f"{label}: {text}")
        return label

    def _make_empty(self, kept: Kept | None) -> None:
        """The environment with nothing but pip, on top of the torch that is kept."""
        place = self._place
        place.directory.mkdir(parents=True, exist_ok=True)
        write_text(place.begun, "Made by demo_bert; safe to delete, with all of this directory.\n")
        _clear(place)
        self._next_step("a virtual environment")
        log = place.directory / "venv.log"
        child = Child(
            [sys.executable, "-I", "-m", "venv", str(place.directory)],
            os.environ,
            log=log,
            lock=self._lock,
        )
        try:
            while (status := child.wait(1.0)) is None:
                pass
        finally:
            child.end()
        if status != 0:
            said = child.said().strip().splitlines() or [f"exit status {status}"]
            raise FailureError(f"{sys.executable} -m venv failed: {said[-1]} (all of it: {log})")
        if kept is not None:
            self._put_on_top(kept)

    def _put_on_top(self, kept: Kept) -> None:
        """Lets the environment see what the interpreter sees, after its own packages.

        Not by system_site_packages: where the interpreter is one of another virtual environment,
        that would show what lies below it instead.
        """
        (packages,) = self._place.directory.glob("lib/python3*/site-packages")
        lines = (f"import site; site.addsitedir({path!r})\n" for path in kept.directories)
        write_text(packages / "demo_bert-kept.pth", "".join(lines))
        write_text(self._constraints, f"{TORCH}=={kept.torch.version}\n")

    @property
    def _constraints(self) -> Path:
        return self._place.directory / "kept.txt"

    def _install(self, wanted: list[Wanted]) -> None:
        """Says how much there is to fetch, then fetches and installs it."""
        if not wanted:
            return
        self._lines.say("asking the package index how large the download is")
        downloads: list[Download] = []
        for download in self._installer.measure(wanted):
            for earlier in downloads:
                download = download.without(earlier)
            downloads.append(download)
        self._announce(wanted, downloads)
        for each, download in zip(wanted, downloads, strict=True):
            label = self._next_step(_title(each))
            remote_bytes = download.remote_bytes if download.is_complete else None
            self._installer.install(each, label, remote_bytes=remote_bytes)

    def _announce(self, wanted: list[Wanted], downloads: list[Download]) -> None:
        """Says what is fetched, how large it is and where it goes; refuses what cannot fit."""
        remote_bytes = sum(download.remote_bytes for download in downloads)
        local_bytes = sum(download.local_bytes for download in downloads)
        needed_bytes = round(remote_bytes * (1 + _LEAST_UNPACKED) + local_bytes * _LEAST_UNPACKED)
        directory = self._place.directory
        free_bytes = free_disk(directory)
        total = show_bytes(remote_bytes) if remote_bytes else "nothing"
        if not all(download.is_complete for download in downloads):
            total = f"more than {total}, the index does not tell all sizes"
        parts = (
            f"{_title(each)}: {_described(download)}"
            for each, download in zip(wanted, downloads, strict=True)
        )
        self._lines.say(f"download: {total} ({'; '.join(parts)})")
        self._lines.say(
            f"they go to {directory}, where {show_bytes(free_bytes)} are free; what pip has in its"
            " cache is not fetched again"
        )
        if free_bytes < needed_bytes:
            raise DiskError(
                f"{directory}: {show_bytes(free_bytes)} are free, and at least"
                f" {show_bytes(needed_bytes)} are needed; make room, or set DEMO_BERT_VENV to a"
                " directory on a larger disk"
            )


def _title(wanted: Wanted) -> str:
    if wanted.name == TORCH:
        return f"{wanted.requirements[0].replace('==', ' ')} and its libraries"
    purpose = " for ./check" if wanted.name == "tools" else ""
    return counted(len(wanted.requirements), "package") + purpose


def _described(download: Download) -> str:
    parts: list[str] = []
    if download.remote:
        parts.append(show_bytes(download.remote_bytes))
    if download.local:
        parts.append(f"{show_bytes(download.local_bytes)} from this machine")
    if not download.is_complete:
        return "at least " + " and ".join(parts) if parts else "unknown"
    return " and ".join(parts) or "nothing"


def _is_ours_or_empty(place: Place) -> bool:
    return place.begun.exists() or not any(place.directory.iterdir())


def _clear(place: Place) -> None:
    """Empties the directory; the file that makes it ours stays, should this be interrupted."""
    for entry in place.directory.iterdir():
        if entry == place.begun:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
