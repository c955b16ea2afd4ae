"""What `-t` names. A task is one file here and its line in TASKS; each has `TASK`.

This module and the task modules import the standard library alone, so that the command line can ask
them; torch, numpy and tokenizers are imported where they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from demo_bert.errors import UsageError

if TYPE_CHECKING:
    from demo_bert.tasks.task import Task

TASKS: dict[str, str] = {
    "mrpc": "demo_bert.tasks.mrpc",
    "squad": "demo_bert.tasks.squad",
    "squad_v2": "demo_bert.tasks.squad_v2",
    "classification": "demo_bert.tasks.classification",
}

PLANNED: tuple[str, ...] = (
    "cola",
    "sst2",
    "qqp",
    "stsb",
    "mnli",
    "qnli",
    "rte",
    "wnli",
)
"""Tasks that the command line knows and that are not here yet."""


def load_task(name: str) -> "Task":
    """The task of that name.

    Args:
        name: A key of TASKS.

    Returns:
        The task.

    Raises:
        UsageError: There is no such task (yet).
    """
    if name in PLANNED:
        raise UsageError(f"-t {name}: not here yet; there are {', '.join(TASKS)}")
    if name not in TASKS:
        raise UsageError(f"-t {name}: unknown; there are {', '.join(TASKS)}")
    return cast("Task", import_module(TASKS[name]).TASK)
