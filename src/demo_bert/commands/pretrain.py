"""Pre-training runs: their parts, wired in order.

The order is fixed: starting weights, text and plan are found and checked first; only then is the
run directory made.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from demo_bert.commands.pretrain_worker import PretrainWorker
from demo_bert.commands.pretraining_data import PretrainingData, load_data
from demo_bert.commands.pretraining_plan import (
    SHORTEST,
    Phase,
    PhaseRecipe,
    check_lengths,
    defaults_of,
    epochs_warning,
    plan_phases,
    recipe_of,
)
from demo_bert.commands.pretraining_rate import Pace, fitted_steps, mean_tokens, measured
from demo_bert.commands.run_records import open_directory, run_record
from demo_bert.commands.run_session import RunSession
from demo_bert.commands.starting_weights import (
    StartingWeights,
    find_starting_weights,
    with_dropout,
)
from demo_bert.data.pretraining import Examples
from demo_bert.distributed import sum_numbers
from demo_bert.errors import UsageError
from demo_bert.report import wording
from demo_bert.settings import Origin, TrainingSettings, opening_table, with_defaults

_LOG = logging.getLogger(__name__)
COMMAND = "pretraining"


class PreTraining(RunSession):
    """A worker's pre-training runs, one after the other.

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
        self._found: tuple[PretrainingData, StartingWeights] | None = None

    def run_one(
        self, settings: TrainingSettings, origins: Mapping[str, Origin]
    ) -> tuple[dict[str, Any], Path]:
        """See `RunSession.run_one`."""
        if self.backend.wants_fixed_shapes:
            raise UsageError(
                f"--device {self.backend.name}: pre-training there is not here yet; use cuda or cpu"
            )
        settings, origins = self.with_recipe(settings, origins)
        directory = open_directory(COMMAND, settings)
        recorded = directory.record()
        settings, origins = _with_recorded_steps(settings, origins, recorded)
        if (finished := self.finished(directory, settings)) is not None:
            return finished, directory.path
        data, start = self.inputs(settings)
        paces: dict[int, Pace] = {}
        if settings.time_budget is not None and origins["iters"].source != "run":
            unfitted, _, _ = self.make_worker(settings, origins, data=data, start=start)
            settings, origins, paces = self._fitted(settings, origins, unfitted)
        worker, settings, origins = self.make_worker(settings, origins, data=data, start=start)
        worker.paces = paces
        expected = _expected(worker)
        record = run_record(
            COMMAND,
            settings,
            origins,
            argv=self.argv,
            data=data.record,
            labels=(),
            start=start,
            differences=(worker.missing, worker.unexpected),
            hardware=self.backend.describe(),
        ) | {"expected_s": expected}
        opening = opening_table(COMMAND, settings, origins)
        results = self.go(
            worker,
            directory,
            record=record,
            announce=lambda: self._announce(opening, worker, expected),
        )
        return results, directory.path

    def make_worker(
        self,
        settings: TrainingSettings,
        origins: Mapping[str, Origin],
        *,
        data: PretrainingData,
        start: StartingWeights,
    ) -> tuple[PretrainWorker, TrainingSettings, dict[str, Origin]]:
        """A worker that stands before the first step.

        Args:
            settings: The recipe's values filled in.
            origins: Where each came from.
            data: The text.
            start: What the weights start from.

        Returns:
            The worker, and settings and origins with what was planned filled in.

        Raises:
            UsageError: A phase is asked for that there is not, or its length does not fit.
            DataError: There are too few documents.
        """
        plan = partial(
            plan_phases,
            settings,
            self._recipes(settings)[1],
            num_examples=self._num_examples(data, settings),
            num_workers=self.world.world_size,
        )
        phases, all_phases = plan(), plan(chosen=range(1, len(settings.max_seq_length or ()) + 1))
        check_lengths(phases, max_positions=start.config.max_position_embeddings)
        planned: dict[str, object] = {
            "warmup": tuple(phase.warmup_steps for phase in all_phases),
            "learning_rate": tuple(phase.learning_rate for phase in all_phases),
        }
        settings, found = with_defaults(settings, origins, planned, where=settings.task)
        worker = PretrainWorker(
            settings,
            phases=phases,
            start=start,
            data=data,
            backend=self.backend,
            world=self.world,
        )
        return worker, settings, found

    def with_recipe(
        self, settings: TrainingSettings, origins: Mapping[str, Origin]
    ) -> tuple[TrainingSettings, dict[str, Origin]]:
        """See `RunSession.with_recipe`."""
        defaults, _ = self._recipes(settings)
        where = settings.task
        settings, found = with_defaults(settings, origins, defaults, where=where)
        if settings.clip_norm is None and str(settings.optimizer).startswith("adamw"):
            settings, found = with_defaults(settings, found, {"clip_norm": 1.0}, where=where)
        return settings, found

    def _recipes(
        self, settings: TrainingSettings
    ) -> tuple[dict[str, object], tuple[PhaseRecipe, ...]]:
        is_sample = settings.task == "bookswiki" and not settings.dataset_path
        return defaults_of(settings, is_sample=is_sample, num_workers=self.world.world_size)

    def inputs(self, settings: TrainingSettings) -> tuple[PretrainingData, StartingWeights]:
        """Text and weights, read once for all seeds.

        Args:
            settings: The recipe's values filled in.

        Returns:
            Both.

        Raises:
            DemoBertError: Something is not found, or damaged.
        """
        announce = _LOG.info if self.world.is_first else _LOG.debug
        if self._found is None:
            start = find_starting_weights(
                settings.model, settings.init_checkpoint, announce=announce
            )
            self._found = load_data(settings, start, announce=announce)
        data, start = self._found
        start = with_dropout(start, hidden=settings.dropout, attention=settings.attention_dropout)
        return data, start

    def _num_examples(self, data: PretrainingData, settings: TrainingSettings) -> list[int]:
        """Examples of an epoch of each phase of the recipe, as far as it can have any."""
        found: list[int] = []
        assert settings.max_seq_length and settings.objectives
        for number, length in enumerate(settings.max_seq_length, start=1):
            phase = Phase(
                number, settings.objectives[number - 1], max(length, SHORTEST), *_UNPLANNED
            )
            found.append(len(data.examples(phase, seed=settings.seed)))
        return found

    def _fitted(
        self,
        settings: TrainingSettings,
        origins: Mapping[str, Origin],
        worker: PretrainWorker,
    ) -> tuple[TrainingSettings, dict[str, Origin], dict[int, Pace]]:
        """The settings with as many steps as fit into `--time-budget`."""
        assert settings.time_budget is not None and settings.time_budget.seconds and settings.iters
        budget_s = settings.time_budget.seconds
        paces = measured(worker, budget_s=budget_s)
        (elapsed_s,) = sum_numbers(
            [(time.time() - self.started) / self.world.world_size],
            self.world,
            self.backend.device(),
        )
        steps = list(settings.iters)
        found = fitted_steps(
            worker.phases,
            paces,
            recipe_steps=dict(enumerate(steps, 1)),
            budget_s=budget_s - elapsed_s,
            eval_every=settings.eval_every,
        )
        for number, count in found.items():
            steps[number - 1] = count
        where = f"fitted to {origins['time_budget']} {settings.time_budget}"
        origin = Origin("recipe", where)
        settings = dataclasses.replace(settings, iters=tuple(steps))
        return settings, {**origins, "iters": origin}, paces

    def _announce(
        self, opening: str, worker: PretrainWorker, expected: Mapping[str, float]
    ) -> None:
        """The opening lines."""
        for line in opening.split("\n"):
            _LOG.info("%s", line)
        data = worker.data
        counts = ", ".join(f"{n:,} {name}" for name, n in data.record["counts"].items())
        _LOG.info("data: %s (%s)", data.record["name"], counts.replace("_", " "))
        has_pairs = data.held_out_has_pairs or data.is_learnt_by_heart
        if not has_pairs and any("nsp_loss" in phase.parts for phase in worker.phases):
            _LOG.warning("data: one document is held out: next sentence is trained, but not scored")
        _LOG.info("weights: %s", worker.start.record["name"])
        for kind, names in (("missing", worker.missing), ("unexpected", worker.unexpected)):
            if names:
                _LOG.info("weights: %s: %s", kind, ", ".join(names))
        _LOG.info("recipe: %s", recipe_of(worker.settings).source)
        epochs = 0.0
        for phase in worker.phases:
            examples = worker.examples[phase.number]
            epochs += phase.num_steps * phase.global_batch_size / len(examples)
            self._announce_phase(phase, examples, expected_s=expected.get(str(phase.number)))
        _LOG.info("%.4g epochs over the data in all", epochs)
        settings = worker.settings
        if settings.fast_perf_only:
            _LOG.info("-fpo: small global batches, for measuring alone")
        warning = epochs_warning(epochs, is_meant=data.is_learnt_by_heart)
        if warning:
            _LOG.warning("%s", warning)

    def _announce_phase(
        self, phase: Phase, examples: Examples, *, expected_s: float | None
    ) -> None:
        sequences = phase.num_steps * phase.global_batch_size
        _LOG.info(
            "phase %d: %s, up to %d tokens an example, %d steps of %d examples, %d of them warm-up",
            phase.number,
            phase.objectives,
            phase.max_seq_length,
            phase.num_steps,
            phase.global_batch_size,
            phase.warmup_steps,
        )
        _LOG.info(
            "phase %d: %s sequences, about %.3g million tokens, %.4g epochs over the data%s",
            phase.number,
            f"{sequences:,}",
            sequences * mean_tokens(examples) / 1e6,
            sequences / len(examples),
            "" if expected_s is None else f", about {wording.duration(expected_s)} here",
        )
        _LOG.info(
            "phase %d: %d examples = %d x %d x %d (batch, micro-steps accumulated, workers%s)",
            phase.number,
            phase.global_batch_size,
            phase.micro_batch_size,
            phase.accumulation_steps,
            self.world.world_size,
            "" if self._is_even(phase) else "; the last is not full",
        )
        _LOG.info("phase %d: learning rate: %s", phase.number, phase.rate_reason)

    def _is_even(self, phase: Phase) -> bool:
        product = phase.micro_batch_size * phase.accumulation_steps * self.world.world_size
        return product == phase.global_batch_size


def _with_recorded_steps(
    settings: TrainingSettings,
    origins: Mapping[str, Origin],
    recorded: Mapping[str, Any] | None,
) -> tuple[TrainingSettings, dict[str, Origin]]:
    """The steps that a run with a time budget was begun with: they are fitted once."""
    if recorded is None or settings.time_budget is None:
        return settings, dict(origins)
    steps = {each["name"]: each["value"] for each in recorded["settings"]}["iters"]
    settings = dataclasses.replace(settings, iters=tuple(steps))
    return settings, {**origins, "iters": Origin("run", "run.json")}


def _expected(worker: PretrainWorker) -> dict[str, float]:
    """Seconds that each phase is expected to take; empty where nothing was measured."""
    every = worker.settings.eval_every
    return {
        str(phase.number): pace.seconds(phase, phase.num_steps, eval_every=every)
        for phase in worker.phases
        if (pace := worker.paces.get(phase.number))
    }


_UNPLANNED = (1, 1, 1, 0, 1, 0, 1.0, "")
