"""The directory of a store while it is made: its lock, its plan, its parts."""

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from demo_bert.corpus.store import MANIFEST_NAME, VOCABULARY_NAME
from demo_bert.errors import DiskError, RunDirectoryError
from demo_bert.files import held, write_text

_LOCK = "prepare.lock"
_WORK = "work"
_PLAN = "plan.json"
_HALF_WRITTEN = tuple(f".{name}.*" for name in ("shard-*.bin", VOCABULARY_NAME, MANIFEST_NAME))


class Workplace:
    """A store that is being made.

    Args:
        path: The store's directory; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / _WORK

    def part(self, number: int) -> Path:
        """The directory of a part."""
        return self.work / f"part-{number:05d}"

    def shard(self, number: int) -> Path:
        """The file of a shard."""
        return self.path / f"shard-{number:05d}.bin"

    def shard_record(self, number: int) -> Path:
        """Where the line of a finished shard is kept."""
        return self.work / f"shard-{number:05d}.json"

    def trained_vocabulary(self, words: Sequence[str]) -> Path:
        """Where the vocabulary is, or is to be, that was trained for the store.

        Args:
            words: The part of the command line that shapes it.

        Raises:
            RunDirectoryError: The store there, finished or not, has a vocabulary of another kind.
        """
        wanted = self.work / f"{''.join(words)}.trained-vocab.txt"
        if self.is_finished:
            noted = (_read(self.path / MANIFEST_NAME) or {}).get("command", "")
            is_same = f" {shlex.join(words)} --language " in noted
        else:
            found = [*self.work.glob("*.trained-vocab.txt")]
            has_plan = (self.work / _PLAN).exists()
            is_same = found == [wanted] if found or has_plan else True
        if not is_same:
            kind = "a finished" if self.is_finished else "an unfinished"
            raise RunDirectoryError(
                f"-o {self.path}: holds {kind} store whose vocabulary was not made by"
                f" {shlex.join(words)}; give the same command again, or another directory"
            )
        return self.path / VOCABULARY_NAME if self.is_finished else wanted

    @property
    def hub_inputs(self) -> list[tuple[str, Path]]:
        """What the store, or the unfinished one, was made of on the hub, by commit."""
        if self.is_finished:
            manifest = _read(self.path / MANIFEST_NAME) or {}
            noted = [(one["kind"], one["path"]) for one in manifest.get("sources", [])]
        else:
            noted = [(one[0], one[1]) for one in (_read(self.work / _PLAN) or {}).get("inputs", [])]
        return [(kind, Path(name)) for kind, name in noted if kind == "hub"]

    @property
    def segments(self) -> Path:
        """Where workers on other hosts read what the store is put together of."""
        return self.work / "segments.npy"

    @property
    def is_finished(self) -> bool:
        """Whether the store is complete."""
        return (self.path / MANIFEST_NAME).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the directory and holds it; the lock dies with its owner.

        Raises:
            RunDirectoryError: Another process holds it, or the directory holds something else.
            DiskError: It cannot be made or written.
        """
        self.refuse_others()
        lock = self.path / _LOCK
        busy = "is making this store; wait for it or give another directory"
        with held(lock, busy=busy):
            yield
            if self.is_finished:
                lock.unlink(missing_ok=True)

    def begin(self, plan: Mapping[str, Any]) -> bool:
        """Notes what is to be made, or goes on with the same.

        Args:
            plan: Plain values that shape the store; lists name the inputs.

        Returns:
            Whether an unfinished store of the same plan was found.

        Raises:
            RunDirectoryError: Another store is unfinished here.
            DiskError: The plan cannot be written.
        """
        path = self.work / _PLAN
        noted = _read(path)
        wanted = json.loads(json.dumps(plan))
        if noted is not None and noted != wanted:
            changed = sorted(
                name for name in {*noted, *wanted} if noted.get(name) != wanted.get(name)
            )
            raise RunDirectoryError(
                f"-o {self.path}: holds an unfinished store whose {', '.join(changed)} were"
                " others; give the same command to finish it, or another directory"
            )
        if noted is None:
            write_text(path, json.dumps(wanted, indent=2) + "\n")
        # A kill leaves what it interrupted under another name, as large as a shard.
        for pattern in _HALF_WRITTEN:
            for left in self.path.glob(pattern):
                left.unlink(missing_ok=True)
        return noted is not None

    def clear(self) -> None:
        """Removes what only the making needed."""
        shutil.rmtree(self.work, ignore_errors=True)

    def tidy(self) -> None:
        """Removes what a kill just after the end left beside a finished store."""
        if self.work.exists() or (self.path / _LOCK).exists():
            with suppress(RunDirectoryError, DiskError), self.locked():
                self.clear()

    def give_up(self) -> None:
        """Removes all that was made, where it would be of no use."""
        self.clear()
        (self.path / _LOCK).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def refuse_others(self) -> None:
        """Makes sure that nothing but a store is in the directory.

        Raises:
            RunDirectoryError: Something else is.
        """
        if not self.path.is_dir() or self.is_finished or self.work.exists():
            return
        others = [entry.name for entry in self.path.iterdir() if entry.name != _LOCK]
        if others:
            raise RunDirectoryError(
                f"-o {self.path}: is not empty and holds no token store ({others[0]!r} is in it);"
                " give an empty or new directory"
            )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunDirectoryError(f"{path}: damaged ({error}); remove {path.parent}") from error
    return value if isinstance(value, dict) else None
