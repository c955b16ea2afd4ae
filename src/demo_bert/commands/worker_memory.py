"""What a worker of a training command needs, known before the workers are started."""

from pathlib import Path
from typing import Any

from demo_bert.errors import DemoBertError
from demo_bert.settings import TrainingSettings
from demo_bert.tasks import load_task


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
    recipe = load_task(settings.task).recipe
    batch = settings.batch_size[0] if settings.batch_size else recipe.batch_size[settings.dtype]
    length = settings.max_seq_length[0] if settings.max_seq_length else recipe.max_seq_length
    return training_bytes(config, batch_size=batch, max_seq_length=length)
