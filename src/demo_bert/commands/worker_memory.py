"""What a worker of a training command needs, known before the workers are started."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_bert.commands.pretraining_plan import RECIPES, PhaseRecipe
from demo_bert.errors import DemoBertError
from demo_bert.settings import TrainingSettings
from demo_bert.tasks import load_task
from demo_bert.tasks.task import Recipe

if TYPE_CHECKING:
    from demo_bert.model.bert import BertConfig

_SAVED_EACH_WEIGHT = 12
"""Bytes of a weight in a checkpoint: float32, with two moments."""


def worker_bytes(settings: TrainingSettings) -> int | None:
    """Memory of one worker.

    Args:
        settings: As resolved, the task's recipe not yet in them.

    Returns:
        Bytes; None where the model's shape is not known before its files are read.
    """
    from demo_bert.model.memory import training_bytes

    if (config := _config_of(settings)) is None:
        return None
    phases: Sequence[Recipe | PhaseRecipe] = (
        RECIPES[settings.task].phases
        if settings.task in RECIPES
        else (load_task(settings.task).recipe,)
    )
    batches, lengths = settings.batch_size or (), settings.max_seq_length or ()
    return max(
        training_bytes(
            config,
            batch_size=[*batches, *[recipe.batch_size[settings.dtype]] * 2][number],
            max_seq_length=[*lengths, *[recipe.max_seq_length] * 2][number],
        )
        for number, recipe in enumerate(phases)
    )


def checkpoint_bytes(settings: TrainingSettings) -> int | None:
    """Disk that a run's checkpoints take, the one that is being written too.

    Args:
        settings: As resolved.

    Returns:
        Bytes; None where the model's shape is not known before its files are read.
    """
    from demo_bert.model.layout import encoder_shapes

    if (config := _config_of(settings)) is None:
        return None
    weights = sum(math.prod(shape) for shape in encoder_shapes(config).values())
    return _SAVED_EACH_WEIGHT * weights * (settings.keep + 1)


def _config_of(settings: TrainingSettings) -> "BertConfig | None":
    from demo_bert.model.bert import BertConfig
    from demo_bert.model.config_file import parse_config
    from demo_bert.model.json_object import read_json_object
    from demo_bert.model.sizes import SIZES

    if settings.model in SIZES:
        return BertConfig(**dict[str, Any](SIZES[settings.model].config))
    path = Path(settings.model).expanduser() / "config.json"
    try:
        return parse_config(read_json_object(path), path, gelu_is_tanh=False)
    except DemoBertError:  # the worker says what is wrong with it
        return None
