"""Places, sums and meeting points of workers; two real processes over gloo."""

import json
import socket
import subprocess
import sys

import pytest
import torch

from demo_bert import distributed
from demo_bert.distributed import World
from demo_bert.errors import FailureError
from small_run import ENVIRONMENT

CPU = torch.device("cpu")

WORKER = """
import json, os, sys
import torch
from demo_bert import distributed
from demo_bert.errors import FailureError

world = distributed.place()
distributed.join(world, "gloo", timeout_s=60.0)
pending = [
    distributed.begin_sum(summed := torch.tensor([1.0, 10.0 * world.rank])),
    distributed.begin_exchange(
        received := torch.zeros(4), torch.arange(4.0) + 10 * world.rank
    ),
    distributed.begin_gather(gathered := torch.zeros(4), torch.tensor([1.0, 2.0]) + world.rank),
]
for each in pending:
    each.wait()
answer = {
    "rank": world.rank,
    "place": [world.local_rank, world.world_size, world.is_first],
    "begun": [summed.tolist(), received.tolist(), gathered.tolist()],
    "numbers": distributed.sum_numbers([1.5, world.rank, True], world, torch.device("cpu")),
    "large": distributed.sum_numbers([2.0**53, 1.0], world, torch.device("cpu")),
    "tensor": distributed.sum_tensor(torch.tensor([1.0, world.rank]), world).tolist(),
}
distributed.wait_for_all(world)
if world.rank == 0:
    sys.stdin.read()  # until the other one is gone
    try:
        distributed.sum_numbers([1.0], world, torch.device("cpu"))
    except FailureError as error:
        answer["error"] = str(error)
else:
    distributed.leave(world)
print(json.dumps(answer), flush=True)
# A group whose other member is gone cannot be left; gloo's threads may abort the interpreter's end.
os._exit(0)
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_without_a_launcher_there_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert not distributed.is_worker()
    assert distributed.place() == World(0, 0, 1)
    assert distributed.place().is_first


def test_a_launchers_variables_say_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert distributed.is_worker()
    assert distributed.place() == World(5, 1, 8)
    assert not distributed.place().is_first
    monkeypatch.delenv("LOCAL_RANK")
    assert distributed.place().local_rank == 0


def test_alone_every_sum_is_what_was_given_and_nobody_is_waited_for() -> None:
    world = World()
    distributed.join(world, "gloo")
    assert distributed.sum_numbers([1.5, 2], world, CPU) == [1.5, 2]
    tensor = torch.tensor([1.0])
    assert distributed.sum_tensor(tensor, world) is tensor
    distributed.wait_for_all(world)
    distributed.leave(world)


def test_two_workers_have_the_same_sums_and_notice_an_end() -> None:
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=ENVIRONMENT | places | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        _, second_errors = processes[1].communicate(timeout=90)
        first, first_errors = processes[0].communicate(timeout=90)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], first_errors + second_errors
    answer = json.loads(first)
    assert answer["place"] == [0, 2, True]
    assert answer["begun"] == [[2.0, 10.0], [0.0, 1.0, 10.0, 11.0], [1.0, 2.0, 2.0, 3.0]]
    assert answer["numbers"] == [3.0, 1.0, 2.0]
    assert answer["large"] == [2.0**54, 2.0], "summed in a type that loses digits"
    assert answer["tensor"] == [2.0, 1.0]
    assert answer["error"].startswith("another worker is gone")


def test_workers_that_do_not_come_are_a_failure_after_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FailureError, match="another worker is gone or does not answer"):
        distributed.join(distributed.place(), "gloo", timeout_s=0.2)
