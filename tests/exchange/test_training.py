"""The same training by 1, 2 and 4 workers, however gradients are summed: real processes, gloo."""

import json
import math
from typing import Any

import pytest

from demo_bert.distributed import World
from demo_bert.errors import UsageError
from demo_bert.exchange.gradients import Gradients
from exchange.small_training import learn
from exchange.workers import answers

HOW: dict[str, dict[str, Any]] = {
    "views": {},
    "copied": {"as_views": False},
    "bf16": {"dtype": "bf16"},
    "canonical": {"is_canonical": True},
    "canonical, copied": {"is_canonical": True, "as_views": False},
    "lamb": {"optimizer": "lamb"},
    "sharded": {"is_sharded": True},
    "sharded lamb": {"is_sharded": True, "optimizer": "lamb"},
    "unclipped": {"clip_norm": None, "compute": "bf16"},
    "sharded unclipped": {"clip_norm": None, "compute": "bf16", "is_sharded": True},
    "canonical lamb": {"is_canonical": True, "optimizer": "lamb"},
    "poisoned": {"poisoned": 1},
    "poisoned bf16": {"poisoned": 1, "dtype": "bf16"},
    "poisoned sharded": {"poisoned": 1, "is_sharded": True},
    "poisoned canonical": {"poisoned": 1, "is_canonical": True},
}

PROGRAM = """
import json, os, sys
import torch
from demo_bert import distributed
from exchange.small_training import SPLITS, learn

torch.set_num_threads(1)
rank, port, how = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
found = {}
for size in (2, 4):
    if rank < size:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port + size}
        os.environ.update({name: str(value) for name, value in places.items()})
        world = distributed.place()
        distributed.join(world, "gloo", timeout_s=60.0)
        found[size] = {
            name: [learn(world, split=split, **options) for split in range(len(SPLITS))]
            for name, options in how.items()
        }
        distributed.wait_for_all(world)
        distributed.leave(world)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """What each of four workers found; the first two have also been alone with each other."""
    return answers(PROGRAM, json.dumps(HOW), count=4)


@pytest.fixture(scope="module")
def alone() -> dict[str, list[dict[str, Any]]]:
    return {
        name: [learn(World(), split=split, **options) for split in range(3)]
        for name, options in HOW.items()
    }


@pytest.mark.parametrize("size", ["2", "4"])
@pytest.mark.parametrize("how", HOW)
def test_all_workers_have_the_same_bits(found: list[Any], how: str, size: str) -> None:
    own = ("held", "moments")
    for worker in found[1 : int(size)]:
        for mine, first in zip(worker[size][how], found[0][size][how], strict=True):
            assert {k: v for k, v in mine.items() if k not in own} == {
                k: v for k, v in first.items() if k not in own
            }


@pytest.mark.parametrize("size", ["2", "4"])
@pytest.mark.parametrize("how", ["views", "copied", "lamb", "sharded", "sharded lamb"])
def test_many_workers_learn_what_one_learns(
    found: list[Any], alone: dict[str, Any], how: str, size: str
) -> None:
    for one, many in zip(alone[how], found[0][size][how], strict=True):
        assert many["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert many["norms"] == pytest.approx(one["norms"], rel=1e-5)
        # Adam's first steps turn the smallest gradient into a whole step of 0.01.
        differences = [abs(a - b) for a, b in zip(many["weights"], one["weights"], strict=True)]
        assert sum(differences) / len(differences) < 1e-5


@pytest.mark.parametrize("size", ["2", "4"])
@pytest.mark.parametrize("how", ["sharded", "sharded lamb"])
def test_a_worker_holds_its_share_of_the_moments_and_together_they_are_those_of_one(
    found: list[Any], alone: dict[str, Any], how: str, size: str
) -> None:
    for split, one in enumerate(alone[how]):
        held = [worker[size][how][split]["held"] for worker in found[: int(size)]]
        assert sum(held) == one["held"]
        assert max(held) < 1.2 * one["held"] / int(size)
        moments = found[0][size][how][split]["moments"]
        differences = [abs(a - b) for a, b in zip(moments, one["moments"], strict=True)]
        assert sum(differences) / len(differences) < 1e-6


def test_two_workers_that_divide_the_moments_have_the_bits_of_two_that_do_not(
    found: list[Any],
) -> None:
    """Without clipping: the global norm of shares is rounded otherwise."""
    for divided, whole in zip(
        found[0]["2"]["sharded unclipped"], found[0]["2"]["unclipped"], strict=True
    ):
        assert divided["weights"] == whole["weights"]
        assert divided["moments"] == whole["moments"]


@pytest.mark.parametrize("size", ["2", "4"])
def test_gradients_in_the_buckets_and_beside_them_are_the_same(found: list[Any], size: str) -> None:
    assert found[0][size]["copied"] == found[0][size]["views"]


@pytest.mark.parametrize("size", ["2", "4"])
@pytest.mark.parametrize("how", [name for name in HOW if name.startswith("canonical")])
def test_the_canonical_order_gives_the_same_bits_for_any_number_of_workers(
    found: list[Any], alone: dict[str, Any], how: str, size: str
) -> None:
    keys = ("bits", "losses", "norms", "weights")
    for one, many in zip(alone[how], found[0][size][how], strict=True):
        assert {key: many[key] for key in keys} == {key: one[key] for key in keys}


def test_another_order_of_sums_gives_other_bits(found: list[Any], alone: dict[str, Any]) -> None:
    bits = {alone["views"][0]["bits"], *(found[0][size]["views"][0]["bits"] for size in "24")}
    assert len(bits) > 1, "the test above would pass without the canonical order"


@pytest.mark.parametrize("size", ["2", "4"])
def test_gradients_that_travel_in_bf16_stay_near_and_are_half_the_bytes(
    found: list[Any], alone: dict[str, Any], size: str
) -> None:
    for one, many in zip(alone["views"], found[0][size]["bf16"], strict=True):
        assert many["losses"] == pytest.approx(one["losses"], rel=0.02)
        assert many["norms"] == pytest.approx(one["norms"], rel=0.02)
        assert many["bits"] != one["bits"]
    assert 2 * found[0][size]["bf16"][0]["sent"] == found[0][size]["views"][0]["sent"]
    assert found[0][size]["sharded"][0]["sent"] == found[0][size]["views"][0]["sent"]


def test_what_no_worker_uses_is_left_as_it_is(found: list[Any], alone: dict[str, Any]) -> None:
    for results in (alone, found[0]["2"], found[0]["4"]):
        assert {tuple(each["unused"]) for runs in results.values() for each in runs} == {(1.0,) * 7}


@pytest.mark.parametrize("size", ["2", "4"])
@pytest.mark.parametrize("how", [name for name in HOW if "poisoned" in name])
def test_a_gradient_that_is_not_finite_on_one_worker_stops_all_before_the_update(
    found: list[Any], how: str, size: str
) -> None:
    # 10 rows in micro-batches of 3: with two workers the second has two in a step, with four one.
    step = {"2": 1, "4": 2}[size]
    for worker in found[: int(size)]:
        result = worker[size][how][0]
        assert len(result["losses"]) == step - 1
        name = "bert.layers.0.attention.qkv.weight"
        assert result["faults"] == [{"step": step, "tensor": f"gradient of {name}", "rank": 1}]
        assert f"step {step}: the gradient of {name} is not finite" in result["error"]
        assert all(math.isfinite(weight) for weight in result["weights"])


@pytest.mark.parametrize("size", [3, 5, 6, 12, 128])
def test_the_canonical_order_is_refused_for_other_numbers_of_workers(size: int) -> None:
    with pytest.raises(UsageError, match=f"--reproducible with {size} workers"):
        Gradients({}, World(0, 0, size), is_canonical=True)
