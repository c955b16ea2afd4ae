"""The program as it is, telling on standard error which stage it has come to: for the drills.

    python marked.py [--in-background] finetuning ...

A line `## saving` means that a checkpoint is about to be written, and so on: STAGES.
"""

import functools
import os
import sys
from importlib import import_module
from typing import Any

STAGES = {
    "reading": (
        "demo_bert.commands.fine_tune:FineTuning._inputs",
        "demo_bert.commands.pretrain:PreTraining.inputs",
    ),
    "downloading": ("demo_bert.hub.client:download",),
    "training": ("demo_bert.training:_counts",),
    "evaluating": ("demo_bert.evaluation:_each",),
    "saving": ("demo_bert.checkpoint:_write",),
    "ending": ("demo_bert.commands.run_session:write_report",),
    "making": ("demo_bert.corpus.making:_part", "demo_bert.corpus.making:select"),
}
"""Stage -> what begins it."""


def mark(stage: str, place: str) -> None:
    """Has a function tell that it is called."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, import_module(module))
    function = getattr(owner, name)

    @functools.wraps(function)
    def marked(*arguments: Any, **options: Any) -> Any:
        os.write(2, f"## {stage}\n".encode())
        return function(*arguments, **options)

    setattr(owner, name, marked)


if __name__ == "__main__":
    argv = sys.argv[1:]
    if argv[0] == "--in-background":
        import_module("demo_bert.saver").Saver.small_bytes = 0
        del argv[0]
    for stage, places in STAGES.items():
        for place in places:
            if (argv[0] == "prepare") == (stage == "making"):
                mark(stage, place)
    sys.exit(import_module("demo_bert.cli").main(argv))
