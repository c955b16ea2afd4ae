"""What the making of a store will take, measured on samples of its sources."""

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_bert.corpus import sources
from demo_bert.corpus.document import Piece, whole
from demo_bert.corpus.parts import PartFacts, Rules, make_part
from demo_bert.corpus.recipe import Recipe, rules_of
from demo_bert.corpus.streams import Stream, packing_of

_SAMPLES = 8
_SAMPLE_BYTES = 1 << 19
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
class _Totals:
    """Of one or more inputs."""

    input_bytes: float = 0.0
    tokens: float = 0.0
    store_bytes: float = 0.0
    part_bytes: float = 0.0
    seconds: float = 0.0


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
    totals = _Totals()
    with tempfile.TemporaryDirectory(prefix="demo_bert-forecast-") as directory:
        place = Path(directory)
        for number, one in enumerate(recipe.inputs):
            pieces = sources.plan([one], tally=Counter())
            if number == 0 and len(pieces) > 1:
                _warm_up(pieces[-1], rules=rules, place=place)
            _add_input(totals, pieces, rules=rules, place=place / str(number))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = peak * (1 if sys.platform == "darwin" else 1024)
    return Forecast(
        input_bytes=int(totals.input_bytes),
        tokens=int(totals.tokens),
        store_bytes=int(totals.store_bytes),
        disk_bytes=int(totals.store_bytes + totals.part_bytes),
        memory_bytes=memory + (num_workers > 1) * num_workers * max(memory, _WORKER_BYTES),
        seconds=totals.seconds / num_workers + totals.store_bytes / _ASSEMBLY_BYTES_PER_S,
    )


def _warm_up(piece: Piece, *, rules: Rules, place: Path) -> None:
    """Loads what is loaded once, and the first words: a sample would count them as its own."""
    sample, _ = _shortened(piece, place / "warm-head")
    make_part(place / "warm", [sample], rules=rules)


def _add_input(totals: _Totals, pieces: Sequence[Piece], *, rules: Rules, place: Path) -> None:
    """Adds what an input comes to, by samples evenly spread over it."""
    place.mkdir()
    step = max(len(pieces) // _SAMPLES, 1)
    sample = _Totals()
    read_bytes: list[float] = []
    seconds: list[float] = []
    for number, piece in enumerate(pieces[::step]):
        part, share = _shortened(piece, place / f"head-{number}")
        begin = time.monotonic()
        facts = make_part(place / f"part-{number}", [part], rules=rules)
        seconds.append(time.monotonic() - begin)
        read_bytes.append(share)
        _add(sample, facts, rules)
    sampled_bytes = sum(read_bytes)
    input_bytes = sum(piece.num_bytes for piece in pieces)
    scale = input_bytes / sampled_bytes if sampled_bytes else 0.0
    totals.input_bytes += input_bytes
    totals.tokens += scale * sample.tokens
    totals.store_bytes += scale * sample.store_bytes
    totals.part_bytes += scale * sample.part_bytes
    totals.seconds += _time_of(input_bytes, read_bytes, seconds)


def _time_of(input_bytes: float, read_bytes: Sequence[float], seconds: Sequence[float]) -> float:
    """What an input takes: the samples as they were, the rest as fast as the later half of them.

    Words are split once, so that the first samples are slower than all that comes after them.
    """
    half = len(seconds) // 2
    later = sum(seconds[half:]) / max(1.0, sum(read_bytes[half:]))
    return sum(seconds) + later * max(0.0, input_bytes - sum(read_bytes))


def _add(sample: _Totals, facts: PartFacts, rules: Rules) -> None:
    ids = facts.tokens * (2 if rules.id_dtype.endswith("2") else 4)
    sample.tokens += facts.tokens
    sample.store_bytes += ids + 4 * facts.sentences + 5 * facts.documents
    signatures = _SIGNATURE_BYTES * (facts.documents + facts.sentences // 200)
    sample.part_bytes += ids + 4 * facts.sentences + 16 * facts.documents
    sample.part_bytes += signatures if rules.has_signatures else 0


def _shortened(piece: Piece, head: Path) -> tuple[Piece, float]:
    """A piece that stands for a larger one, and the bytes on disk that it is of that."""
    if piece.kind in ("parquet", "hub") or piece.num_bytes <= _SAMPLE_BYTES:
        return piece, piece.num_bytes
    # A file that is one document is read to its end wherever its piece ends.
    size = Path(piece.path).stat().st_size
    is_document = piece.kind in ("text", "books") and (piece.begin, piece.end) == (0, size)
    if packing_of(Path(piece.path)) is None and not is_document:
        end = piece.begin + _SAMPLE_BYTES
        return replace(piece, end=end, num_bytes=_SAMPLE_BYTES), _SAMPLE_BYTES
    with Stream(piece) as stream:
        data = b""
        while len(data) < 4 * _SAMPLE_BYTES and (chunk := stream.read()):
            data += chunk
        share = stream.packed_bytes_read
    head.write_bytes(data)
    return whole(piece.kind, str(head), num_bytes=len(data)), share
