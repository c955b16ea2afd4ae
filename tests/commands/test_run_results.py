"""Throughput and wall time from the events of a run."""

from typing import Any

import pytest

from demo_bert.commands.run_results import _throughput


def step(number: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        **{"event": "step", "step": number, "attempt": 0, "seconds": seconds},
        **{"examples": 8, "tokens": 80, "parts_s": {"data": 0.1 * seconds}, **more},
    }


def throughput(*events: dict[str, Any]) -> dict[str, Any]:
    return _throughput(
        events, operations=lambda steps: 0.0, peak_flops=None, num_workers=1, runs_ahead=False
    )


def test_the_first_steps_of_each_phase_are_left_out() -> None:
    first = [step(n, 9.0 if n <= 3 else 1.0, phase=1) for n in range(1, 7)]
    second = [step(n, 9.0 if n <= 9 else 3.0, phase=2) for n in range(7, 11)]
    found = throughput(*first, *second)
    assert found["steps_left_out"] == 6
    assert found["examples_per_s"] == pytest.approx(4 * 8 / 6.0)
    assert found["shares"] == pytest.approx({"data": 0.1})


def test_steps_that_were_traced_are_left_out() -> None:
    profile = {"event": "profile", "step": 6, "attempt": 0, "first_step": 5, "last_step": 6}
    steps = [step(n, 5.0 if n in (5, 6) else 1.0) for n in range(1, 9)]
    found = throughput(*steps[:6], profile, *steps[6:])
    assert found["steps_left_out"] == 5
    assert found["examples_per_s"] == pytest.approx(8.0)


def test_on_a_device_that_runs_ahead_its_passes_do_not_count_as_waiting() -> None:
    parts = {"data": 0.1, "forward": 0.1, "backward": 0.1, "communication": 0.6, "optimizer": 0.1}
    steps = [step(n, 1.0, parts_s=parts, sent_bytes=5) for n in range(1, 6)]
    found = _throughput(
        steps, operations=lambda steps: 0.0, peak_flops=None, num_workers=2, runs_ahead=True
    )
    assert found["shares"] == pytest.approx(
        {"data": 0.1, "forward, backward, sums": 0.8, "optimizer": 0.1}
    )
    assert (found["sent_bytes_per_step"], found["exchange_fraction"]) == (5, None)
    found = _throughput(
        steps, operations=lambda steps: 0.0, peak_flops=None, num_workers=2, runs_ahead=False
    )
    assert found["exchange_fraction"] == pytest.approx(0.6)
