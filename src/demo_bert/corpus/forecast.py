"""What the making of a store will take, measured on samples of its sources."""

import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_bert.corpus import sources
from demo_bert.corpus.document import Piece, whole
from demo_bert.corpus.parts import PartFacts, Rules, make_part
from demo_bert.corpus.recipe import Recipe, rules_of
from demo_bert.corpus.samples import Sample, samples_of

_LEARNING_EXPONENT = 2 / 3
"""What the words of a text cost that were not met before, which are dear, grows with its length to
this power: the longer a text, the fewer and the rarer they are."""
_START_S = 0.3
"""Of a worker, which is started for the parts and again for the shards: 0.17 s each."""
_ASSEMBLY_BYTES_PER_S = 100e6
_SIGNATURE_BYTES = 504
_WORKER_BYTES = 200 << 20


@dataclass(frozen=True)
class Forecast:
    """What is to be expected."""

    input_bytes: int
    tokens: int
    store_bytes: int
    disk_bytes: int
    """The most that is needed at once: parts and store."""
    memory_bytes: int
    """Of all workers."""
    seconds: float


@dataclass
class Work:
    """An input: how much it is, and what its samples took."""

    input_bytes: float
    largest_bytes: float
    """Of its largest piece, which one process reads."""
    sampled_bytes: float = 0.0
    known_s: float = 0.0
    """Of the samples when every word of them was known already."""
    learning_s: float = 0.0
    """What the samples took beyond that."""
    tokens: float = 0.0
    store_bytes: float = 0.0
    part_bytes: float = 0.0

    @property
    def scale(self) -> float:
        """How many times the samples it is."""
        return self.input_bytes / self.sampled_bytes if self.sampled_bytes else 0.0

    def seconds_of(self, share: float) -> float:
        """What a process takes for a share of it.

        Args:
            share: 0 to 1.

        Returns:
            Seconds.
        """
        times = share * self.scale
        return times * self.known_s + times**_LEARNING_EXPONENT * self.learning_s


def forecast(recipe: Recipe, *, num_workers: int) -> Forecast:
    """Reads a little of every source and extrapolates.

    Args:
        recipe: Of the store.
        num_workers: Processes.

    Returns:
        The forecast; duplicates are counted as kept.

    Raises:
        DataError: An input cannot be read, or is of another form.
    """
    rules = rules_of(recipe)
    with tempfile.TemporaryDirectory(prefix="demo_bert-forecast-") as directory:
        place = Path(directory)
        loading_s = _loading_s(place, rules)
        works: list[Work] = []
        for number, one in enumerate(recipe.inputs):
            (place / str(number)).mkdir()
            pieces = sources.plan([one], tally=Counter())
            works.append(_work_on(pieces, rules=rules, place=place / str(number)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = peak * (1 if sys.platform == "darwin" else 1024)
    store_bytes = sum(work.scale * work.store_bytes for work in works)
    part_bytes = sum(work.scale * work.part_bytes for work in works)
    return Forecast(
        input_bytes=int(sum(work.input_bytes for work in works)),
        tokens=int(sum(work.scale * work.tokens for work in works)),
        store_bytes=int(store_bytes),
        disk_bytes=int(store_bytes + part_bytes),
        memory_bytes=memory + (num_workers > 1) * num_workers * max(memory, _WORKER_BYTES),
        seconds=loading_s
        + (num_workers > 1) * _START_S
        + seconds_of(works, num_workers=num_workers)
        + store_bytes / _ASSEMBLY_BYTES_PER_S,
    )


def seconds_of(works: Sequence[Work], *, num_workers: int) -> float:
    """What making the parts of all inputs takes.

    Args:
        works: The inputs.
        num_workers: Processes, each of which learns words for itself.

    Returns:
        Seconds; a piece is read by one process however many there are.
    """
    longest = (work.seconds_of(work.largest_bytes / max(1, work.input_bytes)) for work in works)
    return max(sum(work.seconds_of(1 / num_workers) for work in works), *longest, 0.0)


def _loading_s(place: Path, rules: Rules) -> float:
    """What is loaded once, be the text ever so short; samples do not pay for it then."""
    text = place / "short"
    text.write_text("It rained.\n", "utf-8")
    begin_s = time.monotonic()
    make_part(place / "warm", [whole("text", str(text), num_bytes=11)], rules=rules)
    return time.monotonic() - begin_s


def _work_on(pieces: Sequence[Piece], *, rules: Rules, place: Path) -> Work:
    """An input by its samples, which are made twice: the second time their words are known."""
    sizes = [piece.num_bytes for piece in pieces]
    work = Work(sum(sizes), max(sizes, default=0))
    samples = samples_of(pieces, place)
    if not samples:
        return work
    work.sampled_bytes = sum(sample.num_bytes for sample in samples)
    if samples[0].is_row_group:
        # They are large and may be far away: the later half is taken for what knows its words.
        half = len(samples) // 2
        earlier_s = _made(samples[:half], work, place=place, rules=rules)
        later_s = _made(samples[half:], work, place=place, rules=rules)
        later_bytes = sum(sample.num_bytes for sample in samples[half:])
        first_s = earlier_s + later_s
        known_s = later_s * work.sampled_bytes / max(1, later_bytes)
    else:
        first_s = _made(samples, work, place=place, rules=rules)
        known_s = _made(samples, None, place=place, rules=rules)
    work.learning_s = max(0.0, first_s - known_s)
    work.known_s = min(first_s, known_s) + sum(sample.unpacking_s for sample in samples)
    return work


def _made(samples: Sequence[Sample], work: Work | None, *, place: Path, rules: Rules) -> float:
    """Makes a part of samples; the seconds it takes. What comes of it is added to the work."""
    pieces = [piece for sample in samples for piece in sample.pieces]
    begin_s = time.monotonic()
    facts = make_part(place / "part", pieces, rules=rules)
    seconds = time.monotonic() - begin_s
    shutil.rmtree(place / "part")
    if work is not None:
        _add(work, facts, rules)
    return seconds


def _add(work: Work, facts: PartFacts, rules: Rules) -> None:
    ids = facts.tokens * (2 if rules.id_dtype.endswith("2") else 4)
    work.tokens += facts.tokens
    work.store_bytes += ids + 4 * facts.sentences + 5 * facts.documents
    signatures = _SIGNATURE_BYTES * (facts.documents + facts.sentences // 200)
    work.part_bytes += ids + 4 * facts.sentences + 16 * facts.documents
    work.part_bytes += signatures if rules.has_signatures else 0
