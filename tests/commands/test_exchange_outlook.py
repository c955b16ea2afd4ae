"""What a step waits for other workers, by numbers worked out by hand."""

from typing import Any, cast

import pytest
from torch import nn

from demo_bert.commands.exchange_outlook import Exchange, exchange_of, link_of
from demo_bert.commands.forecast import Load
from demo_bert.distributed import SumSpeed, World
from demo_bert.exchange.forecast import FULL_BUCKET, Link, StepForecast

GIGABIT = Link(125e6, 5e-5)
LOAD = Load(
    name="",
    num_steps=10,
    examples_per_step=32,
    micro_batch_size=8,
    max_seq_length=24,
    tokens=100.0,
    most_activations=120.0,
    example_activations=24.0,
    flops=1e6,
    evaluation_flops=0.0,
    num_saves=1,
)


def step(num_workers: int, **changes: Any) -> StepForecast:
    """A step of four micro-batches of 0.3 s, 0.2 s of it backward, and an update of 0.01 s."""
    facts: dict[str, Any] = {"num_embeddings": 0, "bytes_each": 4, "is_overlapped": True}
    exchange = Exchange(**{"num_parameters": 2 * FULL_BUCKET, **facts, **changes})
    times = {"micro_step_s": 0.3, "backward_s": 0.2, "update_s": 0.01}
    return exchange.step(LOAD, num_workers=num_workers, link=GIGABIT, **times)


def test_one_worker_waits_for_nobody() -> None:
    assert step(1).waited_s == 0.0
    assert step(1).step_s == pytest.approx(4 * 0.3 + 0.01)


def test_two_workers_send_each_number_once() -> None:
    # 2 (W - 1) / W = 1: a bucket of 2 Mi numbers is 8,388,608 bytes, 67.1 ms at 125 MB/s, and two
    # messages of 50 us. The first sets off half-way through the backward pass, which hides it; the
    # second when it is over.
    bucket_s = 8388608 / 125e6 + 2 * 5e-5
    found = step(2)
    assert found.waited_s == pytest.approx(bucket_s) == pytest.approx(0.0672, abs=1e-4)
    assert found.step_s == pytest.approx(2 * 0.3 + 0.0672 + 0.01, abs=1e-4)
    assert step(2, is_overlapped=False).waited_s == pytest.approx(2 * bucket_s)
    assert step(2, bytes_each=2).waited_s == pytest.approx(4194304 / 125e6 + 1e-4)
    # Embeddings come at the end of the pass: with the first bucket's numbers alone before them,
    # that one is ready when the pass ends, and none is hidden.
    assert step(2, num_embeddings=FULL_BUCKET).waited_s == pytest.approx(2 * bucket_s)


def test_eight_workers_have_half_the_rounds_idle_and_more_messages() -> None:
    # 2 * 7 / 8 of the bytes, 14 messages; four micro-batches keep four of the eight busy.
    bucket_s = 1.75 * 8388608 / 125e6 + 14 * 5e-5
    found = step(8)
    # The first is on its way for 118 ms from 100 ms on, so the second sets off at 218 ms.
    assert found.waited_s == pytest.approx(0.1 + 2 * bucket_s - 0.2)
    assert found.compute_s == pytest.approx(0.3)


def test_a_measured_link_goes_before_an_assumed_one() -> None:
    measured = SumSpeed(num_workers=4, seconds=0.1, num_bytes=16 << 20)
    hosts, host = World(0, 0, 4, 2), World(0, 0, 4, 4)
    found = link_of(hosts, "cpu", measured)
    assert found.link.bytes_per_s == pytest.approx(1.5 * 16777216 / 0.1)
    assert found.words() == "252 MB/s measured between hosts, 50 us a message"
    assert found.between_hosts is found
    assert str(measured) == "all-reduce of 16 MiB over 4 workers: 100.0 ms, 252 MB/s"
    assert link_of(hosts, "cuda", None).words().startswith("125 MB/s assumed between hosts")
    assert link_of(host, "cpu", None).words().startswith("1,000 MB/s assumed within a host")
    assert link_of(host, "cuda", None).words().startswith("10,000 MB/s assumed within a host")
    assert link_of(host, "cpu", None).between_hosts.link == GIGABIT


def test_a_run_sends_its_models_numbers_as_it_is_set() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = nn.ModuleDict({"embeddings": nn.Embedding(10, 4), "layer": nn.Linear(4, 2)})

    class Settings:
        grad_dtype, reproducible = "bf16", True

    assert exchange_of(Model(), cast(Any, Settings)) == Exchange(50, 40, 2, False)
