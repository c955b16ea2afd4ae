"""One worker's share of a pre-training run: model, optimizer, phases, scores."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from demo_bert.checkpoint import Checkpoint, newest
from demo_bert.choices import Duration
from demo_bert.commands.checkpoint_copies import spread
from demo_bert.commands.device_model import suit_to_device
from demo_bert.commands.forecast import Load
from demo_bert.commands.held_out import Unigram, loss_of, score, unigram_baseline, verdict
from demo_bert.commands.loads import phase_of, pretraining_batch, pretraining_loads
from demo_bert.commands.memory_limits import with_smaller_micro_batches
from demo_bert.commands.pretraining_data import PretrainingData, scored_rows
from demo_bert.commands.pretraining_graphs import recorded_micro_step
from demo_bert.commands.pretraining_plan import Phase, changed_numbers
from demo_bert.commands.pretraining_rate import Pace, steps_between_evaluations
from demo_bert.commands.pretraining_results import pretraining_results
from demo_bert.commands.run_exchange import summed_and_updated
from demo_bert.commands.run_saver import RunSaver, is_due, take_up
from demo_bert.commands.starting_weights import StartingWeights, fill_model
from demo_bert.data.loader import ahead
from demo_bert.data.packing import Batch
from demo_bert.data.pretraining import Examples, pretraining_batches
from demo_bert.distributed import World, wait_for_all
from demo_bert.errors import TrainingError
from demo_bert.evaluation import EvaluationStopped
from demo_bert.hardware import Backend, Dtype
from demo_bert.model.convert import save_model_directory
from demo_bert.model.heads import PreTrainer
from demo_bert.optim import Schedule, make_schedule
from demo_bert.optim.sharded import whole_state
from demo_bert.run_directory import RunDirectory
from demo_bert.seeds import derive
from demo_bert.settings import TrainingSettings
from demo_bert.training import (
    ASKED_ELSEWHERE,
    Actions,
    Faults,
    StepClock,
    TooManySkipped,
    train,
)

_LOG = logging.getLogger(__name__)
_SCORED_EXAMPLES = 1024
_SCORED_TOKENS = 4096  # of a batch: its logits are wide, 400 MB at 8192 and no faster
_MOST_RETURNS = 2


class PretrainWorker:
    """What one worker holds while it pre-trains.

    Args:
        settings: As resolved, the recipe's values filled in.
        phases: The run's numbers.
        start: What the weights start from.
        data: The text.
        backend: The hardware.
        world: This worker's place.

    Raises:
        DataError: There are too few documents.
    """

    _is_unscored = False
    """Whether a stop cut the evaluation of this step short."""

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        phases: tuple[Phase, ...],
        start: StartingWeights,
        data: PretrainingData,
        backend: Backend,
        world: World,
    ) -> None:
        self.settings, self.phases = settings, phases
        self.paces: Mapping[int, Pace] = {}  # phase -> how fast it goes, where it was measured
        self.start, self.data, self.backend, self.world = start, data, backend, world
        self.step = 0
        self.scores: dict[int, dict[str, Any]] = {}
        """Phase -> metrics of its last evaluation."""
        self.verdict = ""
        self.faults = Faults(skips=settings.on_nonfinite != "stop")
        self.dtype = cast(Dtype, settings.dtype)
        self._best: float | None = None
        self._saver = RunSaver(settings, is_first=world.is_first)
        self._evaluated_at = time.monotonic()
        self.schedules = {phase.number: _schedule(phase, settings.schedule) for phase in phases}
        self.examples = {p.number: data.examples(p, seed=settings.seed) for p in phases}
        self._scored = {phase.number: self._scored_examples(phase) for phase in phases}
        self._baselines: dict[int, Unigram] = {}
        self.model: nn.Module = PreTrainer(start.config)
        self.missing, self.unexpected = fill_model(self.model, start, seed=settings.seed)
        self.graphs = suit_to_device(
            self.model,
            settings,
            backend=backend,
            world_size=world.world_size,
            num_steps=self.num_steps,
        )
        self.gradients, self.optimizer = summed_and_updated(
            dict(self.model.named_parameters()), settings, world
        )

    @property
    def num_steps(self) -> int:
        """Updates of the whole run."""
        return self.phases[-1].end_step

    @property
    def split(self) -> str:
        """Which examples are scored: "held_out", or "train" where they are learnt by heart."""
        return "train" if self.data.is_learnt_by_heart else "held_out"

    def train(
        self,
        checkpoint: Checkpoint | None,
        checkpoints: Path,
        *,
        emit: Callable[..., object],
        stop_reason: Callable[[], str | None],
    ) -> str | None:
        """See `RunWorker.train`; one phase after the other."""
        if checkpoint is not None:
            self._load(checkpoint)
            path = checkpoint.path.relative_to(checkpoints.parent)
            emit("resume", step=self.step, path=str(path))
        else:
            emit("start", total_steps=self.num_steps)
        num_weights = sum(parameter.numel() for parameter in self.model.parameters())
        with self._saver.opened(checkpoints, emit=emit, num_weights=num_weights):
            return self._train_phases(checkpoints, emit=emit, stop_reason=stop_reason)

    def _train_phases(
        self,
        checkpoints: Path,
        *,
        emit: Callable[..., object],
        stop_reason: Callable[[], str | None],
    ) -> str | None:
        if self._is_unscored:
            phase = next(phase for phase in self.phases if self.step <= phase.end_step)
            evaluate = partial(self._evaluate, phase, emit=self._recorder(phase, emit))
            if not evaluate(self.step - phase.first_step, stop_reason=stop_reason):
                return stop_reason() or ASKED_ELSEWHERE
        while self.step < self.num_steps:
            phase = next(phase for phase in self.phases if self.step < phase.end_step)
            record = self._recorder(phase, emit)
            try:
                reason = self._train_phase(phase, emit=record, stop_reason=stop_reason)
            except TooManySkipped as error:
                self._go_back(checkpoints, error, emit=emit)
                continue
            if reason is not None:
                if self._saver.saved_step != self.step:
                    self._save(phase, self.step - phase.first_step)
                return reason
        return None

    def write_products(self, directory: RunDirectory) -> None:
        """Writes the Hugging Face directory.

        Args:
            directory: The run's.

        Raises:
            DiskError: A file cannot be written.
        """
        save_model_directory(
            directory.model,
            self.model,
            config=self.start.config,
            vocabulary=self.start.vocabulary,
            case_rules=self.start.case_rules,
        )

    def results(
        self, directory: RunDirectory, *, status: str, started: float, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The content of results.json; see `pretraining_results`."""
        return pretraining_results(
            status=status, worker=self, directory=directory, started=started, record=record
        )

    def num_scored(self, phase: Phase) -> int:
        """How many examples an evaluation scores.

        Args:
            phase: One of the run's.

        Returns:
            Their number, over all workers.
        """
        return min(len(self._scored[phase.number]), _SCORED_EXAMPLES)

    def _default_interval(self, phase: Phase) -> int:
        return steps_between_evaluations(
            phase.num_steps,
            batch_size=phase.global_batch_size,
            num_scored=self.num_scored(phase),
        )

    def baseline(self, phase: Phase) -> Unigram | None:
        """What frequencies alone reach on the examples that are scored.

        Args:
            phase: One of the run's.

        Returns:
            The baseline, worked out once; None where no token is masked.
        """
        if "mlm_loss" not in phase.parts:
            return None
        if phase.number not in self._baselines:
            examples = self._scored[phase.number]
            rows = scored_rows(examples, most=_SCORED_EXAMPLES)
            self._baselines[phase.number] = unigram_baseline(
                examples, rows, self.data.unigram_counts()
            )
        return self._baselines[phase.number]

    def _go_back(
        self, checkpoints: Path, error: TooManySkipped, *, emit: Callable[..., object]
    ) -> None:
        """Goes back to the last good checkpoint, from where examples come in another order."""
        if self.faults.returns >= _MOST_RETURNS:
            raise TrainingError(
                f"{error}; the run went back {self.faults.returns} times, to another order of the"
                " data each time: it is not the data"
            ) from error
        counters = self.faults.counters() | {"in_a_row": 0, "returns": self.faults.returns + 1}
        self._saver.settle()
        wait_for_all(self.world)  # nobody looks before the last save is on disk
        found, _ = newest(checkpoints)
        found = spread(found, checkpoints, world=self.world, device=self.backend.device())
        wait_for_all(self.world)
        if found is not None:
            self._load(found)
        else:
            fill_model(self.model, self.start, seed=self.settings.seed)
            for tensor in self.optimizer.state.values():
                tensor.zero_()
            self.step = 0
            self._saver.go_on_from(0)
        self.faults = Faults(skips=True, **counters)
        place = found.path.name if found else "the starting weights"
        emit("fault", kind="returned", step=self.step, message=f"{error}; going back to {place}")

    def _scored_examples(self, phase: Phase) -> Examples:
        if self.data.is_learnt_by_heart:
            return self.examples[phase.number]
        return self.data.examples(phase, seed=self.settings.seed, split="held_out")

    def _recorder(self, phase: Phase, emit: Callable[..., object]) -> Callable[..., None]:
        """Records events of a phase, whose steps count from 0, as those of the run."""

        def record(event: str, **fields: object) -> None:
            step = phase.first_step + cast(int, fields.pop("step"))
            if event == "step":
                self.step = step
            emit(event, step=step, phase=phase.number, **fields)
            if event == "step":
                self._saver.after_step(step, cast(float, fields["seconds"]))

        return record

    def loads(self, first_step: int) -> tuple[Load, ...]:
        """See `Probed.loads`."""
        scored = [self.num_scored(phase) for phase in self.phases]
        every = [self._default_interval(phase) for phase in self.phases]
        return pretraining_loads(self, first_step, scored=scored, intervals=every)

    def probe_batch(self, load: Load, size: int) -> tuple[Batch, float]:
        """See `Probed.probe_batch`."""
        return pretraining_batch(self, load, size)

    def probe_loss(self, load: Load, batch: Batch) -> Tensor:
        """See `Probed.probe_loss`."""
        phase = next(phase for phase in self.phases if phase.number == phase_of(load))
        return loss_of(self.model, batch, parts=phase.parts).sum() / batch.num_examples

    def use_micro_batches(self, sizes: Mapping[str, int]) -> None:
        """See `RunWorker.use_micro_batches`."""
        self.paces = {} if sizes else self.paces  # measured with others
        self.phases = tuple(
            phase.with_micro_batch(sizes[name], num_workers=self.world.world_size)
            if (name := f"phase {phase.number}") in sizes
            else phase
            for phase in self.phases
        )

    def micro_batches_of(self, checkpoint: Checkpoint) -> dict[str, int]:
        """See `RunWorker.micro_batches_of`."""
        saved = checkpoint.state.get("phases", [])
        return {f"phase {phase['number']}": phase["micro_batch_size"] for phase in saved}

    def measure(
        self, num_steps: int, *, emit: Callable[..., object], clock: StepClock | None = None
    ) -> None:
        """Trains some steps more of the phase that it is in, for those who measure.

        Args:
            num_steps: How many.
            emit: Records an event.
            clock: Tells where the time goes.
        """
        phase = next(phase for phase in self.phases if self.step < phase.end_step)

        def record(event: str, **fields: object) -> None:
            step = phase.first_step + cast(int, fields.pop("step"))
            if event == "step":
                self.step = step
            emit(event, step=step, phase=phase.number, **fields)

        last = self.step - phase.first_step + num_steps
        self._loop(phase, Actions.of_steps_alone(record), num_steps=last, clock=clock)

    def _train_phase(
        self,
        phase: Phase,
        *,
        emit: Callable[..., None],
        stop_reason: Callable[[], str | None],
    ) -> str | None:
        settings = self.settings
        every = Duration(steps=self._default_interval(phase))
        due = partial(is_due, last_step=phase.num_steps, world=self.world, backend=self.backend)
        actions = Actions(
            emit=emit,
            evaluate=partial(self._evaluate, phase, emit=emit, stop_reason=stop_reason),
            save=partial(self._save, phase),
            is_evaluation_due=lambda step: due(
                step, settings.eval_every or every, since=self._evaluated_at
            ),
            is_save_due=lambda step: self._saver.is_due(
                phase.first_step + step,
                last_step=phase.end_step,
                world=self.world,
                backend=self.backend,
            ),
            stop_reason=stop_reason,
        )
        return self._loop(phase, actions, num_steps=phase.num_steps)

    def _loop(
        self, phase: Phase, actions: Actions, *, num_steps: int, clock: StepClock | None = None
    ) -> str | None:
        """The training loop from where the run stands up to a step of the phase."""
        number = phase.number

        def now() -> Phase:
            return next(phase for phase in self.phases if phase.number == number)

        return with_smaller_micro_batches(
            lambda: self._loop_once(now(), actions, num_steps=num_steps, clock=clock),
            self,
            lambda: (f"phase {number}", now().micro_batch_size),
        )

    def _loop_once(
        self, phase: Phase, actions: Actions, *, num_steps: int, clock: StepClock | None = None
    ) -> str | None:
        seed = derive(self.settings.seed, "phase", phase.number)
        if self.faults.returns:
            seed = derive(seed, "after return", self.faults.returns)
        loss_sum = partial(loss_of, parts=phase.parts)
        micro_step, fill_up = recorded_micro_step(self, phase, loss_sum=loss_sum, emit=actions.emit)
        batches = pretraining_batches(
            self.examples[phase.number],
            seed=seed,
            first_step=self.step - phase.first_step,
            num_steps=num_steps,
            global_batch_size=phase.global_batch_size,
            micro_batch_size=phase.micro_batch_size,
            rank=self.world.rank,
            world_size=self.world.world_size,
            is_canonical=self.settings.reproducible,
            fill=fill_up,
        )
        return train(
            self.model,
            self.optimizer,
            batches=ahead(batches),
            num_steps=num_steps,
            loss_sum=loss_sum,
            schedule=self.schedules[phase.number],
            peak_rate=phase.learning_rate,
            clip_norm=self.settings.clip_norm or None,
            dtype=self.dtype,
            seed=seed,
            backend=self.backend,
            world=self.world,
            actions=actions,
            parts=phase.parts,
            faults=self.faults,
            clock=clock,
            gradients=self.gradients,
            micro_step=micro_step,
        )

    def _evaluate(
        self,
        phase: Phase,
        step: int,
        *,
        emit: Callable[..., None],
        stop_reason: Callable[[], str | None],
    ) -> bool:
        """Scores; False where a stop request cut it short, to be done when the run goes on."""
        self._is_unscored = True
        started = time.perf_counter()
        try:
            metrics = self._metrics(phase, stop_reason)
        except EvaluationStopped:
            return False
        baseline = self.baseline(phase)
        self.verdict = verdict(metrics, baseline, best=self._best)
        if "mlm_loss" in metrics:
            self._best = min(metrics["mlm_loss"], self._best or metrics["mlm_loss"])
        self.scores[phase.number] = metrics
        emit(
            "evaluation",
            step=step,
            split=self.split,
            metrics=metrics,
            loss=sum(metrics.get(part, 0.0) for part in phase.parts),
            seconds=time.perf_counter() - started,
            baseline=vars(baseline) if baseline else {},
            verdict=self.verdict,
        )
        if self.world.is_first and step == phase.num_steps:
            _LOG.info("phase %d: %s", phase.number, self.verdict)
        self._evaluated_at = time.monotonic()
        self._is_unscored = False
        return True

    def _metrics(self, phase: Phase, stop_reason: Callable[[], str | None]) -> dict[str, float]:
        """See `held_out.score`."""
        examples = self._scored[phase.number]
        return score(
            self.model,
            examples,
            scored_rows(examples, most=_SCORED_EXAMPLES),
            max_examples=max(1, _SCORED_TOKENS // phase.max_seq_length),
            dtype=self.dtype,
            backend=self.backend,
            world=self.world,
            stop_reason=stop_reason,
        )

    def _save(self, phase: Phase, step: int) -> None:
        self._saver.save(
            phase.first_step + step,
            state={
                "phase": phase.number,
                "examples_consumed": step * phase.global_batch_size,
                "scores": {str(number): dict(m) for number, m in self.scores.items()},
                "best_mlm_loss": self._best,
                "verdict": self.verdict,
                "faults": self.faults.counters(),
                "is_unscored": self._is_unscored,
                "phases": [phase.numbers for phase in self.phases],
            },
            model=self.model.state_dict(),
            optimizer=whole_state(self.optimizer),
            phase=phase.number,
        )

    def _load(self, checkpoint: Checkpoint) -> None:
        changed = changed_numbers(self.phases, checkpoint.state.get("phases", []))
        take_up(checkpoint, model=self.model, optimizer=self.optimizer, changed=changed)
        self.step = checkpoint.step
        self._saver.go_on_from(self.step)
        self.scores = {int(n): dict(m) for n, m in checkpoint.state["scores"].items()}
        self._best = checkpoint.state["best_mlm_loss"]
        self.verdict = checkpoint.state["verdict"]
        self.faults = Faults(skips=self.faults.skips, **checkpoint.state["faults"])
        self._is_unscored = bool(checkpoint.state.get("is_unscored"))


def _schedule(phase: Phase, name: str | None) -> Schedule:
    """Of a phase, by its name, which the recipe has filled in."""
    assert name is not None
    return make_schedule(name, num_steps=phase.num_steps, warmup_steps=phase.warmup_steps)
