"""What a run directory says of the model in it: the defaults of those who use the model.

Standard library alone at import.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo_bert.report.fields import items, mapping, text, whole
from demo_bert.run_directory import RunDirectory


@dataclass(frozen=True)
class RunFacts:
    """What a run directory says of the model in it."""

    path: Path
    task: str
    dtype: str | None
    max_seq_length: int | None
    batch_size: int | None
    dataset_path: tuple[Path, ...]
    """Empty: the data was fetched, or was the sample."""
    columns: Mapping[str, str]
    is_sample: bool
    """Whether the embedded sample stood in for the data."""
    is_pair: bool | None
    """Whether it was trained on pairs of texts; None where the run does not say."""
    sha256: frozenset[str]
    """Of the files of its data."""
    counts: Mapping[str, int]
    """Examples by split."""


def read_run_facts(directory: Path) -> RunFacts | None:
    """What is known of the model in a run directory.

    Args:
        directory: Any path.

    Returns:
        The facts; None where there is no run.

    Raises:
        RunDirectoryError: There is a run.json, and it is damaged.
    """
    run = RunDirectory(directory)
    record = run.record() if run.record_path.is_file() else None
    if record is None:
        return None
    entries = map(mapping, items(record.get("settings")))
    settings = {text(entry.get("name")): entry.get("value") for entry in entries}
    data = mapping(record.get("data"))
    is_pair = data.get("is_pair")
    task = text(settings.get("task"))
    counts = {name: whole(count) for name, count in mapping(data.get("counts")).items()}
    return RunFacts(
        path=directory,
        task=task,
        dtype=text(settings.get("dtype")) or None,
        max_seq_length=_first(settings.get("max_seq_length")),
        batch_size=_first(settings.get("batch_size")),
        dataset_path=tuple(Path(text(path)) for path in items(settings.get("dataset_path"))),
        columns={role: text(name) for role, name in mapping(settings.get("columns")).items()},
        is_sample=data.get("sample") is True,
        is_pair=is_pair if isinstance(is_pair, bool) else (True if task == "mrpc" else None),
        sha256=frozenset(text(mapping(file).get("sha256")) for file in items(data.get("files"))),
        counts={name: count for name, count in counts.items() if count is not None},
    )


def _first(value: object) -> int | None:
    """The first number of a setting that has one for each phase."""
    return next((whole(number) for number in items(value)), None)
