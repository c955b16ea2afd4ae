"""The model of a step with many workers."""

import pytest
import torch

from demo_bert.exchange.arena import Arena
from demo_bert.exchange.forecast import Link, Work, bucket_sizes, forecast

TOTAL = 24_600_000
GIGABIT = Link(bytes_per_s=125e6, latency_s=0.0)
WORK = Work(64, micro_step_s=1.0, backward_s=0.6, update_s=0.05)


def test_one_worker_exchanges_nothing() -> None:
    found = forecast(TOTAL, WORK, num_workers=1, link=GIGABIT)
    assert (found.exchange_s, found.waited_s, found.sent_bytes) == (0, 0, 0)
    assert found.step_s == pytest.approx(64 + 0.05)


def test_the_exchange_is_bytes_over_bandwidth_and_a_latency_for_each_hop() -> None:
    link = Link(bytes_per_s=125e6, latency_s=1e-3)
    for workers in (2, 8, 1024):
        found = forecast(TOTAL, WORK, num_workers=workers, link=link, is_overlapped=False)
        moved = 2 * (workers - 1) / workers * TOTAL * 4
        assert found.sent_bytes == pytest.approx(moved)
        hops = len(bucket_sizes(TOTAL)) * 2 * (workers - 1)
        assert found.exchange_s == pytest.approx(moved / 125e6 + hops * 1e-3)
        assert found.waited_s == found.exchange_s


def test_a_backward_pass_hides_what_sets_off_before_its_end() -> None:
    late = forecast(TOTAL, WORK, num_workers=8, link=GIGABIT, is_overlapped=False)
    early = forecast(TOTAL, WORK, num_workers=8, link=GIGABIT, num_embeddings=12_000_000)
    assert early.exchange_s == late.exchange_s
    assert 0 < early.waited_s < late.waited_s
    assert late.waited_s - early.waited_s <= WORK.backward_s
    # The embeddings' buckets set off last: they are always waited for.
    slow = Work(64, micro_step_s=1000.0, backward_s=600.0, update_s=0.05)
    rest = forecast(TOTAL, slow, num_workers=8, link=GIGABIT, num_embeddings=12_000_000)
    assert rest.waited_s == pytest.approx(2 * 7 / 8 * sum(bucket_sizes(TOTAL)[6:]) * 4 / 125e6)


def test_half_the_bytes_take_half_the_time() -> None:
    whole = forecast(TOTAL, WORK, num_workers=8, link=GIGABIT, is_overlapped=False)
    half = forecast(TOTAL, WORK, num_workers=8, link=GIGABIT, is_overlapped=False, bytes_each=2)
    assert half.exchange_s == pytest.approx(whole.exchange_s / 2)


def test_the_busiest_worker_counts() -> None:
    for workers, rounds in ((3, 22), (64, 1), (100, 1)):
        found = forecast(TOTAL, WORK, num_workers=workers, link=GIGABIT)
        assert found.compute_s == rounds


def test_buckets_are_those_of_the_arena() -> None:
    parameters = [torch.zeros(size) for size in (4992, 16, 320, 1600, 48)]
    arena = Arena(parameters, num_shares=1, bucket_elements=1008)
    found = bucket_sizes(sum(p.numel() for p in parameters), full=1008)
    assert found == [bucket.end - bucket.start for bucket in arena.buckets]
