"""The two sides in turn: A B A B, ratios pair by pair, medians."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from demo_bert.commands.measuring.course import course_of
from demo_bert.commands.measuring.huggingface import Form, HuggingFaceSide
from demo_bert.commands.measuring.own import Block, OwnSide
from demo_bert.distributed import World, sum_numbers
from demo_bert.hardware import Backend

_WARM_UP_STEPS, _WARM_UP_ELSEWHERE = 3, 10
_BLOCK_S = 1.0
_MOST_STEPS = 50
_FEWEST_SORTED = 4
PARTS = ("data", "forward", "backward", "communication", "optimizer")


@dataclass(frozen=True)
class Pairing:
    """Blocks of both sides on the same examples, one right after the other."""

    form: Form
    own: Block
    peer: Block

    @property
    def ratio(self) -> float:
        """Examples per second, ours over theirs."""
        return self.peer.seconds / self.own.seconds


@dataclass
class Measured:
    """What was measured of one work.

    Attributes:
        own: Blocks on examples as they are drawn.
        exact: A block whose parts are exact.
        pairings: With a peer.
        steps: Of a block.
        memory_bytes: Peak of our side, before there was a peer; None where it is unknown.
    """

    steps: int
    memory_bytes: int | None
    exact: Block
    own: list[Block] = field(default_factory=list[Block])
    pairings: list[Pairing] = field(default_factory=list[Pairing])

    def median(self, name: str) -> float:
        """The median over our blocks of something per second.

        Args:
            name: examples, tokens or flops.

        Returns:
            The rate.
        """
        return statistics.median(getattr(block, name) / block.seconds for block in self.own)

    @property
    def step_s(self) -> float:
        """The median step."""
        return statistics.median(block.seconds / self.steps for block in self.own)

    def parts(self) -> dict[str, float]:
        """Where a step's time goes: medians over steps, in seconds."""
        steps = [step["parts_s"] for step in self.exact.steps]
        found = {part: statistics.median(step.get(part, 0.0) for step in steps) for part in PARTS}
        whole = statistics.median(step["seconds"] for step in self.exact.steps)
        return found | {"other": max(0.0, whole - sum(found.values()))}

    def of(self, form: Form) -> list[Pairing]:
        """The pairs with one form of the peer."""
        return [pairing for pairing in self.pairings if pairing.form == form]


def warm_up_steps(backend: Backend) -> int:
    """Steps that are left out before anything is measured.

    Args:
        backend: The hardware.

    Returns:
        More on a device that compiles.
    """
    return _WARM_UP_STEPS if backend.name == "cpu" else _WARM_UP_ELSEWHERE


def measure(
    own: OwnSide, *, world: World, steps: int | None, repeats: int, forms: Sequence[Form]
) -> Measured:
    """Measures a side, alone or beside its peer.

    Args:
        own: The program's side, which has not run yet.
        world: This worker's place; all workers measure together.
        steps: Steps of a block; None: as many as take about a second.
        repeats: Blocks, or pairs with each form of the peer.
        forms: Of the peer; none: ours alone.

    Returns:
        What was measured; the first steps are not in it.
    """
    backend = own.worker.backend
    size = own.work.batch_size * world.world_size
    warm_up = warm_up_steps(backend)
    lengths, seed = own.lengths, own.work.seed
    backend.reset_peak_memory()
    own.follow(
        course_of(lengths, batch_size=size, sorted_blocks=[False], steps=warm_up + 1, seed=seed)
    )
    own.run(warm_up)
    one = own.run(1).seconds
    fewest = _FEWEST_SORTED if forms else 1
    chosen = steps or min(_MOST_STEPS, max(fewest, round(_BLOCK_S / one)))
    (chosen_by_first,) = sum_numbers([chosen if world.is_first else 0], world, backend.device())
    count = int(chosen_by_first)
    kinds = [form == "best" for _ in range(repeats) for form in forms] or [False] * repeats
    own.follow(course_of(lengths, batch_size=size, sorted_blocks=kinds, steps=count, seed=seed + 1))
    exact = own.run(count, is_exact=True)
    found = Measured(count, backend.peak_memory_bytes(), exact)
    peers = {form: HuggingFaceSide(own, form) for form in forms}
    own.worker.step = 0
    for peer in peers.values():
        peer.run(0, 1)
    for place, is_sorted in enumerate(kinds):
        block = own.run(count)
        if not is_sorted:
            found.own.append(block)
        if forms:
            form: Form = "best" if is_sorted else "padded"
            pair = Pairing(form, block, peers[form].run(place * count, count))
            found.pairings.append(pair)
    return found
