"""Who started this process: the variables of each launcher."""

import os

import pytest

from demo_bert import launchers
from demo_bert.errors import UsageError
from demo_bert.launchers import World

STARTS = ("RANK", "LOCAL_RANK", "WORLD", "MASTER", "OMPI", "PMI", "MPI", "SLURM", "GLOO", "NCCL")

TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
MPICH = {"PMI_RANK": "5", "MPI_LOCALRANKID": "1", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4"}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08],gpu12",
    "SLURM_JOB_ID": "31234",
    "SLURM_STEP_ID": "0",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that no launcher wrote."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(STARTS)}
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(launchers, "interface_towards", lambda address: f"to-{address}")
    return monkeypatch


@pytest.mark.parametrize("variables", [TORCHRUN, OPEN_MPI, MPICH, SLURM])
def test_each_launcher_says_the_place(variables: dict[str, str], given: pytest.MonkeyPatch) -> None:
    assert not launchers.is_worker()
    assert launchers.place() == World(0, 0, 1, 1)
    assert launchers.prepare() is None
    for name, value in variables.items():
        given.setenv(name, value)
    assert launchers.is_worker()
    assert launchers.place() == World(5, 1, 8, 4)


def test_one_process_alone_may_start_workers_itself(given: pytest.MonkeyPatch) -> None:
    for name, value in (OPEN_MPI | SLURM).items():
        given.setenv(name, "1" if name.endswith(("SIZE", "TASKS")) else value)
    assert not launchers.is_worker()


def test_slurm_meets_on_its_first_node(given: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        given.setenv(name, value)
    assert launchers.prepare() == "SLURM"
    environ = os.environ
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("gpu07", "22340")
    assert (environ["RANK"], environ["LOCAL_RANK"], environ["WORLD_SIZE"]) == ("5", "1", "8")
    assert environ["GLOO_SOCKET_IFNAME"] == environ["NCCL_SOCKET_IFNAME"] == "to-gpu07"


def test_mpirun_on_one_host_meets_on_loopback_and_on_several_where_it_is_told(
    given: pytest.MonkeyPatch,
) -> None:
    for name, value in OPEN_MPI.items():
        given.setenv(name, value)
    with pytest.raises(UsageError, match="-x MASTER_ADDR="):
        launchers.prepare()
    given.setenv("MASTER_ADDR", "10.0.0.7")
    given.setenv("GLOO_SOCKET_IFNAME", "mine")
    assert launchers.prepare() == "Open MPI"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
    given.delenv("MASTER_ADDR")
    given.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "8")
    given.delenv("RANK")
    launchers.prepare()
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"


def test_the_interface_towards_loopback_is_found() -> None:
    assert launchers.interface_towards("127.0.0.1") in launchers.addresses()
    assert launchers.interface_towards("no.such.host.invalid") is None
