"""The run directory: its names, its record, its lock.

Standard library alone at import.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo_bert.errors import DiskError, RunDirectoryError
from demo_bert.files import held, write_text

_BEFORE_THE_RECORD = re.compile(r"run\.lock|logs|\.run\.json\..*|seed-\d+")
"""What a run makes before its run.json; a directory with nothing else holds no run yet."""


class RunDirectory:
    """A directory that holds one run, laid out as the contract says.

    Args:
        path: It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_path = path / "run.json"
        self.events = path / "events.jsonl"
        self.results_path = path / "results.json"
        self.report = path / "report.html"
        self.tensorboard = path / "tensorboard"
        self.logs = path / "logs"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"

    def record(self) -> dict[str, Any] | None:
        """The content of run.json; None where no run has begun here.

        Raises:
            RunDirectoryError: The file is damaged, or the directory holds something else.
        """
        if not self.record_path.exists():
            if self.path.is_dir() and not all(
                _BEFORE_THE_RECORD.fullmatch(entry.name) for entry in self.path.iterdir()
            ):
                raise RunDirectoryError(
                    f"-o {self.path}: is not empty and holds no run; give an empty or new directory"
                )
            return None
        return _read_object(self.record_path)

    def results(self) -> dict[str, Any] | None:
        """The content of results.json; None where no run has come to an end here.

        Raises:
            RunDirectoryError: The file is damaged.
        """
        return _read_object(self.results_path) if self.results_path.exists() else None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes run.json.

        Args:
            record: Plain values.

        Raises:
            DiskError: It could not be written.
        """
        write_text(self.record_path, _as_json(record))

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes results.json.

        Args:
            results: Plain values.

        Raises:
            DiskError: It could not be written.
        """
        write_text(self.results_path, _as_json(results))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the directory and holds it; the lock dies with its owner.

        Raises:
            RunDirectoryError: Another process holds it.
            DiskError: It cannot be made or written.
        """
        busy = "is at work in it; wait for it or give another directory"
        with held(self.path / "run.lock", busy=busy):
            yield


def beside(path: Path) -> Path:
    """A new name beside a run directory: `name-2`, `name-3`, ...

    Args:
        path: The directory whose name is taken.

    Returns:
        The first name that is free.
    """
    number = 2
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return candidate


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DiskError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RunDirectoryError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{path}: damaged (not a JSON object)")
    return value
