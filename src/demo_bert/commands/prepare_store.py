"""`prepare -o STORE`: makes a token store."""

import logging
import os
import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from demo_bert.commands.prepare_sources import recipe_of
from demo_bert.corpus.forecast import Forecast, forecast
from demo_bert.corpus.making import Progress, make_store
from demo_bert.corpus.recipe import Recipe
from demo_bert.corpus.store import TokenStore
from demo_bert.launchers import World, place, prepare
from demo_bert.report import wording
from demo_bert.report.console import say
from demo_bert.settings import PrepareSettings
from demo_bert.stopping import StopRequests

_LOG = logging.getLogger(__name__)
_BETWEEN_LINES_S = 10.0


def run(settings: PrepareSettings) -> None:
    """Says what is to be expected, makes the store, and says what it holds.

    Args:
        settings: As resolved.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    assert settings.output_dir is not None  # `settings.checks`
    path = Path(settings.output_dir)
    prepare()
    world = place()
    recipe = recipe_of(settings)
    # A launcher starts as many workers as there are to be.
    workers = num_workers(settings.workers) if world.world_size == 1 else 1
    if settings.dry_run:
        num_hosts = len(settings.hosts) if settings.hosts and settings.workers else 1
        say(_forecast_lines(forecast(recipe, num_workers=workers * num_hosts), path))
        return
    if world.is_first:
        _announce(path, recipe, workers * world.world_size)
    with _stop_requests(settings, world) as stops:
        store = make_store(
            path,
            recipe,
            num_workers=workers,
            stop_reason=lambda: stops.reason if stops else None,
            report=_ProgressLines() if world.is_first else _nothing,
            world=world,
        )
    if world.is_first:
        say(_summary(store, path))


def _stop_requests(
    settings: PrepareSettings, world: World
) -> AbstractContextManager[StopRequests | None]:
    """Notes requests where several workers tell each other; one alone ends where it stands."""
    if world.world_size == 1:
        return nullcontext()
    return StopRequests(settings.max_time.seconds if settings.max_time else None)


def num_workers(wanted: int | str | None) -> int:
    """How many processes work.

    Args:
        wanted: A number, "auto" or None.

    Returns:
        The number; the cores that this process may use where none was given.
    """
    return wanted if isinstance(wanted, int) else len(os.sched_getaffinity(0))


def _announce(path: Path, recipe: Recipe, workers: int) -> None:
    """The opening lines; the forecast where there is anything to do."""
    names = ", ".join(f"{kind} {one}" for kind, one in recipe.inputs)
    _LOG.info("sources: %s", names)
    _LOG.info("vocabulary: %s, %d entries", recipe.vocabulary_name, len(recipe.vocabulary))
    _LOG.info("workers: %d", workers)
    if (path / "manifest.json").exists() or (path / "work").exists():
        return
    expected = forecast(recipe, num_workers=workers)
    for line in _forecast_lines(expected, path):
        _LOG.info("%s", line)
    place = path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if expected.disk_bytes > free:
        _LOG.warning(
            "%s is needed at %s and %s is free; what is finished is kept when it is full",
            wording.size(expected.disk_bytes),
            place,
            wording.size(free),
        )


def _forecast_lines(expected: Forecast, path: Path) -> list[str]:
    return [
        f"forecast: {wording.size(expected.input_bytes)} in,"
        f" {expected.tokens / 1e6:.3g} million tokens and {wording.size(expected.store_bytes)} out",
        f"forecast: {wording.duration(expected.seconds)},"
        f" {wording.size(expected.memory_bytes)} of memory,"
        f" {wording.size(expected.disk_bytes)} of disk at {path} on the way",
    ]


def _summary(store: TokenStore, path: Path) -> list[str]:
    facts = store.manifest
    bytes_a_token = sum(shard.num_bytes for shard in store.shards) / max(store.num_tokens, 1)
    held_out, dropped = facts["held_out"], facts["dropped"]
    lines = [
        f"{one['kind']} {one['path']}: {one['documents']} documents of {one['documents_read']},"
        f" {one['sentences']} sentences, {one['tokens']} tokens"
        for one in facts["sources"]
    ]
    lines += [f"{what}: {count}" for what, count in facts["tally"].items()]
    lines.append(
        f"dropped: {dropped['exact_duplicates']} exact and {dropped['near_duplicates']} near"
        f" duplicates, {dropped['blocks_near_held_out']} blocks near a held-out one"
    )
    lines.append(
        f"held out: {held_out['documents']} documents, {held_out['sentences']} sentences (by"
        f" {held_out['rule']})"
    )
    lines.append(
        f"store: {path}: {store.num_documents} documents, {store.num_sentences} sentences,"
        f" {store.num_tokens} tokens, {bytes_a_token:.2f} bytes a token,"
        f" {facts['unknown_fraction']:.2%} [UNK]"
    )
    return lines


class _ProgressLines:
    """A line every ten seconds, and at the end of a stage."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()
        self._shown: str | None = None

    def __call__(self, progress: Progress) -> None:
        is_end = progress.done == progress.total
        now_s = time.monotonic()
        if not is_end and now_s - self._last_s < _BETWEEN_LINES_S:
            return
        self._last_s = now_s
        if progress.stage == "shards":
            _LOG.info("shards: %d of %d written", progress.done, progress.total)
            return
        rate = progress.fresh / max(progress.elapsed_s, 1e-9)
        left = "" if is_end or not rate else _left((progress.total - progress.done) / rate)
        _LOG.info(
            "text: %s of %s, %s/s, %.3g million tokens%s",
            wording.size(progress.done),
            wording.size(progress.total),
            wording.size(rate),
            progress.tokens / 1e6,
            left,
        )


def _nothing(progress: Progress) -> None:
    del progress


def _left(seconds: float) -> str:
    return f", {wording.duration(seconds)} left"
