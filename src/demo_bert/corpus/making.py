"""Makes a token store: inputs to parts in parallel, parts to shards, the manifest last."""

import io
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.corpus import sources
from demo_bert.corpus.assembly import PartOrigin, make_shard, noted_shard, shard_limits
from demo_bert.corpus.crew import Crew
from demo_bert.corpus.document import Piece, Tally
from demo_bert.corpus.manifest import facts_of
from demo_bert.corpus.parts import PartFacts, Rules, make_part, noted_facts
from demo_bert.corpus.recipe import Recipe, Unit, plan_of, rules_of, settings_of, units_of
from demo_bert.corpus.selection import select
from demo_bert.corpus.store import ShardEntry, TokenStore, open_store, write_manifest
from demo_bert.corpus.workers import each
from demo_bert.corpus.workplace import Workplace
from demo_bert.errors import DataError, DemoBertError, RunDirectoryError, StopRequested
from demo_bert.files import write_bytes
from demo_bert.launchers import World

_LOG = logging.getLogger(__name__)
_WARNED_UNKNOWN_FRACTION = 0.01
_REFUSED_UNKNOWN_FRACTION = 0.05


@dataclass(frozen=True)
class Progress:
    """How far the making is."""

    stage: str
    done: int
    total: int
    """Bytes of input, or shards."""
    tokens: int
    elapsed_s: float
    """In this stage."""
    fresh: int
    """Of `done`, what this process did itself."""


def make_store(
    path: Path,
    recipe: Recipe,
    *,
    num_workers: int,
    stop_reason: Callable[[], str | None],
    report: Callable[[Progress], None],
    world: World | None = None,
) -> TokenStore:
    """Makes a store, goes on with an unfinished one, or opens a finished one of the same recipe.

    Args:
        path: Its directory.
        recipe: What shapes it.
        num_workers: Processes; the store does not depend on their number.
        stop_reason: Why to stop, or None; asked every second or so.
        report: Is told how far it is.
        world: This worker's place among those on other hosts, which give the same recipe.

    Returns:
        The store.

    Raises:
        DataError: An input is damaged, or the vocabulary does not fit the text.
        RunDirectoryError: The directory is in use, or holds something else.
        DiskError: Something cannot be written.
        StopRequested: It was stopped; what is finished is kept.
        FailureError: A worker on another host ended or gives no sign.
    """
    place = Workplace(path)
    if place.is_finished:
        store = _finished_before(path, recipe)
        if world is None or world.is_first:
            _warn_of_changed_sources(path, recipe, store)
            place.tidy()
        return store
    making = _Making(place, recipe, num_workers, stop_reason, report, world or World())
    with place.locked() if making.crew.world.is_first else nullcontext():
        try:
            if making.crew.world.world_size == 1 and place.is_finished:
                # Another process has finished it since.
                return _finished_before(path, recipe)
            making.store()
        except DemoBertError as error:
            making.crew.give_up(error)
            raise
    return open_store(path)


class _Making:
    """The making of a store, or a worker's share in it.

    Args:
        place: Its directory, locked by the first worker.
        recipe: As `make_store`, like the other ones.
        num_workers: Processes of this worker.
        stop_reason: Why to stop, or None.
        report: Is told how far it is.
        world: This worker's place among those on other hosts.
    """

    def __init__(
        self,
        place: Workplace,
        recipe: Recipe,
        num_workers: int,
        stop_reason: Callable[[], str | None],
        report: Callable[[Progress], None],
        world: World,
    ) -> None:
        self._place = place
        self._recipe = recipe
        self._num_workers = num_workers
        self._stop_reason = stop_reason
        self._report = report
        self.crew = Crew(place.work, world, stop_if_asked=self._stop_if_asked)

    def store(self) -> None:
        """Makes the store; a worker that is not the first makes its share of parts and shards."""
        tally: Tally = Counter()
        units = units_of(self._recipe.inputs, tally=tally)
        is_first = self.crew.world.is_first
        if is_first and self._place.begin(plan_of(self._recipe)):
            _LOG.info("goes on with the unfinished store in %s", self._place.path)
        self.crew.meet()
        directories = [self._place.part(number) for number in range(len(units))]
        self._make_parts(units)
        self.crew.tell("parts")
        if not is_first:
            self.crew.wait_for("selection", [0])
            self._make_shards(np.load(self._place.segments, allow_pickle=False), directories)
            self.crew.tell("shards")
            self.crew.wait_for_end(lambda: self._place.is_finished)
            return
        self.crew.wait_for("parts")
        facts = [noted_facts(one) for one in directories]
        if not sum(one.documents for one in facts):
            self._place.give_up()
            raise DataError("the sources hold no text; nothing was written")
        _LOG.info("chooses documents: duplicates, held-out ones")
        selection = select(directories, dedupe=self._recipe.dedupe)
        self._note_segments(selection.segments)
        num_shards = self._make_shards(selection.segments, directories)
        self.crew.wait_for("shards", range(1, self.crew.world.world_size))
        shards = [noted_shard(self._place.shard_record(number)) for number in range(num_shards)]
        for one in facts:
            tally.update(one.tally)
        manifest = facts_of(self._recipe, units, facts, selection=selection, tally=tally)
        write_manifest(self._place.path, shards, vocabulary=self._recipe.vocabulary, facts=manifest)
        self._place.clear()

    def _note_segments(self, segments: np.ndarray) -> None:
        """Tells workers on other hosts what the store is put together of."""
        if self.crew.world.world_size > 1:
            content = io.BytesIO()
            np.save(content, segments, allow_pickle=False)
            write_bytes(self._place.segments, content.getvalue())
            self.crew.tell("selection")

    def _make_parts(self, units: Sequence[Unit]) -> None:
        """This worker's parts."""
        rules = rules_of(self._recipe)
        own = self.crew.own(len(units))
        calls = [(self._place.part(number), units[number].pieces, rules) for number in own]
        total = sum(units[number].num_bytes for number in own)
        done = tokens = fresh = 0
        begin = time.monotonic()
        for place, made in self._results(_part, calls):
            one, is_fresh = made
            if own[place] == 0:
                self._check_unknown(one)
            done += one.input_bytes
            fresh += one.input_bytes * is_fresh
            tokens += one.tokens
            elapsed_s = time.monotonic() - begin
            self._report(Progress("text", done, total, tokens, elapsed_s, fresh))

    def _make_shards(self, segments: np.ndarray, parts: Sequence[Path]) -> int:
        """This worker's shards of the chosen documents; the number of all."""
        limits = shard_limits(segments["tokens"])
        own = self.crew.own(len(limits) - 1)
        calls = [
            (
                self._place.shard(number),
                segments[limits[number] : limits[number + 1]],
                tuple(PartOrigin(one, self._recipe.id_dtype) for one in parts),
                self._recipe.id_dtype,
                self._place.shard_record(number),
            )
            for number in own
        ]
        tokens = 0
        begin_s = time.monotonic()
        for done, (_, entry) in enumerate(self._results(_shard, calls), start=1):
            tokens += entry.tokens
            elapsed_s = time.monotonic() - begin_s
            self._report(Progress("shards", done, len(calls), tokens, elapsed_s, done))
        return len(limits) - 1

    def _results(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Results as they come; stops where that is asked for."""
        if self._num_workers == 1 or len(calls) < 2:
            for number, arguments in enumerate(calls):
                self._stop_if_asked()
                yield number, function(*arguments, self._stop_if_asked)
            return
        with closing(each(function, calls, num_workers=self._num_workers)) as results:
            for item in results:
                self._stop_if_asked()
                if item is not None:
                    yield item

    def _stop_if_asked(self) -> None:
        self.crew.beat()
        reason = self._stop_reason()
        if reason is not None:
            raise StopRequested(
                f"stopped ({reason}); what is finished is kept in {self._place.path}: the same"
                " command goes on"
            )

    def _check_unknown(self, facts: PartFacts) -> None:
        """Warns, or refuses, where the vocabulary does not know the text."""
        if not facts.tokens:
            return
        fraction = facts.unknown_tokens / facts.tokens
        name = self._recipe.vocabulary_name
        mend = (
            "give the vocabulary of the text's language with --vocab, leave --cased out for an"
            " uncased one, or train one: demo_bert prepare vocab"
        )
        if fraction > _REFUSED_UNKNOWN_FRACTION:
            self._place.give_up()
            raise DataError(
                f"{fraction:.1%} of the first tokens are [UNK] with {name} (at most"
                f" {_REFUSED_UNKNOWN_FRACTION:.0%}); {mend}"
            )
        if fraction > _WARNED_UNKNOWN_FRACTION:
            _LOG.warning(
                "%.1f %% of the first tokens are [UNK] with %s: %s", 100 * fraction, name, mend
            )


def _part(
    directory: Path,
    pieces: Sequence[Piece],
    rules: Rules,
    heartbeat: Callable[[], None] | None = None,
) -> tuple[PartFacts, bool]:
    """A part's facts, and whether it was made now."""
    was_there = (directory / "part.json").exists()
    facts = make_part(directory, pieces, rules=rules, heartbeat=heartbeat)
    return facts, not was_there


def _shard(
    path: Path,
    segments: np.ndarray,
    origins: Sequence[PartOrigin],
    id_dtype: str,
    record: Path,
    heartbeat: Callable[[], None] | None = None,
) -> ShardEntry:
    del heartbeat
    return make_shard(path, segments, origins=origins, id_dtype=id_dtype, record=record)


def _finished_before(path: Path, recipe: Recipe) -> TokenStore:
    store = open_store(path)
    wanted = settings_of(recipe)
    wanted["sources"] = [[kind, str(one)] for kind, one in recipe.inputs]
    there = {name: store.manifest.get(name) for name in wanted}
    there["sources"] = [[one["kind"], one["path"]] for one in store.manifest.get("sources", [])]
    there["vocabulary"] = {
        name: store.manifest["vocabulary"].get(name) for name in wanted["vocabulary"]
    }
    changed = [name for name in wanted if wanted[name] != there[name]]
    if changed:
        raise RunDirectoryError(
            f"-o {path}: holds a finished store whose {', '.join(changed)} were others; give"
            " another directory"
        )
    return store


def _warn_of_changed_sources(path: Path, recipe: Recipe, store: TokenStore) -> None:
    """Says which sources are of another size than when the store was made of them."""
    for one, entry in zip(recipe.inputs, store.manifest["sources"], strict=True):
        if one[0] == "hub":  # of a fixed commit
            continue
        try:
            now = sum(piece.num_bytes for piece in sources.plan([one], tally=Counter()))
        except DataError:  # gone since; the store does not need it
            continue
        if now != entry["bytes"]:
            _LOG.warning(
                "%s %s has %s bytes now, and had %s when the finished store in %s was made, which"
                " stays as it is; another directory (-o) gets a new one",
                *one,
                f"{now:,}",
                f"{entry['bytes']:,}",
                path,
            )
