"""Actions -> outcomes, in a process of its own: the hub's library reads the environment once.

Reads a JSON list of actions from standard input; writes the list of their outcomes.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from demo_bert import downloads, hub
from demo_bert.errors import DemoBertError
from demo_bert.hub import HubFile, HubSource


def source_from(plain: dict[str, Any]) -> HubSource:
    files = tuple(HubFile(**file) for file in plain["files"])
    return HubSource(**{**plain, "files": files})


def do(action: dict[str, Any]) -> dict[str, Any]:
    lines: list[str] = []
    if "free_bytes" in action:
        usage = SimpleNamespace(free=action["free_bytes"])
        downloads.shutil = SimpleNamespace(disk_usage=lambda place: usage)
    if "spoil" in action:
        Path(action["spoil"]).resolve().write_text("spoilt")
    started = time.monotonic()
    outcome: dict[str, Any] = {"error": None, "exit_code": 0, "message": ""}
    try:
        if "name" in action:
            source = hub.resolve_named(action["name"], announce=lines.append)
            outcome["commit"] = source.revision
            outcome["licence"] = source.licence
            outcome["files"] = [file.path for file in source.files]
        else:
            source = source_from(action["source"])
        outcome["path"] = str(hub.fetch(source, announce=lines.append))
    except DemoBertError as error:
        outcome |= {
            "error": type(error).__name__,
            "exit_code": error.exit_code,
            "message": str(error),
        }
    finally:
        downloads.shutil = shutil
    return outcome | {"lines": lines, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    time.sleep = lambda seconds: None  # the library waits between its retries
    json.dump([do(action) for action in json.load(sys.stdin)], sys.stdout)
