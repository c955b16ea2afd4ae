"""A user's own name of a model on the hub -> the commit and the files that it stands for."""

import re
from collections.abc import Sequence
from dataclasses import replace

from demo_bert.downloads import Announce
from demo_bert.errors import ModelError, NetworkError, UnreachableError
from demo_bert.hub import client
from demo_bert.hub.records import remember_commit, remembered_commit
from demo_bert.hub.sources import HubFile, HubSource

_NAME = re.compile(r"(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZER_FILES = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_WEIGHTS = (
    ("model.safetensors", re.compile(r"model-\d+-of-\d+\.safetensors")),
    ("pytorch_model.bin", re.compile(r"pytorch_model-\d+-of-\d+\.bin")),
)


def is_hub_name(name: str) -> bool:
    """Whether a text has the form `owner/model` or `owner/model@revision`.

    Args:
        name: Any text.

    Returns:
        True where the hub could know it.

    Example:
        >>> is_hub_name("google-bert/bert-base-uncased"), is_hub_name("base")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def resolve_named(name: str, *, announce: Announce) -> HubSource:
    """The commit and the files that a user's own name of a model stands for.

    Args:
        name: `owner/model` or `owner/model@revision`; the revision is a branch, a tag or a commit.
        announce: Gets a line where the hub is out of reach and an earlier copy stands in.

    Returns:
        The source: configuration, weights, vocabulary and tokenizer files, with the hashes that
        the hub states. `fetch` records the others.

    Raises:
        ModelError: The form of the name is wrong, the hub does not know it or does not open it,
            or there is no model in it that can be read.
        UnreachableError: Nobody answers or requests are forbidden, and no whole copy is cached.
        NetworkError: The hub fails, or what answers is not a hub.
        DiskError: Our cache cannot be written.
        UsageError: `HF_ENDPOINT` or a proxy variable is not an address.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"{name!r} is not a name on the hub; write owner/model or owner/model@revision"
        )
    client.prepare()
    repo_id, revision = match["repo_id"], match["revision"]
    if revision and _COMMIT.fullmatch(revision) and (cached := _cached(repo_id, revision)):
        return cached
    try:
        return _asked(name, repo_id, revision)
    except UnreachableError as error:
        cached = _cached(repo_id, remembered_commit(repo_id, revision))
        if cached is None:
            raise
        announce(f"{error}; the copy of commit {cached.revision[:12]} in the cache is used")
        return cached


def _asked(name: str, repo_id: str, revision: str | None) -> HubSource:
    """What the hub says that the name stands for."""
    info = client.model_on_hub(repo_id, revision, refused=ModelError)
    if not info.sha or not _COMMIT.fullmatch(info.sha):
        raise NetworkError(f"{name}: {client.endpoint()} names no commit; check HF_ENDPOINT")
    files = {
        file.rfilename: HubFile(file.rfilename, file.lfs.sha256 if file.lfs else None, file.size)
        for file in info.siblings or []
    }
    chosen = _choose(list(files), what=f"{repo_id} at {info.sha[:12]}")
    licences = [tag.removeprefix("license:") for tag in info.tags or [] if "license:" in tag]
    remember_commit(repo_id, revision, info.sha)
    return HubSource(
        repo_id,
        "model",
        info.sha,
        licences[0] if licences else "not stated",
        tuple(files[path] for path in chosen),
    )


def _cached(repo_id: str, revision: str) -> HubSource | None:
    """The model as an earlier run, or another program, left it in the hub's cache."""
    wanted = HubSource(repo_id, "model", revision, "not stated", ())
    path = client.cached_file(wanted, "config.json")
    if path is None:
        return None
    try:
        names = _choose(sorted(entry.name for entry in path.parent.iterdir()), what=repo_id)
    except ModelError:
        return None
    files = tuple(HubFile(name) for name in names)
    return replace(wanted, revision=path.parent.name, files=files)


def _choose(names: Sequence[str], *, what: str) -> list[str]:
    """The files of a model's repository that make a model, the best form of its weights."""
    weights: list[str] = []
    for whole, shard in _WEIGHTS:
        index = f"{whole}.index.json"
        if whole in names:
            weights = [whole]
        elif index in names:
            weights = [index, *sorted(name for name in names if shard.fullmatch(name))]
        if weights:
            break
    parts = {
        "config.json": "config.json" in names,
        "model.safetensors or pytorch_model.bin": bool(weights),
        "vocab.txt or tokenizer.json": "vocab.txt" in names or "tokenizer.json" in names,
    }
    if not all(parts.values()):
        lacking = ", ".join(part for part, is_there in parts.items() if not is_there)
        raise ModelError(f"{what}: holds no model that can be read here; it lacks {lacking}")
    return ["config.json", *weights, *(name for name in _TOKENIZER_FILES if name in names)]
