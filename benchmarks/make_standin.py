"""Makes the stand-in for MRPC: train.tsv and dev.tsv, bit for bit the same on every machine.

    python benchmarks/make_standin.py --output-dir src/demo_bert/tasks/standin

A frame is a kind of event: templates with slots. A slot has concepts (meanings), and a concept has
wordings. A paraphrase tells one event in two templates, mostly in other words. A negative tells two
events around the same names, places and dates: mostly of two frames, else of one frame with two or
three other concepts. Half of the candidates are taken as twins, a paraphrase and a negative with
equal word overlap and equal difference in length, so that surface features say little.
"""

import argparse
import random
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).resolve().parent
SEED = 20261122
NUM_PAIRS = {"train": 1600, "dev": 400}
COLUMNS = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
MIN_WORDS, MAX_WORDS = 12, 25
ELSEWHERE_FRACTION = 0.75
"""Share of the negatives whose second sentence is of another frame, as far as one fits."""
FEW_CHANGED_FRACTION = 0.05
"""Share of the other negatives in which two concepts differ; in the rest three do."""
SAME_WORDING_FRACTION = {1: 0.2, 0: 0.7}
"""Share of the unchanged concepts that keep their wording, by label."""
UNMATCHED_FRACTION = 0.5
"""Share of the candidates whose word overlap and length are not matched with the other label."""
FORMS = ("past", "base", "ing")

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those it its itself he his him himself she her hers they them their
    we us our you your i me my who whom whose which what when where why how whereupon
    of in on at by for with from to into onto out up down off over under about around after before
    because since as if while until during between among amid against without within through near
    along behind inside outside beside per upon than and or but nor not no so
    be is are was were been being am have has had having do does did doing done
    will would shall should can could may might must
    one two all any some many much more most few fewer less least several every each both other
    another such same own only very ever once twice still just even too also then there here now
    away back again ago first far further
    everyone everybody everything someone something anyone anything none nothing nobody
    """.split()
)
"""Closed-class words, the only ones that the two parts may share."""


@dataclass(frozen=True)
class Frame:
    """One kind of event: how it is told and what can vary in it."""

    name: str
    templates: tuple[str, ...]
    entities: dict[str, str]
    """Slot -> list of names that fills it."""
    concepts: dict[str, tuple[tuple[str, ...], ...]]
    """Slot -> concepts -> wordings."""


@dataclass(frozen=True)
class Part:
    """The phrases of one part of the set."""

    entities: dict[str, tuple[str, ...]]
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Pair:
    """Two sentences; label 1 where they mean the same."""

    label: int
    text: str
    text_b: str


T = TypeVar("T")


class Draws:
    """Random choices made of `random.Random.random` alone, the one sequence Python guarantees."""

    def __init__(self, seed: str) -> None:
        """Starts the sequence of the seed."""
        self._random = random.Random(seed).random

    def happens(self, probability: float) -> bool:
        """Whether an event of this probability happens."""
        return self._random() < probability

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """The items in random order."""
        keyed = [(self._random(), item) for item in items]
        return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]


def read_part(path: Path) -> Part:
    """The phrases of standin_train.toml or standin_dev.toml."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    frames = tuple(
        Frame(
            name=frame["name"],
            templates=tuple(frame["templates"]),
            entities=dict(frame["entities"]),
            concepts={
                slot: tuple(tuple(wordings) for wordings in concepts)
                for slot, concepts in frame["concepts"].items()
            },
        )
        for frame in data["frames"]
    )
    return Part({name: tuple(values) for name, values in data["entities"].items()}, frames)


def words(text: str) -> list[str]:
    """Lower-cased words and numbers.

    Example:
        >>> words("The king's 2,000 men.")
        ['the', 'king', 's', '2,000', 'men']
    """
    return re.findall(r"[a-z0-9](?:[a-z0-9,]*[a-z0-9])?", text.lower())


def inflect(wording: str, form: str) -> str:
    """One form of a verb phrase that is written "past/base/ing rest".

    Example:
        >>> inflect("sold/sell/selling the house", "base")
        'sell the house'
    """
    verb, _, rest = wording.partition(" ")
    return f"{verb.split('/')[FORMS.index(form)]} {rest}".rstrip()


def realise(template: str, wordings: Mapping[str, str]) -> str:
    """The sentence that a template makes of the wordings of its slots."""

    def fill(match: re.Match[str]) -> str:
        slot, _, form = match.group(1).partition(".")
        return inflect(wordings[slot], form) if form else wordings[slot]

    sentence = re.sub(r"\{([a-z.]+)\}", fill, template)
    return sentence[0].upper() + sentence[1:] + "."


def partners(part: Part) -> dict[str, list[Frame]]:
    """Frame name -> the frames that share at least two kinds of names, places and dates with it."""
    return {
        frame.name: [
            other
            for other in part.frames
            if other is not frame and len(frame.entities.keys() & other.entities.keys()) >= 2
        ]
        for frame in part.frames
    }


def fill_names(rng: Draws, frame: Frame, *, part: Part) -> dict[str, str]:
    """Names, places and dates for the slots of a frame."""
    return {slot: rng.choice(part.entities[names]) for slot, names in frame.entities.items()}


def fill_concepts(rng: Draws, frame: Frame) -> dict[str, str]:
    """A wording of a concept for each slot of a frame."""
    return {slot: rng.choice(rng.choice(concepts)) for slot, concepts in frame.concepts.items()}


def draw_elsewhere(rng: Draws, frame: Frame, *, other: Frame, part: Part) -> Pair:
    """A negative whose second sentence tells of another kind of event around the same names."""
    names = fill_names(rng, frame, part=part)
    names_b = fill_names(rng, other, part=part) | {
        slot: name for slot, name in names.items() if slot in other.entities
    }
    text = realise(rng.choice(frame.templates), names | fill_concepts(rng, frame))
    text_b = realise(rng.choice(other.templates), names_b | fill_concepts(rng, other))
    return Pair(0, text, text_b) if rng.happens(0.5) else Pair(0, text_b, text)


def draw(rng: Draws, frame: Frame, *, part: Part, label: int) -> Pair:
    """A candidate pair with the label, both sentences of the same kind of event."""
    changed: set[str] = set()
    if label == 0:
        slots = sorted(frame.concepts)
        changed = set(rng.shuffled(slots)[: 2 if rng.happens(FEW_CHANGED_FRACTION) else 3])
    first = fill_names(rng, frame, part=part)
    second = dict(first)
    for slot, concepts in frame.concepts.items():
        concept = rng.choice(concepts)
        first[slot] = rng.choice(concept)
        if slot in changed:
            second[slot] = rng.choice(rng.choice([other for other in concepts if other != concept]))
        elif rng.happens(SAME_WORDING_FRACTION[label]):
            second[slot] = first[slot]
        else:
            second[slot] = rng.choice([text for text in concept if text != first[slot]])
    template, template_b = rng.shuffled(frame.templates)[:2]
    return Pair(label, realise(template, first), realise(template_b, second))


def surface(pair: Pair) -> tuple[int, int]:
    """What twins have in common: classes of word overlap and of difference in length."""
    first, second = words(pair.text), words(pair.text_b)
    overlap = len(set(first) & set(second)) / len(set(first) | set(second))
    difference = max(-3, min(3, len(first) - len(second)))
    return int(12 * overlap), difference // 2


def make_frame(rng: Draws, frame: Frame, *, part: Part, num_twins: int) -> list[Pair]:
    """Twins of one frame: each two pairs are a paraphrase and a negative; no sentence repeats."""
    others = partners(part)[frame.name]
    waiting: dict[tuple[int, tuple[int, int]], list[Pair]] = defaultdict(list)
    pairs: list[Pair] = []
    used: set[str] = set()
    while len(pairs) < 2 * num_twins:
        label = rng.choice((0, 1))
        if label == 0 and others and rng.happens(ELSEWHERE_FRACTION):
            pair = draw_elsewhere(rng, frame, other=rng.choice(others), part=part)
        else:
            pair = draw(rng, frame, part=part, label=label)
        lengths = (len(words(pair.text)), len(words(pair.text_b)))
        if min(lengths) < MIN_WORDS or max(lengths) > MAX_WORDS:
            continue
        key = (-1, -1) if rng.happens(UNMATCHED_FRACTION) else surface(pair)
        twins = waiting[1 - pair.label, key]
        if not twins:
            waiting[pair.label, key].append(pair)
            continue
        twin = twins.pop()
        sentences = {pair.text, pair.text_b, twin.text, twin.text_b}
        if len(sentences) == 4 and not sentences & used:
            pairs += [pair, twin]
            used |= sentences
    return pairs


def make_part(name: str) -> list[Pair]:
    """All pairs of `train` or `dev`, shuffled; half of them are paraphrases."""
    part = read_part(HERE / f"standin_{name}.toml")
    rng = Draws(f"{SEED} {name}")
    pairs: list[Pair] = []
    for number, frame in enumerate(part.frames):
        share, rest = divmod(NUM_PAIRS[name] // 2, len(part.frames))
        pairs += make_frame(rng, frame, part=part, num_twins=share + (number < rest))
    return rng.shuffled(pairs)


def as_tsv(pairs: list[Pair], first_id: int) -> str:
    """The pairs in GLUE's columns for MRPC; sentences are numbered from first_id."""
    lines: list[str] = ["\t".join(COLUMNS)]
    for number, pair in enumerate(pairs):
        ids = (first_id + 2 * number, first_id + 2 * number + 1)
        lines.append(f"{pair.label}\t{ids[0]}\t{ids[1]}\t{pair.text}\t{pair.text_b}")
    return "\n".join(lines) + "\n"


def make() -> dict[str, str]:
    """File name -> content, for both parts; ids are unique over both."""
    files: dict[str, str] = {}
    first_id = 1
    for name in NUM_PAIRS:
        pairs = make_part(name)
        files[f"{name}.tsv"] = as_tsv(pairs, first_id)
        first_id += 2 * len(pairs)
    return files


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description="make the stand-in for MRPC")
    parser.add_argument("--output-dir", type=Path, required=True)
    output_dir: Path = parser.parse_args().output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, text in make().items():
        (output_dir / name).write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    main()
