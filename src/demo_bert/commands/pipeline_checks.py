"""What `pipeline` refuses at once: what a stage would refuse hours on."""

import logging
import os
from collections import Counter
from pathlib import Path

from demo_bert.commands.fine_tune import read_data
from demo_bert.commands.not_yet import refuse_what_is_missing
from demo_bert.commands.pipeline_stages import Stage
from demo_bert.commands.prepare_sources import TRAIN, inputs_of, read_named_vocabulary
from demo_bert.commands.pretraining_plan import check_lengths, defaults_of, plan_phases
from demo_bert.commands.run_plan import longest_example
from demo_bert.commands.starting_weights import find_starting_weights
from demo_bert.corpus import sources
from demo_bert.errors import UsageError
from demo_bert.optim import make_optimizer, make_schedule
from demo_bert.settings import PrepareSettings, TrainingSettings, with_defaults
from demo_bert.tasks import load_task

_LOG = logging.getLogger(__name__)


def check_prepare(stage: Stage) -> None:
    """Checks the sources, as far as their names tell, and the vocabulary.

    Args:
        stage: Its stage.

    Raises:
        DemoBertError: What the stage would say.
    """
    settings, _ = stage.resolved(os.environ)
    assert isinstance(settings, PrepareSettings)
    sources.plan(inputs_of(settings), tally=Counter())
    if settings.vocab != TRAIN:
        read_named_vocabulary(settings)


def check_pretraining(stage: Stage, *, has_text: bool) -> int:
    """Checks pre-training's options, its starting weights, and its phases against the model.

    Args:
        stage: Its stage.
        has_text: Whether its token store is made by the pipeline, and so not there yet.

    Returns:
        The longest example that the model can take.

    Raises:
        DemoBertError: What the stage would say.
    """
    if has_text:
        flags = [f for f in stage.flags if not f.startswith(("--dataset-path=", "-t="))]
        stage = Stage(stage.command, tuple(flags), stage.directory)
    settings, origins = stage.resolved(os.environ, with_recorded=not has_text)
    assert isinstance(settings, TrainingSettings)
    refuse_what_is_missing(settings, origins)
    defaults, recipes = defaults_of(settings, is_sample=False, num_workers=1)
    settings, _ = with_defaults(settings, origins, defaults, where=settings.task)
    _check_names(settings)
    phases = plan_phases(settings, recipes, num_examples=[1] * len(recipes), num_workers=1)
    start = find_starting_weights(settings.model, settings.init_checkpoint, announce=_LOG.debug)
    max_positions = start.config.max_position_embeddings
    check_lengths(phases, max_positions=max_positions)
    return max_positions


def check_finetuning(stage: Stage, *, trained: Path, max_positions: int) -> None:
    """Checks fine-tuning's options, and reads its data.

    Args:
        stage: Its stage.
        trained: The directory that pre-training writes.
        max_positions: The longest example that the model can take.

    Raises:
        DemoBertError: What the stage would say.
    """
    try:
        _check_finetuning(stage, trained=trained, max_positions=max_positions)
    except UsageError as error:
        raise UsageError(f"fine-tuning: {error}") from error


def _check_finetuning(stage: Stage, *, trained: Path, max_positions: int) -> None:
    if not trained.exists():
        stage = stage.with_flags("-m=tiny")
    settings, origins = stage.resolved(os.environ)
    assert isinstance(settings, TrainingSettings)
    refuse_what_is_missing(settings, origins)
    _check_names(settings)
    longest_example(settings, load_task(settings.task).recipe, max_positions=max_positions)
    read_data(settings, announce=_LOG.debug)


def _check_names(settings: TrainingSettings) -> None:
    """Optimizer and schedule, as far as they are given."""
    if settings.optimizer is not None:
        make_optimizer(settings.optimizer, {}, weight_decay=0.0)
    if settings.schedule is not None:
        make_schedule(settings.schedule, num_steps=1, warmup_steps=0)
