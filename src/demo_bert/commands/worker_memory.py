"""What a worker of a training command needs, known before the workers are started."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo_bert.commands.pretraining_plan import RECIPES, PhaseRecipe
from demo_bert.errors import DemoBertError
from demo_bert.settings import TrainingSettings
from demo_bert.tasks import load_task
from demo_bert.tasks.task import Recipe


def worker_bytes(settings: TrainingSettings) -> int | None:
    """Memory of one worker.

    Args:
        settings: As resolved, the task's recipe not yet in them.

    Returns:
        Bytes; None where the model's shape is not known before its files are read.
    """
    from demo_bert.model.bert import BertConfig
    from demo_bert.model.config_file import parse_config
    from demo_bert.model.json_object import read_json_object
    from demo_bert.model.memory import training_bytes
    from demo_bert.model.sizes import SIZES

    if settings.model in SIZES:
        config = BertConfig(**dict[str, Any](SIZES[settings.model].config))
    else:
        path = Path(settings.model).expanduser() / "config.json"
        try:
            config = parse_config(read_json_object(path), path, gelu_is_tanh=False)
        except DemoBertError:  # the worker says what is wrong with it
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
