"""`finetuning`: BERT learns a task."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from demo_bert.commands.training_command import run_training
from demo_bert.settings import Origin, TrainingSettings

if TYPE_CHECKING:
    from demo_bert.commands.fine_tune import FineTuning


def run(settings: TrainingSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.

    Returns:
        The exit code.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    return run_training(settings, origins, argv, make_runs=_make_runs)


def _make_runs(*arguments: Any) -> "FineTuning":
    from demo_bert.commands.fine_tune import FineTuning

    return FineTuning(*arguments)
