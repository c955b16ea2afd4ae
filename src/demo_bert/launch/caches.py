"""Published weights and data of the hub: who lacks them and does not reach the hub gets ours.

A host looks into its own caches, by hash where one is known; what is there is not copied, and what
the host can fetch is left to its workers. The rest goes from the invoking machine's caches into the
host's, which need not be at the same place.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from demo_bert.downloads import cache_directory, show_bytes
from demo_bert.errors import DemoBertError, UnreachableError
from demo_bert.files import sha256_of
from demo_bert.hub import HubFile, HubSource, client
from demo_bert.hub.records import record_files
from demo_bert.launch.remote import HostError, Hosts

_LOG = logging.getLogger(__name__)
_ASK_TIMEOUT_S = 60.0
_COPY_S, _BYTES_PER_S = 600.0, 1e6

Root = Literal["hub", "own"]


@dataclass(frozen=True)
class Place:
    """A directory of a cache.

    Attributes:
        root: The hub's cache or our own.
        directory: From there.
        files: What a run needs of it.
    """

    root: Root
    directory: str
    files: tuple[HubFile, ...]


@dataclass(frozen=True)
class Fetched:
    """Something that a run fetches.

    Attributes:
        what: It, in words.
        source: Where it comes from.
        places: Where it may lie; one of them is enough.
        find: Finds it on this machine, or fetches it.
    """

    what: str
    source: HubSource
    places: tuple[Place, ...]
    find: Callable[[], Path]


def give(
    hosts: Hosts, names: Sequence[str], wanted: Sequence[Fetched], *, environ: Mapping[str, str]
) -> dict[str, list[str]]:
    """Gives every host what it lacks and cannot fetch, as far as it is on this machine.

    Args:
        hosts: The way to them.
        names: Which.
        wanted: What the run needs.
        environ: Variables that workers there will have.

    Returns:
        Host -> what went wrong.
    """
    if not wanted:
        return {}
    asked = {
        "environ": dict(environ),
        "wanted": [
            {
                "what": each.what,
                "source": asdict(each.source),
                "places": [asdict(place) for place in each.places],
            }
            for each in wanted
        ],
    }
    problems: dict[str, list[str]] = {}
    found: dict[str, Path | None] = {}
    answers = hosts.ask_all(names, "caches", lambda _: asked, timeout_s=_ASK_TIMEOUT_S)
    for name, answer in answers.items():
        if isinstance(answer, HostError):
            problems[name] = [str(answer)]
            continue
        for each in wanted:
            if each.what not in answer["lacking"]:
                continue
            if each.what not in found:
                found[each.what] = _found_here(each)
            directory = found[each.what]
            place = _place_of(each, directory) if directory else None
            if directory is None or place is None:
                continue  # nobody has it, or the package itself: the workers will say so
            _LOG.info("%s: has no %s and does not reach the hub; copying it there", name, each.what)
            try:
                _copy(hosts, name, each.source, place, directory, roots=answer["roots"])
            except HostError as error:
                problems.setdefault(name, []).append(str(error))
    return problems


def _copy(
    hosts: Hosts,
    name: str,
    source: HubSource,
    place: Place,
    directory: Path,
    *,
    roots: Mapping[str, str],
) -> None:
    files = [directory / file.path for file in place.files if (directory / file.path).is_file()]
    size = sum(file.stat().st_size for file in files)
    _LOG.debug("%s: %s to %s", name, show_bytes(size), roots[place.root])
    there = f"{roots[place.root]}/{place.directory}"
    timeout_s = _COPY_S + size / _BYTES_PER_S
    hosts.push(name, there, files=files, below=directory, timeout_s=timeout_s)
    if records := record_files(source):
        own = cache_directory()
        hosts.push(name, roots["own"], files=records, below=own, timeout_s=_COPY_S)


def _found_here(each: Fetched) -> Path | None:
    try:
        return each.find()
    except DemoBertError as error:
        _LOG.debug("%s: not here either (%s)", each.what, error)
        return None


def _place_of(each: Fetched, directory: Path) -> Place | None:
    """Which of its places a directory of this machine is."""
    roots = _roots()
    for place in each.places:
        if roots[place.root] / place.directory == directory:
            return place
    return None


def _roots() -> dict[Root, Path]:
    client.prepare()
    return {"hub": client.hub_cache(), "own": cache_directory()}


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """On a host: what it lacks and cannot fetch, and where its caches are.

    Args:
        asked: From `give`.

    Returns:
        Plain values.
    """
    os.environ.update(asked["environ"])
    roots = _roots()
    lacking = []
    reaches: bool | None = None
    for each in asked["wanted"]:
        places = [_place(place) for place in each["places"]]
        if any(_is_whole(roots[place.root] / place.directory, place.files) for place in places):
            continue
        if reaches is None:
            reaches = _reaches(_source(each["source"]))
        if not reaches:
            lacking.append(each["what"])
    return {"roots": {name: str(path) for name, path in roots.items()}, "lacking": lacking}


def _source(values: Mapping[str, Any]) -> HubSource:
    whole: dict[str, Any] = {**values, "files": _files(values)}
    return HubSource(**whole)


def _place(values: Mapping[str, Any]) -> Place:
    return Place(values["root"], values["directory"], _files(values))


def _files(values: Mapping[str, Any]) -> tuple[HubFile, ...]:
    return tuple(HubFile(**file) for file in values["files"])


def _is_whole(directory: Path, files: Sequence[HubFile]) -> bool:
    """Whether all files are there, with the lengths and hashes that are known."""
    for file in files:
        path = directory / file.path
        if not path.is_file():
            return False
        if file.size_bytes is not None and path.stat().st_size != file.size_bytes:
            return False
        if file.sha256 is not None and sha256_of(path) != file.sha256:
            return False
    return True


def _reaches(source: HubSource) -> bool:
    """Whether somebody answers; what is wrong with the answer is for the worker to say."""
    try:
        client.file_on_hub(source, source.files[0].path)
    except UnreachableError:
        return False
    except DemoBertError:
        return True
    return True
