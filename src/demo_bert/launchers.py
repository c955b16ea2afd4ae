"""Who started this process, and where it stands: the only file that reads launcher variables.

Standard library alone. One small function per launcher; the first that answers counts.
"""

import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass

from demo_bert.errors import UsageError

_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000  # below the range from which systems take ports at random
_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


@dataclass(frozen=True)
class World:
    """This worker's place among all.

    Attributes:
        rank: 0 writes files and speaks.
        local_rank: Place on this host: which device, which cores.
        world_size: Workers on all hosts.
        local_size: Workers on this host.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0


def is_worker() -> bool:
    """Whether a launcher started this process as one of several workers."""
    return _found(os.environ) is not None


def place() -> World:
    """This worker's place, as the launcher wrote it; a world of one where none started it."""
    return _found(os.environ) or World()


def prepare() -> str | None:
    """Completes what the launcher left open: where to meet, and the interface towards there.

    To be called before PyTorch is imported.

    Returns:
        How the process was started, in words; None where it was by hand.

    Raises:
        UsageError: Nothing says where the workers of several hosts are to meet.
    """
    world = _found(os.environ)
    if world is None or world.world_size == 1:
        return None
    name = next(name for name, read in _LAUNCHERS.items() if read(os.environ) is not None)
    address = os.environ.get("MASTER_ADDR") or _meeting_host(world, os.environ)
    port = os.environ.get("MASTER_PORT") or _meeting_port(os.environ)
    interface = interface_towards(address)
    os.environ |= worker_variables(world, meeting=(address, int(port)), interface=None)
    set_interface(interface, os.environ)
    return name


def meeting_point() -> tuple[str, int]:
    """Address and port at which rank 0 is met; to be asked after `prepare`."""
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def worker_variables(
    world: World, *, meeting: tuple[str, int], interface: str | None
) -> dict[str, str]:
    """What a launcher of ours gives a worker.

    Args:
        world: The worker's place.
        meeting: Address and port of rank 0.
        interface: Towards the other hosts; None: the libraries find it.

    Returns:
        Environment variables.
    """
    variables = {
        "RANK": str(world.rank),
        "LOCAL_RANK": str(world.local_rank),
        "WORLD_SIZE": str(world.world_size),
        "LOCAL_WORLD_SIZE": str(world.local_size),
        "MASTER_ADDR": meeting[0],
        "MASTER_PORT": str(meeting[1]),
    }
    set_interface(interface, variables)
    return variables


def set_interface(interface: str | None, environ: MutableMapping[str, str]) -> None:
    """Tells gloo, NCCL and HCCL which interface to use, where nobody did.

    Left alone, gloo takes the address of the host's own name, which is often loopback.

    Args:
        interface: Its name; None changes nothing.
        environ: The environment to write to.
    """
    if interface is not None:
        for variable in _INTERFACE_VARIABLES:
            environ.setdefault(variable, interface)


def mpi_index() -> int | None:
    """The number of this process among those of its mpirun; None where mpirun did not start it."""
    text = os.environ.get("OMPI_COMM_WORLD_RANK")
    return None if text is None else int(text)


def interface_towards(address: str) -> str | None:
    """The network interface that leads to an address.

    Args:
        address: A name or an address of IPv4.

    Returns:
        Its name; None where there is no way, or it cannot be told.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    return next((name for name, ip in addresses().items() if ip == own), None)


def addresses() -> dict[str, str]:
    """The interfaces of this host that have an address of IPv4.

    Returns:
        Name -> address.
    """
    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def first_of_node_list(text: str) -> str:
    """The first host of a list as SLURM writes it.

    Args:
        text: Such as `node[03-05,9],login`.

    Returns:
        Its name.

    Example:
        >>> first_of_node_list("node[03-05,9],login"), first_of_node_list("a,b")
        ('node03', 'a')
    """
    first = re.split(r",(?![^[]*\])", text)[0]
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first)


def _found(environ: Mapping[str, str]) -> World | None:
    return next((world for read in _LAUNCHERS.values() if (world := read(environ))), None)


def _torchrun(environ: Mapping[str, str]) -> World | None:
    """PyTorch's own agent, and whoever sets its variables."""
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        return None
    size = int(environ["WORLD_SIZE"])
    return World(
        rank=int(environ["RANK"]),
        local_rank=int(environ.get("LOCAL_RANK", "0")),
        world_size=size,
        local_size=int(environ.get("LOCAL_WORLD_SIZE", "1")),
    )


def _open_mpi(environ: Mapping[str, str]) -> World | None:
    """The mpirun of Open MPI."""
    if "OMPI_COMM_WORLD_RANK" not in environ:
        return None
    return _of_several(
        environ["OMPI_COMM_WORLD_RANK"],
        environ["OMPI_COMM_WORLD_LOCAL_RANK"],
        environ["OMPI_COMM_WORLD_SIZE"],
        environ["OMPI_COMM_WORLD_LOCAL_SIZE"],
    )


def _mpich(environ: Mapping[str, str]) -> World | None:
    """The mpirun of MPICH and its kin."""
    if "MPI_LOCALRANKID" not in environ or "PMI_RANK" not in environ:
        return None
    return _of_several(
        environ["PMI_RANK"],
        environ["MPI_LOCALRANKID"],
        environ["PMI_SIZE"],
        environ["MPI_LOCALNRANKS"],
    )


def _slurm(environ: Mapping[str, str]) -> World | None:
    """`srun`; the script of sbatch itself and an interactive shell are no workers."""
    if "SLURM_STEP_NUM_TASKS" not in environ or "SLURM_PROCID" not in environ:
        return None
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "1")
    return _of_several(
        environ["SLURM_PROCID"],
        environ.get("SLURM_LOCALID", "0"),
        environ["SLURM_STEP_NUM_TASKS"],
        re.split(r"[(,]", tasks)[0],
    )


def _of_several(rank: str, local_rank: str, size: str, local_size: str) -> World | None:
    """A place; None where the launcher started one process, which may start workers itself."""
    if int(size) == 1:
        return None
    return World(int(rank), int(local_rank), int(size), int(local_size))


_LAUNCHERS: dict[str, Callable[[Mapping[str, str]], World | None]] = {
    "torchrun": _torchrun,
    "Open MPI": _open_mpi,
    "MPICH": _mpich,
    "SLURM": _slurm,
}


def _meeting_host(world: World, environ: Mapping[str, str]) -> str:
    if nodes := environ.get("SLURM_STEP_NODELIST"):
        return first_of_node_list(nodes)
    if world.local_size == world.world_size:
        return "127.0.0.1"
    raise UsageError(
        "started on several hosts, and nothing says where the workers meet; give mpirun"
        " -x MASTER_ADDR=<address of the host of rank 0> -x MASTER_PORT=<a free port there>"
    )


def _meeting_port(environ: Mapping[str, str]) -> int:
    """A port that all workers of a job work out alike, and other jobs probably differently."""
    names = ("SLURM_JOB_ID", "OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE")
    job = next((environ[name] for name in names if name in environ), "0")
    step = environ.get("SLURM_STEP_ID", "0")
    digits = re.sub(r"\D", "", job + step)
    return _FIRST_PORT + int(digits or "0") % _NUM_PORTS
