"""Hosts on one machine: namespaces on a bridge, each with an sshd, a name and a home.

Every host has namespaces of its own for network, processes, names and mounts: it sees its own
processes alone, and ending its first one ends them all. What hosts share is the file system, but
for `private`, which is a directory of its own on each, and for the home. A further host, `here`, is
where commands are invoked.
"""

import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from small_run import ENVIRONMENT

PORT = 3022
TOOLS = {
    "mpirun": "openmpi-bin",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
}
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_SSHD = """
Port {port}
ListenAddress {address}
HostKey {hostkey}
AuthorizedKeysFile {keys}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
ClientAliveInterval 5
ClientAliveCountMax 3
MaxStartups 100
"""
_SSH = """
Host {network}.*
  Port {port}
  IdentityFile {directory}/id
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
"""


def why_not() -> str | None:
    """Why there can be no hosts here; None where there can."""
    missing = sorted(
        package for tool, package in TOOLS.items() if not shutil.which(tool, path=_PATH)
    )
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    name = f"dbtry{os.getpid()}"
    made = _quiet("ip", "netns", "add", name)
    try:
        if made.returncode:
            return f"the kernel refuses namespaces: {made.stderr.strip()}"
        tried = _quiet("ip", "netns", "exec", name, *_UNSHARE, "mount", "--bind", "/etc", "/etc")
        return (
            f"the kernel refuses namespaces: {tried.stderr.strip()}" if tried.returncode else None
        )
    finally:
        if not made.returncode:
            _quiet("ip", "netns", "del", name)


_UNSHARE = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")


@dataclass
class Cluster:
    """Hosts that are up.

    Attributes:
        directory: Where keys, homes and private directories lie.
        network: The first three numbers of the addresses.
        addresses: Of the hosts.
    """

    directory: Path
    tag: str
    network: str
    addresses: list[str]
    inits: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def private(self) -> Path:
        """A path that is another directory on each host, and here."""
        return self.directory / "private"

    def of(self, address: str) -> Path:
        """What a host has at `private`, as the test sees it."""
        return self.directory / f"private-{address.rpartition('.')[2]}"

    @property
    def here(self) -> Path:
        """What the invoking machine has at `private`, as the test sees it."""
        return self.of(f"{self.network}.{_HERE}")

    def command(self, argv: Sequence[str], *, where: str | None = None) -> list[str]:
        """A command line that runs in a host's namespaces; by default in the invoking one's."""
        init = self.inits[where or f"{self.network}.{_HERE}"]
        child = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()[0]
        return ["nsenter", "-t", child, "-n", "-u", "-p", "-m", "--", *argv]

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        hosts: Sequence[str] | None = None,
    ) -> subprocess.Popen[str]:
        """The program, invoked as a user would on a machine that is none of the hosts."""
        names = self.addresses if hosts is None else hosts
        own = {"MULTI_HLS_IPS": ",".join(names), "SSH_PORT": str(PORT)}
        return subprocess.Popen(
            self.command([sys.executable, "-m", "demo_bert", *argv]),
            cwd=cwd,
            env=ENVIRONMENT
            | {"PATH": _PATH, "HOME": self._home(_HERE)}
            | own
            | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def keys_of(self, address: str) -> Path:
        """The keys that a host lets in."""
        return self.directory / f"keys-{address.rpartition('.')[2]}"

    def processes(self, address: str) -> dict[str, int]:
        """The processes of our program on a host: "agent", "rank 3" -> process id there."""
        listed = subprocess.run(
            self.command([sys.executable, "-c", _LIST], where=address),
            capture_output=True,
            text=True,
            check=True,
        )
        return {name: int(pid) for name, pid in json.loads(listed.stdout).items()}

    def kill(self, address: str, name: str, number: int = signal.SIGKILL) -> None:
        """Sends a signal to one of them."""
        pid = self.processes(address)[name]
        subprocess.run(
            self.command(["kill", f"-{int(number)}", str(pid)], where=address), check=True
        )

    def mount(self, address: str, *arguments: str) -> None:
        """Mounts something on a host alone."""
        subprocess.run(self.command(["mount", *arguments], where=address), check=True)

    def unmount(self, address: str, place: str) -> None:
        """Undoes it."""
        subprocess.run(self.command(["umount", place], where=address), check=True)

    def link(self, address: str, state: str) -> None:
        """Cuts a host's cable, or puts it back."""
        number = address.rpartition(".")[2]
        _must("ip", "link", "set", f"{self.tag}v{number}", state)

    def power_off(self, address: str) -> None:
        """Ends everything on a host, at once and for good."""
        init = self.inits.pop(address)
        init.kill()
        init.wait()

    def _home(self, number: int) -> str:
        return str(self.directory / f"home-{number}")


MRPC = ("finetuning", "-d", "fp32", "-m", "tiny", "-t", "mrpc", "--init-checkpoint", "random")
SMALL = ("--device", "cpu", "--sample", "-b", "4", "-s", "32", "-i", "4", "--log-every", "1")
OVERFIT = ("pretraining", "-d", "fp32", "-m", "tiny", "-t", "overfit", "--device", "cpu")

_HERE = 100
_NUMBERS = itertools.count()
_LIST = """
import glob, json
found = {}
for path in glob.glob('/proc/[0-9]*'):
    try:
        words = open(path + '/cmdline').read().split(chr(0))
        variables = open(path + '/environ').read().split(chr(0))
    except OSError:
        continue
    if 'agent' in words[-3:]:
        found['agent'] = path.split('/')[2]
    elif any(v.startswith('DEMO_BERT_JOB=') for v in variables):
        rank = next(v[5:] for v in variables if v.startswith('RANK='))
        found['rank ' + rank] = path.split('/')[2]
print(json.dumps(found))
"""


@contextmanager
def cluster(directory: Path, num_hosts: int) -> Iterator[Cluster]:
    """Brings hosts up, and takes them down with all that runs on them."""
    directory.mkdir(parents=True, exist_ok=True)
    number = next(_NUMBERS)
    tag = f"d{os.getpid() % 100_000}{'abcdefgh'[number % 8]}"
    network = f"10.{64 + os.getpid() % 64}.{(os.getpid() // 64 + 37 * number) % 256}"
    numbers = [*range(1, num_hosts + 1), _HERE]
    made = Cluster(directory, tag, network, [f"{network}.{n}" for n in numbers[:-1]])
    _make_keys(made, numbers)
    _remove_what_others_left()
    try:
        _must("ip", "link", "add", f"{tag}br", "type", "bridge")
        _must("ip", "link", "set", f"{tag}br", "up")
        for number in numbers:
            _start_host(made, number)
        _wait_for_sshd(made)
        yield made
    finally:
        for init in made.inits.values():
            init.kill()
            init.wait()
        for number in numbers:
            _quiet("ip", "netns", "del", f"{tag}h{number}")
        _quiet("ip", "link", "del", f"{tag}br")


def _make_keys(made: Cluster, numbers: Sequence[int]) -> None:
    directory = made.directory
    for name in ("id", "hostkey"):
        _must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
    for address in made.addresses:
        shutil.copy(directory / "id.pub", made.keys_of(address))
    shutil.copy(directory / "id.pub", made.keys_of(f"{made.network}.{_HERE}"))
    key = " ".join((directory / "hostkey.pub").read_text().split()[:2])
    known = [f"[{address}]:{PORT} {key}" for address in made.addresses]
    (directory / "known_hosts").write_text("\n".join(known) + "\n")
    for number in numbers:
        ssh = directory / f"home-{number}" / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        config = _SSH.format(network=made.network, port=PORT, directory=directory)
        (ssh / "config").write_text(config)
        (directory / f"private-{number}").mkdir()
        # ssh takes the home from here, not from HOME.
        lines = Path("/etc/passwd").read_text().splitlines()
        home = str(directory / f"home-{number}")
        users = [
            ":".join([*line.split(":")[:5], home, "/bin/bash"])
            if line.startswith("root:")
            else line
            for line in lines
        ]
        (directory / f"passwd-{number}").write_text("\n".join(users) + "\n")
    made.private.mkdir()


def _start_host(made: Cluster, number: int) -> None:
    tag, directory = made.tag, made.directory
    name, address = f"{tag}h{number}", f"{made.network}.{number}"
    _must("ip", "netns", "add", name)
    _must(
        "ip",
        "link",
        "add",
        f"{tag}v{number}",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        name,
    )
    _must("ip", "link", "set", f"{tag}v{number}", "master", f"{tag}br", "up")
    _must("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        _must("ip", "-n", name, "link", "set", device, "up")
    config = directory / f"sshd-{number}.conf"
    config.write_text(
        _SSHD.format(
            port=PORT, address=address, hostkey=directory / "hostkey", keys=made.keys_of(address)
        )
    )
    binds = {
        directory / f"passwd-{number}": "/etc/passwd",
        directory / f"private-{number}": made.private,
    }
    script = "\n".join(
        [
            "set -e",
            f"hostname node{number}",
            *(f"mount --bind {own} {place}" for own, place in binds.items()),
            "mkdir -p /run/sshd",
            "echo listening on nothing; exec sleep infinity"
            if number == _HERE
            else f"exec /usr/sbin/sshd -D -e -f {config}",
        ]
    )
    log = (directory / f"host-{number}.log").open("wb")
    made.inits[address] = subprocess.Popen(
        ["ip", "netns", "exec", name, *_UNSHARE, "bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={"PATH": _PATH},
        preexec_fn=_die_with_parent,
    )
    log.close()


def _die_with_parent() -> None:
    """A host ends with the test, however that one ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _remove_what_others_left() -> None:
    """Removes names of tests that were killed; their processes are gone."""
    for listing in (("netns", "list"), ("-br", "link", "list", "type", "bridge")):
        for line in _quiet("ip", *listing).stdout.splitlines():
            name = line.split()[0]
            owner = re.fullmatch(r"d(\d+)[a-h](?:h\d+|br)", name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                kind = "netns" if "h" in name[len(owner[1]) + 2 :] else "link"
                _quiet("ip", kind, "del", name)


def _wait_for_sshd(made: Cluster) -> None:
    deadline = time.monotonic() + 10.0
    for address in made.inits:
        number = address.rpartition(".")[2]
        log = made.directory / f"host-{number}.log"
        while "listening on" not in log.read_text():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no sshd on {address}: {log.read_text()}")
            time.sleep(0.02)


def _quiet(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, env={"PATH": _PATH})


def _must(*argv: str) -> None:
    done = _quiet(*argv)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


def finished(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    """What an ended program said."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == code, err
    return out, err


def signalled(process: "subprocess.Popen[str]", number: int) -> None:
    """Sends a signal to the program itself, which nsenter started and waits for."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), number)


def read_until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """The lines of standard error up to the one with the text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))
