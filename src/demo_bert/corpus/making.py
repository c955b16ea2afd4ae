"""Makes a token store: inputs to parts in parallel, parts to shards, the manifest last."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.corpus.assembly import make_shard, shard_limits
from demo_bert.corpus.document import Piece, Tally
from demo_bert.corpus.manifest import facts_of
from demo_bert.corpus.parts import PartFacts, Rules, make_part
from demo_bert.corpus.recipe import Recipe, Unit, plan_of, rules_of, settings_of, units_of
from demo_bert.corpus.selection import select
from demo_bert.corpus.store import ShardEntry, TokenStore, open_store, write_manifest
from demo_bert.corpus.workers import each
from demo_bert.corpus.workplace import Workplace
from demo_bert.errors import DataError, RunDirectoryError, StopRequested

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
) -> TokenStore:
    """Makes a store, goes on with an unfinished one, or opens a finished one of the same recipe.

    Args:
        path: Its directory.
        recipe: What shapes it.
        num_workers: Processes; the store does not depend on their number.
        stop_reason: Why to stop, or None; asked every second or so.
        report: Is told how far it is.

    Returns:
        The store.

    Raises:
        DataError: An input is damaged, or the vocabulary does not fit the text.
        RunDirectoryError: The directory is in use, or holds something else.
        DiskError: Something cannot be written.
        StopRequested: It was stopped; what is finished is kept.
    """
    place = Workplace(path)
    if place.is_finished:
        return _finished_before(path, recipe)
    with place.locked():
        tally: Tally = Counter()
        units = units_of(recipe.inputs, tally=tally)
        if place.begin(plan_of(recipe)):
            _LOG.info("goes on with the unfinished store in %s", path)
        making = _Making(place, recipe, num_workers, stop_reason, report)
        facts = making.parts(units)
        directories = [place.part(number) for number in range(len(units))]
        if not sum(one.documents for one in facts):
            place.give_up()
            raise DataError("the sources hold no text; nothing was written")
        _LOG.info("chooses documents: duplicates, held-out ones")
        selection = select(directories, dedupe=recipe.dedupe)
        shards = making.shards(selection.segments, directories)
        for one in facts:
            tally.update(one.tally)
        manifest = facts_of(recipe, units, facts, selection=selection, tally=tally)
        write_manifest(path, shards, vocabulary=recipe.vocabulary, facts=manifest)
        place.clear()
    return open_store(path)


@dataclass
class _Making:
    """The two stages that run in parallel."""

    place: Workplace
    recipe: Recipe
    num_workers: int
    stop_reason: Callable[[], str | None]
    report: Callable[[Progress], None]

    def parts(self, units: Sequence[Unit]) -> list[PartFacts]:
        """The parts of all units."""
        rules = rules_of(self.recipe)
        calls = [(self.place.part(number), unit.pieces, rules) for number, unit in enumerate(units)]
        total = sum(unit.num_bytes for unit in units)
        facts: dict[int, PartFacts] = {}
        done = tokens = fresh = 0
        begin = time.monotonic()
        for number, made in self._results(_part, calls):
            one, is_fresh = made
            facts[number] = one
            if number == 0:
                self._check_unknown(one)
            done += one.input_bytes
            fresh += one.input_bytes * is_fresh
            tokens += one.tokens
            elapsed_s = time.monotonic() - begin
            self.report(Progress("text", done, total, tokens, elapsed_s, fresh))
        return [facts[number] for number in range(len(units))]

    def shards(self, segments: np.ndarray, parts: Sequence[Path]) -> list[ShardEntry]:
        """The shards of the chosen documents."""
        limits = shard_limits(segments["tokens"])
        calls = [
            (
                self.place.shard(number),
                segments[begin:end],
                tuple(parts),
                self.recipe.id_dtype,
                self.place.shard_record(number),
            )
            for number, (begin, end) in enumerate(zip(limits, limits[1:], strict=False))
        ]
        entries: dict[int, ShardEntry] = {}
        begin_s = time.monotonic()
        for number, entry in self._results(_shard, calls):
            entries[number] = entry
            tokens = sum(one.tokens for one in entries.values())
            elapsed_s = time.monotonic() - begin_s
            self.report(
                Progress("shards", len(entries), len(calls), tokens, elapsed_s, len(entries))
            )
        return [entries[number] for number in range(len(calls))]

    def _results(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Results as they come; stops where that is asked for."""
        if self.num_workers == 1 or len(calls) == 1:
            for number, arguments in enumerate(calls):
                self._stop_if_asked()
                yield number, function(*arguments, self._stop_if_asked)
            return
        with closing(each(function, calls, num_workers=self.num_workers)) as results:
            for item in results:
                self._stop_if_asked()
                if item is not None:
                    yield item

    def _stop_if_asked(self) -> None:
        reason = self.stop_reason()
        if reason is not None:
            raise StopRequested(
                f"stopped ({reason}); what is finished is kept in {self.place.path}: the same"
                " command goes on"
            )

    def _check_unknown(self, facts: PartFacts) -> None:
        """Warns, or refuses, where the vocabulary does not know the text."""
        if not facts.tokens:
            return
        fraction = facts.unknown_tokens / facts.tokens
        name = self.recipe.vocabulary_name
        mend = (
            "give the vocabulary of the text's language with --vocab, leave --cased out for an"
            " uncased one, or train one: demo_bert prepare vocab"
        )
        if fraction > _REFUSED_UNKNOWN_FRACTION:
            self.place.give_up()
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
    parts: Sequence[Path],
    id_dtype: str,
    record: Path,
    heartbeat: Callable[[], None] | None = None,
) -> ShardEntry:
    del heartbeat
    return make_shard(path, segments, parts=parts, id_dtype=id_dtype, record=record)


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
