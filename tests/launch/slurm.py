"""A real SLURM on hosts of `cluster`: one controller, a daemon on each host, no cgroups."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from launch.cluster import Cluster

TOOLS = ("slurmctld", "slurmd", "srun", "sbatch", "munged")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONF = """
ClusterName=test
SlurmctldHost=node1({first})
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock
SlurmUser=root
SlurmdUser=root
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=30
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=node[1-{number}] CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
_CGROUP = """
CgroupPlugin=cgroup/v1
CgroupAutomount=yes
IgnoreSystemd=yes
CgroupMountpoint=/sys/fs/cgroup
"""


def why_not() -> str | None:
    """Why there can be no SLURM here; None where there can."""
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=_PATH)]
    return f"not installed: {', '.join(missing)}" if missing else None


class Slurm:
    """A SLURM that is up; commands run on the first host, as on a login node.

    Args:
        hosts: Its hosts.
        directory: Of its files.
    """

    def __init__(self, hosts: Cluster, directory: Path) -> None:
        self.hosts, self.directory = hosts, directory
        self.environment = {"SLURM_CONF": str(directory / "slurm.conf"), "PATH": _PATH}

    def start(
        self, argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[str]":
        """Starts a command of SLURM."""
        return subprocess.Popen(
            self.hosts.command(argv, where=self.hosts.addresses[0]),
            cwd=cwd,
            env={**environment, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str) -> str:
        """Runs one to its end."""
        return subprocess.run(
            self.hosts.command(argv, where=self.hosts.addresses[0]),
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout


@contextmanager
def slurm(hosts: Cluster, directory: Path, *, cores: int = 2) -> Iterator[Slurm]:
    """Brings SLURM up on hosts; its daemons end with it, or with the hosts."""
    for name in ("state", *(f"spool-node{n}" for n in range(1, len(hosts.addresses) + 1))):
        (directory / name).mkdir(parents=True)
    made = Slurm(hosts, directory)
    text = _CONF.format(
        first=hosts.addresses[0], directory=directory, number=len(hosts.addresses), cores=cores
    )
    (directory / "slurm.conf").write_text(text.lstrip())
    (directory / "cgroup.conf").write_text(_CGROUP.lstrip())
    names = ["127.0.0.1 localhost"]
    names += [f"{address} node{n}" for n, address in enumerate(hosts.addresses, start=1)]
    (directory / "hosts").write_text("\n".join(names) + "\n")
    (directory / "munge.key").write_bytes(b"k" * 64)
    (directory / "munge.key").chmod(0o400)
    log = (directory / "daemons.log").open("wb")
    daemons: list[subprocess.Popen[bytes]] = []

    def start(address: str, *argv: str) -> None:
        daemons.append(
            subprocess.Popen(
                hosts.command(argv, where=address),
                env=made.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        )

    try:
        start(
            hosts.addresses[0],
            *("munged", "--foreground", "--force", f"--socket={directory}/munge.sock"),
            *(f"--key-file={directory}/munge.key", f"--pid-file={directory}/munged.pid"),
            *(f"--log-file={directory}/munged.log", f"--seed-file={directory}/munge.seed"),
        )
        for address in hosts.addresses:
            hosts.mount(address, "--bind", str(directory / "hosts"), "/etc/hosts")
            hosts.mount(address, "-t", "tmpfs", "none", "/sys/fs/cgroup")
        _wait(lambda: (directory / "munge.sock").exists(), "munge")
        start(hosts.addresses[0], "slurmctld", "-D")
        for number, address in enumerate(hosts.addresses, start=1):
            start(address, "slurmd", "-D", "-N", f"node{number}")
        _wait(lambda: _idle(made) == len(hosts.addresses), "all nodes idle")
        yield made
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(5.0)
            daemon.kill()
            daemon.wait()
        log.close()


def _idle(made: Slurm) -> int:
    try:
        return made.run("sinfo", "-h", "-N", "-o", "%T").split().count("idle")
    except subprocess.CalledProcessError:
        return 0


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"SLURM: not {what} in 30 s")
        time.sleep(0.1)
