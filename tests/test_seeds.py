"""Seeds are derived from what they are for."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from demo_bert.seeds import derive
from small_run import ENVIRONMENT

PARTS = st.lists(st.integers() | st.text(max_size=8), min_size=1, max_size=5)


@given(PARTS)
def test_a_seed_has_63_bits(parts: list[int | str]) -> None:
    assert 0 <= derive(*parts) < 2**63
    assert derive(*parts) == derive(*parts)


def test_every_part_counts_and_so_does_its_place() -> None:
    seeds = [
        derive(42),
        derive(42, "dropout"),
        derive(42, "dropout", 0, 0),
        derive(42, "dropout", 0, 1),
        derive(42, "dropout", 1, 0),
        derive(43, "dropout", 0, 0),
        derive(42, "order", 0, 0),
        derive(42, "dropout", 11),
        derive(42, "dropout", 1, 1),
        derive(4, "2dropout", 1, 1),
    ]
    assert len(set(seeds)) == len(seeds)


def test_many_seeds_do_not_collide_and_use_all_bits() -> None:
    seeds = {derive(42, "dropout", step, k) for step in range(200) for k in range(50)}
    assert len(seeds) == 10_000
    for bit in range(63):
        share = sum(seed >> bit & 1 for seed in seeds) / len(seeds)
        assert abs(share - 0.5) < 0.03, bit


def test_a_seed_is_the_same_on_every_machine_and_for_ever() -> None:
    # A change here changes every run that goes on.
    assert derive(42, "dropout", 7, 0) == 2775744707834996935


def test_a_seed_does_not_depend_on_the_hash_of_the_process() -> None:
    program = "from demo_bert.seeds import derive; print(derive(1, 'order', 2))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=ENVIRONMENT | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert answers == {f"{derive(1, 'order', 2)}\n"}
