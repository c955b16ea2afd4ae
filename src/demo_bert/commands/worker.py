"""One worker's share of a fine-tuning run: model, optimizer, batches, scores."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from demo_bert.checkpoint import Checkpoint
from demo_bert.commands.device_model import suit_to_device
from demo_bert.commands.finetuning_results import finetuning_results
from demo_bert.commands.forecast import Load
from demo_bert.commands.graphs import FixedShapes
from demo_bert.commands.loads import fine_tuning_batch, fine_tuning_load
from demo_bert.commands.memory_limits import with_smaller_micro_batches
from demo_bert.commands.run_exchange import summed_and_updated
from demo_bert.commands.run_plan import RunPlan
from demo_bert.commands.run_saver import RunSaver, is_due, take_up
from demo_bert.commands.starting_weights import StartingWeights, fill_model
from demo_bert.data.capacity import capacities, expected_totals
from demo_bert.data.loader import ahead, micro_batches
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.distributed import World
from demo_bert.evaluation import EvaluationStopped, logits_of
from demo_bert.files import write_text
from demo_bert.hardware import Backend, Dtype
from demo_bert.model.convert import save_model_directory
from demo_bert.optim import make_schedule
from demo_bert.optim.sharded import whole_state
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import TrainingSettings
from demo_bert.tasks.task import Scores, Task, TaskData
from demo_bert.training import (
    ASKED_ELSEWHERE,
    Actions,
    Faults,
    MicroStep,
    StepClock,
    divided_losses,
    train,
)

_EVALUATION_TOKENS = 8192


class Worker:
    """What one worker holds while it trains.

    Args:
        task: The task.
        settings: As resolved, the recipe's values filled in.
        plan: The run's numbers.
        start: What the weights start from.
        data: The raw examples.
        rows: Their model rows, by split.
        backend: The hardware.
        world: This worker's place.
    """

    _is_unscored = False
    """Whether a stop cut the evaluation of this step short."""

    def __init__(
        self,
        task: Task,
        settings: TrainingSettings,
        *,
        plan: RunPlan,
        start: StartingWeights,
        data: TaskData,
        rows: Mapping[str, Sequence[Example]],
        backend: Backend,
        world: World,
    ) -> None:
        self.task, self.settings, self.plan = task, settings, plan
        self.start, self.data, self.backend, self.world = start, data, backend, world
        self.step = 0
        self.scores: Scores | None = None
        self.faults = Faults(skips=settings.on_nonfinite == "skip")
        self._saver = RunSaver(settings, is_first=world.is_first)
        self._evaluated_at = time.monotonic()
        self.dtype = cast(Dtype, settings.dtype)
        self.train_rows, self.validation_rows = rows["train"], rows["validation"]
        self.model: nn.Module = task.make_model(start.config, data.labels)
        self.missing, self.unexpected = fill_model(self.model, start, seed=settings.seed)
        self.graphs = suit_to_device(
            self.model,
            settings,
            backend=backend,
            world_size=world.world_size,
            num_steps=plan.num_steps,
        )
        self.gradients, self.optimizer = summed_and_updated(
            dict(self.model.named_parameters()), settings, world
        )
        assert settings.schedule is not None
        self.schedule = make_schedule(
            settings.schedule, num_steps=plan.num_steps, warmup_steps=plan.warmup_steps
        )
        self.lengths = [len(row.input_ids) for row in self.train_rows]

    @property
    def num_steps(self) -> int:
        """Updates of the whole run."""
        return self.plan.num_steps

    @property
    def is_collapsed(self) -> bool:
        """Whether the last evaluation predicted one class only."""
        confusion = self.scores.event.get("confusion") if self.scores else None
        if not isinstance(confusion, list) or not confusion:
            return False
        return sum(any(row[c] for row in confusion) for c in range(len(confusion))) == 1

    def train(
        self,
        checkpoint: Checkpoint | None,
        checkpoints: Path,
        *,
        emit: Callable[..., object],
        stop_reason: Callable[[], str | None],
    ) -> str | None:
        """See `RunWorker.train`."""
        if checkpoint is not None:
            self._load(checkpoint)
            path = checkpoint.path.relative_to(checkpoints.parent)
            emit("resume", step=self.step, path=str(path))
        else:
            emit("start", total_steps=self.plan.num_steps)

        def record(event: str, **fields: object) -> None:
            if event == "step":
                self.step = cast(int, fields["step"])
            emit(event, **fields)
            if event == "step":
                self._saver.after_step(self.step, cast(float, fields["seconds"]))

        num_weights = sum(parameter.numel() for parameter in self.model.parameters())
        with self._saver.opened(checkpoints, emit=emit, num_weights=num_weights):
            reason = self._train(record, stop_reason)
            if reason is not None and self._saver.saved_step != self.step:
                self._save(self.step)
        return reason

    def loads(self, first_step: int) -> tuple[Load, ...]:
        """See `Probed.loads`."""
        return (fine_tuning_load(self, first_step),)

    def probe_batch(self, load: Load, size: int) -> tuple[Batch, float]:
        """See `Probed.probe_batch`."""
        del load
        return fine_tuning_batch(self, size)

    def probe_loss(self, load: Load, batch: Batch) -> Tensor:
        """See `Probed.probe_loss`."""
        del load
        return self.task.loss_sum(self.model, batch) / batch.num_examples

    def use_micro_batches(self, sizes: Mapping[str, int]) -> None:
        """See `RunWorker.use_micro_batches`."""
        for size in sizes.values():
            self.plan = replace(self.plan, micro_batch_size=size)

    def micro_batches_of(self, checkpoint: Checkpoint) -> dict[str, int]:
        """See `RunWorker.micro_batches_of`."""
        return {"": checkpoint.state["micro_batch_size"]}

    def measure(
        self, num_steps: int, *, emit: Callable[..., object], clock: StepClock | None = None
    ) -> None:
        """Trains some steps more, without scores and checkpoints, for those who measure.

        Args:
            num_steps: How many.
            emit: Records an event.
            clock: Tells where the time goes.
        """

        def record(event: str, **fields: object) -> None:
            if event == "step":
                self.step = cast(int, fields["step"])
            emit(event, **fields)

        self._loop(Actions.of_steps_alone(record), num_steps=self.step + num_steps, clock=clock)

    def _train(
        self, record: Callable[..., None], stop_reason: Callable[[], str | None]
    ) -> str | None:
        plan, settings = self.plan, self.settings
        evaluate = partial(self._evaluate, emit=record, stop_reason=stop_reason)
        is_at_end = self.step == plan.num_steps  # scores are no part of a checkpoint
        if (self._is_unscored or is_at_end) and not evaluate(self.step):
            return stop_reason() or ASKED_ELSEWHERE
        due = partial(is_due, last_step=plan.num_steps, world=self.world, backend=self.backend)
        actions = Actions(
            emit=record,
            evaluate=evaluate,
            save=self._save,
            is_evaluation_due=lambda step: (
                due(step, settings.eval_every, since=self._evaluated_at)
                if settings.eval_every
                else plan.is_epoch_end(step)
            ),
            is_save_due=lambda step: (
                self._saver.is_due(
                    step, last_step=plan.num_steps, world=self.world, backend=self.backend
                )
                or plan.is_epoch_end(step)
            ),
            stop_reason=stop_reason,
        )
        return self._loop(actions, num_steps=plan.num_steps)

    def _loop(
        self, actions: Actions, *, num_steps: int, clock: StepClock | None = None
    ) -> str | None:
        """The training loop from where the run stands up to a step."""
        return with_smaller_micro_batches(
            partial(self._loop_once, actions, num_steps=num_steps, clock=clock),
            self,
            lambda: ("", self.plan.micro_batch_size),
        )

    def _loop_once(
        self, actions: Actions, *, num_steps: int, clock: StepClock | None = None
    ) -> str | None:
        plan = self.plan
        micro_step, fill_up = self._in_fixed_shapes(actions.emit)
        batches = micro_batches(
            self.train_rows,
            seed=self.settings.seed,
            first_step=self.step,
            num_steps=num_steps,
            global_batch_size=plan.global_batch_size,
            micro_batch_size=plan.micro_batch_size,
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
            loss_sum=self.task.loss_sum,
            schedule=self.schedule,
            peak_rate=plan.learning_rate,
            clip_norm=self.settings.clip_norm or None,
            dtype=self.dtype,
            seed=self.settings.seed,
            backend=self.backend,
            world=self.world,
            actions=actions,
            faults=self.faults,
            clock=clock,
            gradients=self.gradients,
            micro_step=micro_step,
        )

    def _in_fixed_shapes(
        self, emit: Callable[..., object]
    ) -> tuple[MicroStep | None, Callable[[Batch], Batch] | None]:
        """What replays micro-steps, and what fills up their batches, where that is to be."""
        if self.backend.wants_fixed_shapes:
            self._meet_all_shapes()
            return None, self._shapes.fill
        if not self.graphs.is_wanted:
            return None, None
        losses_of = partial(
            divided_losses,
            self.model,
            loss_sum=self.task.loss_sum,
            dtype=self.dtype,
            backend=self.backend,
        )
        shapes = self._shapes
        micro_step = self.graphs.micro_step(shapes, losses_of, emit=emit, step=self.step)
        return micro_step, None if micro_step is None else shapes.fill

    @property
    def _shapes(self) -> FixedShapes:
        """The shapes of micro-batches of the size that they have now."""
        micro, length = self.plan.micro_batch_size, self.plan.max_seq_length
        rows, sizes = self.train_rows, self.graphs.sizes
        if micro not in sizes:
            sizes[micro] = capacities(micro, length, totals=expected_totals(self.lengths, micro))
        return FixedShapes(
            sizes[micro],
            max_seq_length=length,
            micro_batch_size=micro,
            lengths=self.lengths,
            pack=lambda chosen: pack([rows[row] for row in chosen]),
            label_shape=(2,) if self.task.head == "span" else (),
        )

    def write_products(self, directory: RunDirectory) -> None:
        """Writes the Hugging Face directory and the predictions.

        Args:
            directory: The run's.

        Raises:
            DiskError: A file cannot be written.
        """
        assert self.scores is not None
        for name, content in self.scores.files.items():
            write_text(directory.path / name, content)
        save_model_directory(
            directory.model,
            self.model,
            config=self.start.config,
            vocabulary=self.start.vocabulary,
            labels=self.data.labels if self.task.head == "classifier" else None,
            case_rules=self.start.case_rules,
        )

    def results(
        self, directory: RunDirectory, *, status: str, started: float, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The content of results.json; see `finetuning_results`."""
        return finetuning_results(
            status=status, worker=self, directory=directory, started=started, record=record
        )

    def _evaluate(
        self, step: int, *, emit: Callable[..., None], stop_reason: Callable[[], str | None]
    ) -> bool:
        """Scores; False where a stop request cut it short, to be done when the run goes on."""
        self._is_unscored = True
        started = time.perf_counter()
        try:
            logits = self._outputs(stop_reason)
        except EvaluationStopped:
            return False
        examples = self.data.splits["validation"]
        if self.scores is not None:
            self.scores = replace(self.scores, files={})  # as large as those that come now
        self.scores = self.task.score(
            examples, rows=self.validation_rows, labels=self.data.labels, logits=logits
        )
        emit(
            "evaluation",
            step=step,
            split="validation",
            metrics=dict(self.scores.metrics),
            loss=self.scores.loss,
            seconds=time.perf_counter() - started,
            **self.scores.event,
        )
        self._evaluated_at = time.monotonic()
        self._is_unscored = False
        return True

    def _outputs(self, stop_reason: Callable[[], str | None]) -> np.ndarray:
        """What the model makes of the validation rows: see `logits_of`."""
        fill_up, most_tokens, most_rows = None, _EVALUATION_TOKENS, 1024
        if self.backend.wants_fixed_shapes:
            most_rows = self.plan.micro_batch_size
            most_tokens = most_rows * self.plan.max_seq_length
            fill_up = self._shapes.fill
        return logits_of(
            self.model,
            self.validation_rows,
            outputs=self.task.outputs,
            num_outputs=self.task.num_outputs(self.data.labels),
            max_tokens=most_tokens,
            max_examples=most_rows,
            dtype=self.dtype,
            backend=self.backend,
            world=self.world,
            fill=fill_up,
            stop_reason=stop_reason,
        )

    def _save(self, step: int) -> None:
        self._saver.save(
            step,
            state={
                "examples_consumed": step * self.plan.global_batch_size,
                "faults": self.faults.counters(),
                "is_unscored": self._is_unscored,
                **self._numbers(),
            },
            model=self.model.state_dict(),
            optimizer=whole_state(self.optimizer),
        )

    def _numbers(self) -> dict[str, int | float]:
        """What must not change from one attempt to the next, for the run to go on exactly."""
        plan = self.plan
        return {
            "global_batch_size": plan.global_batch_size,
            "micro_batch_size": plan.micro_batch_size,
            "num_steps": plan.num_steps,
            "warmup_steps": plan.warmup_steps,
            "learning_rate": plan.learning_rate,
        }

    def _load(self, checkpoint: Checkpoint) -> None:
        changed = [
            f"{name} is {now:g}, was {checkpoint.state.get(name)}"
            for name, now in self._numbers().items()
            if checkpoint.state.get(name) != now
            and not (name == "num_steps" and now > checkpoint.state.get(name, now))
        ]
        take_up(checkpoint, model=self.model, optimizer=self.optimizer, changed=changed)
        self.step = checkpoint.step
        self._saver.go_on_from(self.step)
        self.faults = Faults(skips=self.faults.skips, **checkpoint.state.get("faults", {}))
        self._is_unscored = bool(checkpoint.state.get("is_unscored"))

    def _meet_all_shapes(self) -> None:
        """Shows every fixed shape to the device before the first step, which then compiles none."""
        self.model.train()
        for batch in self._shapes.inert():
            with self.backend.autocast(self.dtype):
                loss = self.task.loss_sum(self.model, batch.to(self.backend.device()))
            loss.backward()
            self.backend.step_boundary()
        for parameter in self.model.parameters():
            parameter.grad = None
