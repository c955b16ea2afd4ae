"""One fine-tuning run: its parts, wired in order.

The order is fixed: task, starting weights, data and plan are found and checked first; only then is
the run directory made. A run that is there goes on from its newest checkpoint, else from the
starting weights.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from demo_bert.commands.run_plan import longest_example, plan_run
from demo_bert.commands.run_records import data_record, open_directory, run_record
from demo_bert.commands.run_session import RunSession
from demo_bert.commands.starting_weights import (
    StartingWeights,
    find_starting_weights,
    with_dropout,
)
from demo_bert.commands.worker import Worker
from demo_bert.data.array_cache import ArrayCache
from demo_bert.data.packing import Example
from demo_bert.distributed import wait_for_all
from demo_bert.downloads import cache_directory
from demo_bert.model.vocabulary import build_tokenizer
from demo_bert.settings import Origin, TrainingSettings, opening_table, with_defaults
from demo_bert.tasks import load_task
from demo_bert.tasks.task import DataRequest, TaskData

_LOG = logging.getLogger(__name__)
COMMAND = "finetuning"


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a fine-tuning run is made of.

    Attributes:
        start: What the weights start from.
        data: The raw examples.
        rows: Their model rows, by split.
    """

    start: StartingWeights
    data: TaskData
    rows: Mapping[str, Sequence[Example]]


def read_data(settings: TrainingSettings, *, announce: Callable[[str], None]) -> TaskData:
    """The task's data, checked.

    Args:
        settings: As resolved.
        announce: Told what is read, and from where.

    Returns:
        The raw examples.

    Raises:
        DataError: They are missing or damaged.
        NetworkError: They cannot be fetched.
    """
    request = DataRequest(
        paths=tuple(Path(path) for path in settings.dataset_path or ()),
        columns=settings.columns or {},
        sample=settings.sample,
    )
    return load_task(settings.task).load(request, announce)


class FineTuning(RunSession):
    """A worker's fine-tuning runs, one after the other.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        origins: Mapping[str, Origin],
        argv: Sequence[str],
    ) -> None:
        super().__init__(COMMAND, settings, origins, argv)
        self.task = load_task(settings.task)
        self._start: StartingWeights | None = None
        self._data: TaskData | None = None
        self._rows: dict[str, Sequence[Example]] | None = None

    def run_one(
        self, settings: TrainingSettings, origins: Mapping[str, Origin]
    ) -> tuple[dict[str, Any], Path]:
        """See `RunSession.run_one`."""
        settings, origins = self.with_recipe(settings, origins)
        directory = open_directory(COMMAND, settings)
        if (finished := self.finished(directory, settings)) is not None:
            return finished, directory.path
        inputs = self.inputs(settings)
        worker, settings, origins = self.make_worker(settings, origins, inputs=inputs)
        record = run_record(
            COMMAND,
            settings,
            origins,
            argv=self.argv,
            data=data_record(inputs.data),
            labels=inputs.data.labels,
            start=inputs.start,
            differences=(worker.missing, worker.unexpected),
            hardware=self.backend.describe(),
        )
        opening = opening_table(COMMAND, settings, origins)
        results = self.go(
            worker, directory, record=record, announce=lambda: self._announce(opening, worker)
        )
        return results, directory.path

    def inputs(self, settings: TrainingSettings) -> Inputs:
        """What the run is made of, read once for all seeds.

        Args:
            settings: The recipe's values filled in.

        Returns:
            Weights, data and model rows.

        Raises:
            DemoBertError: Something is not found, or damaged.
        """
        start, data = self._inputs(settings)
        return Inputs(start, data, self._model_rows(settings, start, data))

    def make_worker(
        self, settings: TrainingSettings, origins: Mapping[str, Origin], *, inputs: Inputs
    ) -> tuple[Worker, TrainingSettings, dict[str, Origin]]:
        """A worker that stands before the first step.

        Args:
            settings: The recipe's values filled in.
            origins: Where each came from.
            inputs: What it trains.

        Returns:
            The worker, and settings and origins with what was planned filled in.

        Raises:
            UsageError: The sequence length is above the model's.
        """
        start = inputs.start
        plan = plan_run(
            settings,
            self.task.recipe,
            hidden_size=start.config.hidden_size,
            max_positions=start.config.max_position_embeddings,
            num_examples=len(inputs.rows["train"]),
            num_workers=self.world.world_size,
        )
        planned: dict[str, object] = {
            "warmup": (plan.warmup_steps,),
            "learning_rate": (plan.learning_rate,),
        }
        settings, found = with_defaults(settings, origins, planned, where=self.task.name)
        worker = Worker(
            self.task,
            settings,
            plan=plan,
            start=start,
            data=inputs.data,
            rows=inputs.rows,
            backend=self.backend,
            world=self.world,
        )
        return worker, settings, found

    def with_recipe(
        self, settings: TrainingSettings, origins: Mapping[str, Origin]
    ) -> tuple[TrainingSettings, dict[str, Origin]]:
        """See `RunSession.with_recipe`."""
        recipe = self.task.recipe
        filled, found = with_defaults(
            settings,
            origins,
            {
                "batch_size": (recipe.batch_size[settings.dtype],),
                "max_seq_length": (recipe.max_seq_length,),
                "epochs": recipe.epochs,
                "optimizer": recipe.optimizer,
                "schedule": recipe.schedule,
                "weight_decay": recipe.weight_decay,
                "clip_norm": recipe.clip_norm,
            },
            where=self.task.name,
        )
        assert filled.batch_size is not None
        batch = filled.batch_size[0] * self.world.world_size
        return with_defaults(
            filled, found, {"global_batch_size": (batch,)}, where=f"{self.task.name}, -b x workers"
        )

    def _inputs(self, settings: TrainingSettings) -> tuple[StartingWeights, TaskData]:
        """Weights and data, read once for all seeds."""
        announce = _LOG.info if self.world.is_first else _LOG.debug
        if self._start is None:
            self._start = find_starting_weights(
                settings.model, settings.init_checkpoint, announce=announce
            )
        if self._data is None:
            self._data = read_data(settings, announce=announce)
        start = with_dropout(
            self._start, hidden=settings.dropout, attention=settings.attention_dropout
        )
        return start, self._data

    def _model_rows(
        self, settings: TrainingSettings, start: StartingWeights, data: TaskData
    ) -> dict[str, Sequence[Example]]:
        """The model rows of each split, made once for all seeds; a host's first worker is first."""
        if self._rows is None:
            features = partial(
                self.task.features,
                labels=data.labels,
                tokenizer=build_tokenizer(start.vocabulary, **vars(start.case_rules)),
                max_seq_length=longest_example(
                    settings,
                    self.task.recipe,
                    max_positions=start.config.max_position_embeddings,
                ),
                cache=ArrayCache(
                    cache_directory() / "windows", round(1e9 * settings.feature_cache)
                ),
            )
            if self.world.local_rank:
                wait_for_all(self.world)
            self._rows = {name: features(data.splits[name]) for name in ("train", "validation")}
            if not self.world.local_rank:
                wait_for_all(self.world)
        return self._rows

    def _announce(self, opening: str, worker: Worker) -> None:
        """The opening lines."""
        plan, data = worker.plan, worker.data
        for line in opening.split("\n"):
            _LOG.info("%s", line)
        counts = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
        _LOG.info("data: %s (%s)", data.name, counts)
        for note in data.notes:
            _LOG.info("data: %s", note)
        start = worker.start.record
        is_same = start["name"] == start["source"]
        _LOG.info(
            "weights: %s", start["name"] if is_same else f"{start['name']}, {start['source']}"
        )
        for kind, names in (("missing", worker.missing), ("unexpected", worker.unexpected)):
            if names:
                _LOG.info("weights: %s: %s", kind, ", ".join(names))
        _LOG.info("learning rate: %s", plan.rate_reason)
        _LOG.info(
            "plan: %d steps of %d examples (%.4g epochs), %d of them warm-up",
            plan.num_steps,
            plan.global_batch_size,
            plan.epochs,
            plan.warmup_steps,
        )
        how = {
            "native": "products in the device's own units",
            "rounded": "no bfloat16 units here: operands are rounded to bfloat16 and multiplied in"
            " float32",
        }[self.backend.product_mode(worker.dtype)]
        _LOG.info("device: %s, %s: %s", self.backend.name, worker.dtype, how)
        for warning in plan.warnings:
            _LOG.warning("%s", warning)
