"""Where log lines go: standard error, the console's display, a file for each worker."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from demo_bert.errors import DiskError
from demo_bert.launch.job import VARIABLE
from demo_bert.settings import redact

_LOG = logging.getLogger(__name__)

_FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Redacting(logging.Formatter):
    """Keeps credentials in addresses out of every line."""

    def format(self, record: logging.LogRecord) -> str:
        line = redact(super().format(record))
        return f"warning: {line}" if record.levelno >= logging.WARNING else line


class _File(logging.FileHandler):
    """A log file whose disk may be full or gone: said once, no traceback for every line."""

    _is_said = False

    def handleError(self, record: logging.LogRecord) -> None:  # logging's own name
        del record
        if not self._is_said:
            self._is_said = True
            _LOG.warning("%s: cannot be written; lines are lost until it can", self.baseFilename)


def to_standard_error(level: str) -> None:
    """Sends the program's own log lines to standard error, those of libraries from warnings on.

    Args:
        level: "debug", "info", ...
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("%(message)s"))
    _use(handler, level)


def to_handler(handler: logging.Handler, level: str) -> None:
    """Sends them to one handler instead.

    Args:
        handler: The console's.
        level: "debug", "info", ...
    """
    _use(handler, level)


def also_to_file(path: Path) -> logging.Handler:
    """Sends them to a file as well; an agent of several hosts writes it itself, with all output.

    Args:
        path: `logs/rank-<r>.log`; appended to.

    Returns:
        The handler; `remove` ends it.

    Raises:
        DiskError: It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get(VARIABLE):
            return logging.NullHandler()
        handler = _File(path, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{path}: cannot be written ({error.strerror})") from error
    handler.setFormatter(logging.Formatter(_FILE_FORMAT))
    logging.getLogger("demo_bert").addHandler(handler)
    return handler


def remove(handler: logging.Handler) -> None:
    """Ends a handler.

    Args:
        handler: From `also_to_file`.
    """
    logging.getLogger("demo_bert").removeHandler(handler)
    with suppress(OSError):  # a full disk; it was said
        handler.close()


def _use(handler: logging.Handler, level: str) -> None:
    logger = logging.getLogger("demo_bert")
    files = [h for h in logger.handlers if isinstance(h, logging.FileHandler)]
    logger.handlers = [handler, *files]
    logger.setLevel(level.upper())
    logger.propagate = False
