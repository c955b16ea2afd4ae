"""What can be checked before anything is installed: paths, and settings that exclude each other."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from demo_bert.choices import guess
from demo_bert.settings.option import SIZES, TRAINING, Option
from demo_bert.settings.origin import Origin
from demo_bert.settings.table import options_of

Values = Mapping[str, object]
Origins = Mapping[str, Origin]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_FILE_NAME = re.compile(r"\.(safetensors|bin|ckpt|index|json|pt)$")
_SOURCES = ("published", "random")
_MUST_EXIST = (
    "dataset_path",
    "context_file",
    "input",
    "runs",
    "wikipedia",
    "books",
    "jsonl",
    "parquet",
    "stores",
)


def problems_of(command: str, values: Values, origins: Origins) -> list[str]:
    """What is wrong with settings that are each allowed by themselves.

    Args:
        command: The command that runs.
        values: Its settings; those that could not be read are missing.
        origins: Where each came from.

    Returns:
        A text for each problem.
    """
    options = {option.name: option for option in options_of(command)}
    found: list[str] = []
    for name, option in options.items():
        if values.get(name) is not None and not _is_recorded(name, origins):
            found += _path_problems(command, option, values[name], origin=origins[name])
            found += _phase_problems(command, option, values, origin=origins[name])
    found += _output_problems(values, origins)
    if command in TRAINING:
        found += _training_problems(command, values, origins)
    if command == "predict":
        found += _predict_problems(values, origins)
    if command == "prepare":
        found += _prepare_problems(values)
    return found


def looks_like_path(text: str) -> bool:
    """Whether a text names a place on disk rather than something on the hub.

    Args:
        text: What was given for a model or checkpoint.

    Returns:
        True where it exists, or is written as only a path is.
    """
    if text.startswith(("/", "./", "../", "~")) or text in (".", "..") or _exists(text):
        return True
    head = text.split("/")[0]
    is_below = "/" in text and Path(head).is_dir()
    return text.count("/") > 1 or text.endswith("/") or is_below or bool(_FILE_NAME.search(text))


def _path_problems(command: str, option: Option, value: object, *, origin: Origin) -> list[str]:
    name = option.name.removeprefix("finetuning_")
    if name in _MUST_EXIST or (name == "text" and command in ("prepare", "pipeline")):
        paths = value if isinstance(value, tuple) else (value,)
        wants_file = name in ("context_file", "input", "jsonl", "parquet", "wikipedia")
        return [
            problem
            for path in paths
            if (problem := _missing(str(path), wants_file=wants_file, origin=origin))
        ]
    if name == "model":
        return _model_problems(str(value), origin)
    if name == "init_checkpoint":
        return _checkpoint_problems(str(value), origin)
    return []


def _missing(path: str, *, wants_file: bool, origin: Origin) -> str | None:
    if not _exists(path):
        return f"{origin} {path!r}: no such file or directory"
    if wants_file and Path(path).is_dir():
        return f"{origin} {path!r}: is a directory; a file is needed"
    if not os.access(path, os.R_OK):
        return f"{origin} {path!r}: cannot be read; its permissions forbid it"
    return None


def _model_problems(model: str, origin: Origin) -> list[str]:
    if model in SIZES or (looks_like_path(model) and _exists(model)):
        return []
    there = f"there are {', '.join(SIZES)}, a directory, or a hub name (owner/name)"
    if looks_like_path(model):
        return [f"{origin} {model!r}: no such directory; {there}"]
    # Old hub names have no owner, but all have a dash: bert-base-uncased.
    if _HUB_NAME.fullmatch(model) and ("/" in model or "-" in model):
        return []
    return [f"{origin}: unknown model {model!r}{guess(model, SIZES)}; {there}"]


def _checkpoint_problems(path: str, origin: Origin) -> list[str]:
    # A TF checkpoint is named by what its files begin with.
    if path in _SOURCES or _exists(path) or _exists(f"{path}.index"):
        return []
    if not looks_like_path(path) and "/" in path and _HUB_NAME.fullmatch(path):
        return []
    return [
        f"{origin} {path!r}: no such file or directory{guess(path, _SOURCES)}; it takes published,"
        " random, a run directory, a Hugging Face directory or a TF checkpoint"
    ]


def _phase_problems(command: str, option: Option, values: Values, *, origin: Origin) -> list[str]:
    value = values[option.name]
    if option.arity != "one-or-two" or not isinstance(value, tuple):
        return []
    if len(value) > 2:
        return [f"{origin} takes one value or two (one for each phase), got {len(value)}"]
    if len(value) == 2 and (reason := _one_phase(command, option, values)):
        return [f"{origin} takes one value, as {reason}; got {value[0]} {value[1]}"]
    return []


def _one_phase(command: str, option: Option, values: Values) -> str | None:
    """Why there is one phase; None where there may be two."""
    if option.name.startswith("finetuning_"):
        return "finetuning has one phase"
    if command in ("pretraining", "plan") and values.get("task") == "overfit":
        return "overfit has one phase"
    if command == "plan":
        return "finetuning has one phase" if values.get("planned") == "finetuning" else None
    return None if command in ("pretraining", "pipeline") else f"{command} has one phase"


def _output_problems(values: Values, origins: Origins) -> list[str]:
    found: list[str] = []
    for name, is_file in (("output_dir", False), ("output", True)):
        text = values.get(name)
        if not isinstance(text, str):
            continue
        path = Path(text)
        if is_file and path.is_dir():
            found.append(f"{origins[name]} {text!r}: is a directory; a file is needed")
        elif not is_file and path.exists() and not path.is_dir():
            found.append(f"{origins[name]} {text!r}: is a file; a directory is needed")
        else:
            found += _unwritable(path, text, origins[name])
    return found


def _unwritable(path: Path, text: str, origin: Origin) -> list[str]:
    place = Path(os.path.abspath(path))
    while not place.exists() and place != place.parent:
        place = place.parent
    if place.is_file() and place != Path(os.path.abspath(path)):
        return [f"{origin} {text!r}: {str(place)!r} is a file; a directory is needed"]
    if not os.access(place, os.W_OK):
        return [f"{origin} {text!r}: {str(place)!r} is not writable; name another place"]
    return []


def _training_problems(command: str, values: Values, origins: Origins) -> list[str]:
    found: list[str] = []
    if values.get("sample") and values.get("dataset_path"):
        found.append(f"{origins['sample']} and {origins['dataset_path']} exclude each other")
    if values.get("new") and values.get("resume", "auto") not in ("auto", "never"):
        found.append(f"{origins['new']} and {origins['resume']} exclude each other")
    if values.get("fast_perf_only") and values.get("global_batch_size"):
        found.append(
            f"{origins['fast_perf_only']} sets the global batch;"
            f" leave {origins['global_batch_size']} out"
        )
    if values.get("time_budget") is not None and not _is_recorded("time_budget", origins):
        found += [
            f"{origins['time_budget']} and {origins[name]} exclude each other; give one of them"
            for name in ("iters", "epochs")
            if values.get(name) is not None and not _is_recorded(name, origins)
        ]
    if values.get("phases") == (2,) and values.get("init_checkpoint") == "random":
        found.append(f"{origins['phases']} 2 needs --init-checkpoint: the weights of phase 1")
    is_given = values.get("columns") is not None and not _is_recorded("columns", origins)
    if command == "finetuning" and is_given and not values.get("dataset_path"):
        found.append(f"{origins['columns']} needs --dataset-path: the file with these columns")
    return found


def _predict_problems(values: Values, origins: Origins) -> list[str]:
    found: list[str] = []
    asked = [name for name in ("text", "question", "input") if values.get(name) is not None]
    unread = [name for name in ("text", "question", "input") if name not in values]
    if not asked and not unread:
        found.append("predict needs --text, or --question with --context-file, or --input")
    if len(asked) > 1:
        found.append(f"{' and '.join(str(origins[name]) for name in asked)} exclude each other")
    for name, needed in (
        ("text_b", "text"),
        ("question", "context_file"),
        ("context_file", "question"),
    ):
        if values.get(name) is not None and needed in values and values[needed] is None:
            found.append(f"{origins[name]} needs --{needed.replace('_', '-')} too")
    return found


def _prepare_problems(values: Values) -> list[str]:
    action = values.get("action")
    stores = values.get("stores")
    count = len(stores) if isinstance(stores, tuple) else 0
    output = values.get("output_dir")
    if action in ("verify", "inspect") and not count:
        return [f"prepare {action} needs STORE: the token store to read"]
    if action == "merge" and (count < 2 or output is None):
        return ["prepare merge needs at least two stores and -o STORE for the new one"]
    if action is None and output is None:
        return ["-o/--output-dir is required: the token store to write"]
    return []


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        # Too long for a path, say.
        return False


def _is_recorded(name: str, origins: Origins) -> bool:
    return origins[name].source == "run"
