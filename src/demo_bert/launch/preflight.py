"""What must be right on every host before anything heavy starts: all problems, with mends."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_bert import __version__
from demo_bert.launch.host import (
    content_digest,
    listing_digest,
    package_digest,
    package_version,
)
from demo_bert.launch.remote import HostError, Hosts

_LOOK_TIMEOUT_S = 25.0
_MOST_SKEW_S = 30.0
_SETUP = "demo_bert doctor --setup-hosts copies this one there"


@dataclass(frozen=True)
class Needs:
    """What a job needs of each host.

    Attributes:
        device: As `--device` gives it.
        workers: On each host; None: as many as it has accelerators.
        paths: Files and directories that the user named, which all hosts must have alike.
        sources: Likewise, but too large to be hashed or given: names and sizes are compared.
        output_dir: The run directory, from where the program runs.
        disk_bytes: Free there.
        memory_bytes: Free, for all workers of a host; None: not known.
        interface: That must be there; None: any.
        uses_mpi: Whether Open MPI is to start something there.
        mpi_path: Where its programs are, beside the usual places.
    """

    device: str
    workers: int | None
    paths: tuple[str, ...]
    output_dir: str
    disk_bytes: int = 0
    memory_bytes: int | None = None
    interface: str | None = None
    uses_mpi: bool = True
    mpi_path: str = "/usr/bin"
    sources: tuple[str, ...] = ()


@dataclass
class Findings:
    """What a look at all hosts gave.

    Attributes:
        facts: Host -> what it told; of those that answered.
        problems: Host -> what is wrong there, each with its mend.
        lacking: Host -> paths that are here and not there.
        seconds: How long it took.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """All problems, each on a line that begins with the host."""
        return [
            text if text.startswith(host) else f"{host}: {text}"
            for host, texts in self.problems.items()
            for text in texts
        ]


def look(hosts: Hosts, names: Sequence[str], needs: Needs, *, marker: str) -> Findings:
    """Asks every host at once, and compares.

    Args:
        hosts: The way to them.
        names: Which.
        needs: What the job needs.
        marker: Name of a file that each leaves beside the run directory, its number at its end;
            empty: none.

    Returns:
        The findings.
    """
    began = time.time()
    number = {name: index for index, name in enumerate(names)}

    def asked(name: str) -> dict[str, Any]:
        return {
            "cwd": hosts.program.cwd,
            "output_dir": needs.output_dir,
            "marker": f"{marker}-{number[name]}" if marker else "",
            "paths": list(needs.paths),
            "sources": list(needs.sources),
            "device": needs.device,
            "aim": names[1] if name == names[0] and len(names) > 1 else names[0],
            "mpi_path": needs.mpi_path,
        }

    answers = hosts.ask_all(names, "look", asked, timeout_s=_LOOK_TIMEOUT_S)
    ended = time.time()
    findings = Findings(seconds=ended - began)
    here = {path: content_digest(Path(path)) for path in needs.paths}
    for name, facts in answers.items():
        if isinstance(facts, HostError):
            findings.problems[name] = [str(facts)]
            continue
        findings.facts[name] = facts
        problems = [
            *_program_problems(facts, uses_mpi=needs.uses_mpi),
            *_machine_problems(facts, needs, began=began, ended=ended),
        ]
        if problems:
            findings.problems[name] = problems
    _compare_paths(findings, here)
    _compare_sources(findings, {path: listing_digest(Path(path)) for path in needs.sources})
    return findings


def _program_problems(facts: Mapping[str, Any], *, uses_mpi: bool) -> list[str]:
    """Another version of the program or of PyTorch; something that is not installed."""
    problems = []
    if facts["version"] != __version__:
        problems.append(f"demo_bert {facts['version']} there, {__version__} here; {_SETUP}")
    elif facts["digest"] != package_digest():
        problems.append(f"demo_bert's files differ from those here; {_SETUP}")
    torch = package_version("torch")
    if facts["torch"] is None:
        problems.append(f"PyTorch is not installed there, {torch} is here; {_SETUP}")
    elif facts["torch"] != torch:
        problems.append(f"PyTorch {facts['torch']} there, {torch} here; install the same")
    if uses_mpi and facts["mpi"] is None:
        problems.append("Open MPI is not installed there: apt-get install openmpi-bin")
    return problems


def _machine_problems(
    facts: Mapping[str, Any], needs: Needs, *, began: float, ended: float
) -> list[str]:
    """Disk, memory, devices, clock, network."""
    problems = []
    if not facts["has_cwd"]:
        problems.append("has no such directory as the one the program runs in; make it")
    if "disk_problem" in facts:
        problems.append(f"{facts['disk_problem']}: make room there, or give another -o")
    elif facts.get("free_disk_bytes", needs.disk_bytes) < needs.disk_bytes:
        problems.append(
            f"{facts['free_disk_bytes'] / 1e9:.2f} GB of disk free, {needs.disk_bytes / 1e9:.2f}"
            " wanted for checkpoints: make room there, or give another -o or a smaller --keep"
        )
    free = facts["free_memory_bytes"]
    if free is not None and needs.memory_bytes is not None and free < needs.memory_bytes:
        problems.append(
            f"{free / 1e9:.1f} GB of memory free, {needs.memory_bytes / 1e9:.1f} wanted:"
            " fewer workers (-v N) or a smaller -b"
        )
    if "device_problem" in facts:
        problems.append(facts["device_problem"])
    elif needs.workers and 0 < facts["devices"] < needs.workers:
        problems.append(
            f"{facts['devices']} devices, {needs.workers} workers: give -v {facts['devices']}"
        )
    skew = max(began - facts["time"], facts["time"] - ended, 0.0)
    if skew > _MOST_SKEW_S:
        problems.append(f"its clock is {skew:.0f} s off: turn on its time service")
    if needs.interface is not None and needs.interface not in facts["addresses"]:
        there = ", ".join(facts["addresses"])
        problems.append(f"no interface {needs.interface} with an address; there are {there}")
    elif needs.interface is None and facts["interface"] is None:
        problems.append("no way to the other hosts: check its network, or give MPI_TPC_INCLUDE")
    return problems


def _compare_paths(findings: Findings, here: Mapping[str, str | None]) -> None:
    """What all must have alike: what is here and not there can be given, what differs cannot."""
    for path, own in here.items():
        found = {name: facts["paths"][path] for name, facts in findings.facts.items()}
        expected = own or next((digest for digest in found.values() if digest), None)
        for name, digest in found.items():
            if digest is None and own is not None:
                findings.lacking.setdefault(name, []).append(path)
            elif digest is None and expected is not None:
                findings.problems.setdefault(name, []).append(f"{path} is not there; put it there")
            elif digest is not None and digest != expected:
                where = "here" if own else "on the others"
                findings.problems.setdefault(name, []).append(
                    f"{path} is not the same as {where}; make them equal, or remove it there"
                )


def _compare_sources(findings: Findings, here: Mapping[str, str | None]) -> None:
    """What every host has to see, and nobody is given."""
    for path, own in here.items():
        for name, facts in findings.facts.items():
            if (listed := facts.get("sources", {}).get(path)) != own:
                what = "is not there" if listed is None else "has other files or sizes than here"
                findings.problems.setdefault(name, []).append(
                    f"{path} {what}: all hosts must see the same, on shared storage or as copies"
                )
