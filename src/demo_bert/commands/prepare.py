"""`prepare`: raw text to a token store; `verify`, `inspect`, `merge` and `vocab` beside it.

    demo_bert prepare --wikipedia enwiki.xml.bz2 --books novels -o store
    demo_bert prepare verify store

The same command goes on with an unfinished store, and prints what a finished one holds. The store
does not depend on the number of workers, nor on how often the making was stopped.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module

from demo_bert.commands.going_on import same_command
from demo_bert.errors import DemoBertError, StopRequested
from demo_bert.settings import Origin, PrepareSettings
from demo_bert.stopping import StoppedAtOnce, StopRequests

_LOG = logging.getLogger(__name__)

ACTIONS: Mapping[str | None, str] = {
    None: "demo_bert.commands.prepare_store",
    "verify": "demo_bert.commands.prepare_verify",
    "inspect": "demo_bert.commands.prepare_inspect",
    "merge": "demo_bert.commands.prepare_merge",
    "vocab": "demo_bert.commands.prepare_vocab",
}
"""Action -> its module, with `run(settings)`."""

_GOES_ON = ("what is finished is kept", "it goes on with")
_BEGINS_ANEW = ("nothing was written", "it begins anew with")
_AFTER_A_STOP: Mapping[str | None, tuple[str, str]] = {
    None: _GOES_ON,
    "verify": _BEGINS_ANEW,
    "inspect": _BEGINS_ANEW,
    "merge": _GOES_ON,
    "vocab": _BEGINS_ANEW,
}
"""Action -> what a stop leaves, and what the same command does then."""


def run(settings: PrepareSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Does the action; standard output has its result.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments; a store records the settings instead.

    Returns:
        The exit code.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    from demo_bert.launchers import place

    # Of several workers each has the limit itself.
    is_alone = place().world_size == 1 and not _is_on_hosts(settings)
    limit = settings.max_time.seconds if settings.max_time and is_alone else None
    try:
        with StopRequests(limit, is_at_once=True):
            return _run(settings, origins, argv)
    except StoppedAtOnce as stop:
        kept, what = _AFTER_A_STOP[settings.action]
        raise StopRequested(f"stopped by {stop}; {kept}; {what}: {same_command(argv)}") from None


def _is_on_hosts(settings: PrepareSettings) -> bool:
    """Whether workers on other hosts are to be started: `-v` and hosts, for a store to be made."""
    from demo_bert.launchers import is_worker

    is_asked = settings.hosts is not None and settings.workers is not None
    return is_asked and settings.action is None and not settings.dry_run and not is_worker()


def _run(settings: PrepareSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    from demo_bert.commands.logs import to_standard_error
    from demo_bert.launch.local import let_first_speak
    from demo_bert.launchers import is_worker, place

    to_standard_error(settings.log_level)
    if _is_on_hosts(settings):
        from demo_bert.commands.prepare_hosts import make_on_hosts

        return make_on_hosts(settings, argv)
    if settings.hosts is not None and not is_worker() and not settings.dry_run:
        why = "without -v" if settings.action is None else f"on prepare {settings.action}"
        _LOG.warning("%s has no effect %s; the work is done here", origins["hosts"], why)
    try:
        import_module(ACTIONS[settings.action]).run(settings)
    except DemoBertError:
        let_first_speak(place().rank)
        raise
    return 0
