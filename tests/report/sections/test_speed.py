"""Speed and profile on a run's page: what was measured, and nothing where nothing was."""

from pathlib import Path

from demo_bert.report.record import Run
from demo_bert.report.sections import profile, speed

STEPS = tuple(
    {
        "event": "step",
        "step": n,
        "parts_s": {
            "data": 0.001,
            "forward": 0.03 + n / 1000,
            "backward": 0.06,
            "optimizer": 0.009,
        },
    }
    for n in (1, 2, 3)
)


def test_parts_of_a_step_are_medians_with_their_share() -> None:
    made = speed.section(Run(Path("run"), steps=STEPS))
    assert made is not None
    assert "32.00 ms" in made.body  # forward
    assert "58.8 %" in made.body  # backward, of 102 ms
    assert "communication" not in made.body


def test_parts_that_a_device_ahead_of_the_host_does_not_tell_apart_are_one() -> None:
    made = speed.section(Run(Path("run"), steps=STEPS, results={"device": "cuda"}))
    assert made is not None
    assert "forward, backward, sums" in made.body
    assert "<td>backward</td>" not in made.body
    assert "92.00 ms" in made.body  # 32 and 60


def test_the_forecast_stands_beside_the_fact() -> None:
    results: dict[str, object] = {
        "wall_s": 300.0,  # two attempts
        "peak_memory_bytes": 1_000_000_000,
        "forecast": {"seconds": 90.0, "memory_bytes": 1_100_000_000, "took_s": 100.0},
    }
    made = speed.section(Run(Path("run"), results=results))
    assert made is not None
    assert "-10 %" in made.body
    assert "+10 %" in made.body
    assert "1:40" in made.body


def test_an_unknown_peak_is_said_and_who_measures_it() -> None:
    results: dict[str, object] = {
        "throughput": {"examples_per_s": 10.0, "model_flops_utilisation": None}
    }
    made = speed.section(Run(Path("run"), results=results))
    assert made is not None
    assert "unknown" in made.body
    assert "demo_bert bench" in made.body


def test_a_run_that_says_nothing_has_no_section() -> None:
    assert speed.section(Run(Path("run"))) is None
    assert profile.section(Run(Path("run"))) is None


def test_damaged_fields_are_passed_over() -> None:
    steps = ({"event": "step", "step": 1, "parts_s": "fast"},)
    run = Run(Path("run"), steps=steps, results={"forecast": [1], "throughput": 3, "wall_s": 0})
    assert speed.section(run) is None


def test_the_dearest_operations_are_escaped_and_in_order() -> None:
    event: dict[str, object] = {
        "event": "profile",
        "first_step": 10,
        "last_step": 19,
        "path": "trace/<x>.json.gz",
        "operations": [
            {"name": "aten::<mm>", "self_s": 1.5, "share": 0.5, "calls": 1200},
            {"name": "aten::add", "self_s": None, "share": "?", "calls": 1},
        ],
    }
    made = profile.section(Run(Path("run"), history=(event,)))
    assert made is not None
    assert "aten::&lt;mm&gt;" in made.body
    assert "trace/&lt;x&gt;.json.gz" in made.body
    assert "1,200" in made.body
    assert "Steps 10 to 19" in made.body
