"""Workers on several hosts: preflight, attempts, sweep, and the results brought back.

The invoking process supervises. Each attempt is a job of fixed size with a new meeting point; after
a failure everything that was started is swept, and the hosts that answer go on from the newest
checkpoint.
"""

import logging
import os
import shlex
import signal
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from demo_bert.clock import command_start
from demo_bert.errors import FailureError, RunDirectoryError, StopRequested
from demo_bert.launch.attempt import Attempt, Verdict
from demo_bert.launch.host import record_digest
from demo_bert.launch.job import Job
from demo_bert.launch.mpirun import Mpirun, mpirun_line, passed_variables
from demo_bert.launch.preflight import Findings, Needs, look
from demo_bert.launch.remote import HostError, Hosts
from demo_bert.stopping import StoppedAtOnce

if TYPE_CHECKING:
    from demo_bert.launch.caches import Fetched

_LOG = logging.getLogger(__name__)
_FAILURE = 1
_LOOKS_AFTER_FAILURE = 3
_BETWEEN_LOOKS_S = 5.0
_SHORT_S, _COPY_S = 20.0, 600.0
_FORWARDED = {
    signal.SIGTERM: signal.SIGUSR1,
    signal.SIGHUP: signal.SIGUSR1,
    signal.SIGUSR1: signal.SIGUSR1,
    signal.SIGINT: signal.SIGUSR2,
}


@dataclass
class Order:
    """What is to be run.

    Attributes:
        names: The hosts, as the user named them.
        workers: On each.
        argv: The program's arguments.
        output_dir: The run directory, from where the program runs.
        global_batch_size: Of each phase; None: given by other means.
        needs: Of each host.
        min_hosts: Hosts that are enough to go on.
        max_restarts: Times that lost workers are started again.
        timeout_s: How long a worker may not answer; infinite where workers see to it themselves.
        interface: Between the hosts; None: the one towards the first.
        map_by: What workers are placed by.
        cores: Of each worker.
        mpirun_command: What the user gave instead of `mpirun`.
        has_run: Whether there is a run directory.
        must_share: Whether all hosts have to see the same directory.
        fetched: What the workers fetch; a host that cannot is given it.
    """

    names: tuple[str, ...]
    workers: int
    argv: tuple[str, ...]
    output_dir: str
    global_batch_size: tuple[int, ...] | None
    needs: Needs
    min_hosts: int
    max_restarts: int
    timeout_s: float
    interface: str | None = None
    map_by: str | None = None
    cores: int | None = None
    mpirun_command: str | None = None
    has_run: bool = True
    must_share: bool = False
    fetched: "tuple[Fetched, ...]" = ()


@dataclass
class _State:
    """Where the supervision stands: it works out what to start, the workers run, it settles."""

    requests: list[int] = field(default_factory=list)
    stage: Literal["before", "running", "settling"] = "before"
    cause: str = ""
    first: str = ""
    is_here: bool = False

    @property
    def asked_by(self) -> str:
        """The signal that asked to stop first."""
        return signal.Signals(self.requests[0]).name


def run_on_hosts(order: Order, hosts: Hosts) -> int:
    """Runs a training command on several hosts to its end.

    Args:
        order: What.
        hosts: The way to the hosts.

    Returns:
        The exit code of the workers.

    Raises:
        FailureError: Something is wrong with hosts, or workers were lost too often.
        StopRequested: It was asked to stop between two attempts.
        StoppedAtOnce: It was asked to stop before the first began.
    """
    state = _State()
    where = " from the newest checkpoint" if order.has_run else ""
    with _signals_heard(state):
        for number in range(order.max_restarts + 1):
            state.stage = "before"
            try:
                verdict = _attempted(order, hosts, number=number, state=state)
            except StoppedAtOnce as stop:
                if number == 0:
                    raise
                raise StopRequested(f"stopped by {stop}; the same command goes on{where}") from None
            if not verdict.is_worth_another:
                return verdict.code
            if state.requests:
                raise StopRequested(
                    f"stopped by {state.asked_by} while workers were lost; the same command goes"
                    f" on{where}"
                )
            state.cause = verdict.cause
            if number < order.max_restarts:
                _LOG.warning("starting again (%d of %d)", number + 1, order.max_restarts)
    raise FailureError(
        f"{state.cause}; given up after {order.max_restarts} restarts; the same command goes on"
        f"{where}"
    )


def _attempted(order: Order, hosts: Hosts, *, number: int, state: _State) -> Verdict:
    """One attempt, from the look at all hosts until nothing of it is left there."""
    directory = f"/tmp/demo_bert-{os.getuid()}-{uuid.uuid4().hex[:12]}"
    marker = f".demo_bert-{uuid.uuid4().hex[:12]}"
    markers = [f"{marker}-{index}" for index in range(len(order.names))]
    was_made = False
    began = time.time() if number else command_start()
    try:
        findings = _usable(order, hosts, marker=marker, is_first=number == 0)
        names = _in_order(order, findings, names=order.names)
        job = _job(
            *(order, hosts, findings),
            directory=directory,
            names=names,
            number=number,
            cause=state.cause,
        )
        was_made = True
        job = replace(job, spent_s=time.time() - began)
        job = _made_ready(job, order, hosts, findings, markers=markers, state=state)
        verdict = _attempt(job, hosts, timeout_s=order.timeout_s, state=state)
    finally:
        state.stage = "settling"
        _sweep(order, hosts, directory=directory, markers=markers, is_quiet=not was_made)
    if order.has_run:
        _bring_back(job, hosts, state=state, is_last=True)
    _tell(verdict)
    if order.has_run and (not verdict.is_worth_another or state.requests):
        _tell_places(job, state=state)
    return verdict


def _usable(order: Order, hosts: Hosts, *, marker: str, is_first: bool) -> Findings:
    """What a look at all hosts gave; the first time nothing may be wrong, later enough must do."""
    looks = 1 if is_first else _LOOKS_AFTER_FAILURE
    while True:
        looks -= 1
        findings = look(hosts, order.names, order.needs, marker=marker)
        _give_what_is_lacking(findings, hosts, fetched=order.fetched)
        if not findings.problems:
            _LOG.info("preflight: %d hosts in %.1f s", len(order.names), findings.seconds)
            return findings
        if looks == 0:
            break
        time.sleep(_BETWEEN_LOOKS_S)
    good = [name for name in order.names if name not in findings.problems]
    needed = len(order.names) if is_first else order.min_hosts
    for line in findings.lines():
        _LOG.error("%s", line)
    bad = len(order.names) - len(good)
    if len(good) < max(1, needed):
        wanted = "; nothing was started" if is_first else f", and --min-hosts is {needed}"
        raise FailureError(f"{bad} of {len(order.names)} hosts cannot be used (above){wanted}")
    _LOG.warning("going on with %d of %d hosts", len(good), len(order.names))
    for name in findings.problems:
        findings.facts.pop(name, None)
    return findings


def _give_what_is_lacking(
    findings: Findings, hosts: Hosts, *, fetched: "Sequence[Fetched]"
) -> None:
    """Data and weights that are here and not there."""
    for name, paths in findings.lacking.items():
        for path in paths:
            here = Path(path)
            files = [here] if here.is_file() else [p for p in here.rglob("*") if p.is_file()]
            below = here.parent if here.is_file() else here
            to = str(below)
            _LOG.info("%s: has no %s; copying it there", name, path)
            try:
                hosts.push(name, to, files=files, below=below, timeout_s=_COPY_S)
            except HostError as error:
                findings.problems.setdefault(name, []).append(str(error))
    good = [name for name in findings.facts if name not in findings.problems]
    if fetched and good:
        from demo_bert.launch import caches

        passed = {name: os.environ[name] for name in passed_variables(os.environ)}
        findings.problems |= caches.give(hosts, good, fetched, environ=passed)


def _in_order(order: Order, findings: Findings, *, names: Sequence[str]) -> tuple[str, ...]:
    """The hosts that take part, the one with the newest checkpoint first."""
    facts = findings.facts
    there = [name for name in names if name in facts]
    newest = {name: max(facts[name]["steps"], default=-1) for name in there}
    return tuple(sorted(there, key=lambda name: -newest[name]))


def _job(
    order: Order,
    hosts: Hosts,
    findings: Findings,
    *,
    directory: str,
    names: tuple[str, ...],
    number: int,
    cause: str,
) -> Job:
    line = mpirun_line(
        names,
        hosts.program,
        directory=directory,
        ssh_arguments=hosts.ssh_arguments,
        command=order.mpirun_command,
        interface=order.interface,
        environ=os.environ,
    )
    return Job(
        directory=directory,
        python=hosts.program.python,
        source=hosts.program.source,
        cwd=hosts.program.cwd,
        argv=order.argv,
        hosts=names,
        workers=order.workers,
        meeting=(names[0], int(findings.facts[names[0]]["port"])),
        interface=order.interface,
        map_by=order.map_by,
        cores=order.cores,
        output_dir=order.output_dir,
        global_batch_size=order.global_batch_size,
        attempt=number,
        cause=cause,
        shown={
            "mpirun_command": shlex.join(line),
            **_worked_out(order, [findings.facts[name] for name in names]),
        },
    )


def _worked_out(order: Order, facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Settings that nobody gave, as they are used."""
    interfaces = sorted({str(each["interface"]) for each in facts})
    cores = min(int(each["cores"]) for each in facts) // order.workers
    return {
        "network_interface": order.interface or ", ".join(interfaces),
        "map_by_pe": str(order.cores or max(1, cores)),
    }


def _made_ready(
    job: Job,
    order: Order,
    hosts: Hosts,
    findings: Findings,
    *,
    markers: Sequence[str],
    state: _State,
) -> Job:
    """Finds out who shares the run directory, and gives every host the job."""
    first = markers[order.names.index(job.hosts[0])]
    state.first = job.hosts[0]
    state.is_here = (Path(job.output_dir).parent / first).exists()
    asked: dict[str, Any] = {
        "cwd": job.cwd,
        "output_dir": job.output_dir,
        "markers": list(markers),
        "job": None,
    }
    answers = _answered(hosts.ask_all(job.hosts, "ready", lambda _: asked, timeout_s=_SHORT_S))
    blind = [name for name in job.hosts if first not in answers[name]["seen"]]
    if blind and order.must_share:
        raise RunDirectoryError(
            f"-o {job.output_dir}: what {job.hosts[0]} writes beside it is not seen by"
            f" {', '.join(blind)}; give a place on storage that all hosts see"
        )
    job = replace(job, is_shared=not blind)
    if not job.is_shared:
        _spread_record(job, hosts, findings, state=state)
    asked["job"] = job.as_dict()
    _answered(hosts.ask_all(job.hosts, "ready", lambda _: asked, timeout_s=_SHORT_S))
    return job


def _spread_record(job: Job, hosts: Hosts, findings: Findings, *, state: _State) -> None:
    """Without shared storage, every host gets what the run has written about itself so far."""
    here = Path(job.output_dir)
    records = {name: findings.facts[name]["record"] for name in job.hosts}
    having = [name for name, record in records.items() if record is not None]
    if not (here / "run.json").exists() and having:
        _pull(job, hosts, having[0])
    expected = record_digest(here / "run.json") if (here / "run.json").exists() else None
    others = [name for name, record in records.items() if record not in (None, expected)]
    if others:
        raise RunDirectoryError(
            f"-o {job.output_dir}: on {', '.join(others)} it holds another run; give another"
            " directory, or remove it there"
        )
    for name in job.hosts if expected is not None else ():
        if records[name] is None:
            kept = {"run.json", "results.json"}
            kept |= {"events.jsonl"} if name == job.hosts[0] else set()
            files = [path for path in here.rglob("*") if path.name in kept]
            hosts.push(name, job.output_dir, files=files, below=here, timeout_s=_COPY_S)


def _answered(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers, where there are no errors among them."""
    problems = [str(answer) for answer in answers.values() if isinstance(answer, HostError)]
    if problems:
        raise FailureError("; ".join(problems))
    return dict(answers)


def _attempt(job: Job, hosts: Hosts, *, timeout_s: float, state: _State) -> Verdict:
    """Starts the agents, shows what they tell, and watches them to their end."""
    state.stage = "running"
    attempt = Attempt(job, timeout_s=timeout_s, requests=state.requests)
    mpirun = Mpirun(shlex.split(job.shown["mpirun_command"]))
    num_passed = 0
    try:
        with ThreadPoolExecutor(1) as copier:
            copying: Future[None] | None = None
            while (code := mpirun.code()) is None:
                for record in mpirun.records(wait_s=0.2):
                    if record["kind"] == "line":
                        attempt.show(record)
                    elif record["kind"] == "saved" and (copying is None or copying.done()):
                        copying = copier.submit(_bring_back, job, hosts, state=state)
                    else:
                        attempt.take(record)
                if state.requests and not attempt.is_up:
                    raise StoppedAtOnce(state.asked_by)  # not all agents would hear of it
                for number in state.requests[num_passed:]:
                    mpirun.signal(_FORWARDED[signal.Signals(number)])
                    num_passed += 1
                if (reason := attempt.why_end()) is not None:
                    _LOG.warning("ending the workers: %s", reason)
                    mpirun.end()
                    for record in mpirun.records(wait_s=0.1):
                        attempt.show(record) if record["kind"] == "line" else attempt.take(record)
                    code = _FAILURE
                    break
    finally:
        mpirun.end()
    for line in mpirun.said:
        _LOG.debug("mpirun: %s", line)
    return attempt.verdict(code, mpirun.said)


def _sweep(
    order: Order, hosts: Hosts, *, directory: str, markers: Sequence[str], is_quiet: bool
) -> None:
    """Ends on all hosts what the attempt left there, and removes its files."""
    asked = {
        "directory": directory,
        "cwd": hosts.program.cwd,
        "output_dir": order.output_dir,
        "markers": list(markers),
    }
    answers = hosts.ask_all(order.names, "sweep", lambda name: asked, timeout_s=_SHORT_S)
    for name, answer in answers.items():
        if isinstance(answer, HostError):
            _LOG.log(logging.DEBUG if is_quiet else logging.WARNING, "not swept: %s", answer)
        elif answer["swept"]:
            _LOG.debug("%s: swept %s", name, answer["swept"])


def _bring_back(job: Job, hosts: Hosts, *, state: _State, is_last: bool = False) -> None:
    """Copies all but checkpoints from the first host to this machine, unless it sees them."""
    if state.is_here:
        return
    try:
        _pull(job, hosts, job.hosts[0])
        for name in job.hosts[1:] if is_last and not job.is_shared else ():
            hosts.pull(
                name,
                f"{job.output_dir}/logs",
                to=Path(job.output_dir, "logs"),
                without=("rank-0.log",),
                timeout_s=_COPY_S,
            )
    except HostError as error:
        _LOG.warning("not brought back: %s", error)


def _pull(job: Job, hosts: Hosts, name: str) -> None:
    without = ("checkpoints", "run.lock")
    to = Path(job.output_dir)
    hosts.pull(name, job.output_dir, to=to, without=without, timeout_s=_COPY_S)


def _tell(verdict: Verdict) -> None:
    if verdict.cause:
        words = "".join(f"\n  {line}" for line in verdict.words)
        _LOG.error("%s%s", verdict.cause, words)


def _tell_places(job: Job, *, state: _State) -> None:
    """What lies where."""
    there = Path(job.cwd, job.output_dir)
    if job.is_shared and state.is_here:
        _LOG.info("everything is in %s, which all hosts see", job.output_dir)
        return
    checkpoints = f"{state.first}:{there}/checkpoints"
    if not job.is_shared and len(job.hosts) > 1:
        checkpoints += f" and {job.hosts[1]}"
    rest = "there too" if state.is_here else f"in {job.output_dir} here, and there"
    _LOG.info("checkpoints are in %s; everything else is %s", checkpoints, rest)


@contextmanager
def _signals_heard(state: _State) -> Iterator[None]:
    """Notes requests to stop, which go to all workers; one too many ends this process too.

    Before workers run the first one ends the work where it stands; while the rest is brought back
    it changes nothing more.
    """

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        state.requests.append(number)
        if len(state.requests) > (2 if state.stage == "running" else 1):
            raise KeyboardInterrupt
        if state.stage == "before":
            raise StoppedAtOnce(signal.Signals(number).name)

    before = {
        number: signal.signal(number, note)
        for number in _FORWARDED
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
