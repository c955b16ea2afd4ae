"""The program's own side: the worker of a training command, on drawn examples.

It is the very worker that the command would train, its loop with all that it does in a step: the
loader's thread, events written to a file, the check for values that are not finite.
"""

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.commands.fine_tune import FineTuning, Inputs
from demo_bert.commands.measuring.course import Course
from demo_bert.commands.measuring.drawn import drawn_documents, drawn_examples
from demo_bert.commands.not_yet import refuse_what_is_missing
from demo_bert.commands.pretrain import PreTraining
from demo_bert.commands.pretrain_worker import PretrainWorker
from demo_bert.commands.pretraining_data import PretrainingData
from demo_bert.commands.starting_weights import StartingWeights, find_starting_weights, with_dropout
from demo_bert.commands.worker import Worker
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.data.pairs import Pairs
from demo_bert.data.pretraining import Examples
from demo_bert.distributed import place
from demo_bert.model.flops import TRAINING_FACTOR, pretraining_flops
from demo_bert.report.events import EventLog
from demo_bert.seeds import derive
from demo_bert.settings import Origin, TrainingSettings, flags_of, resolve
from demo_bert.tasks import TASKS, load_task
from demo_bert.tasks.mrpc_files import LABELS
from demo_bert.tasks.task import TaskData
from demo_bert.training import StepClock

FINE_TUNED = ("mrpc", "squad")
_STEPS_WITHOUT_END = "1000000"


@dataclass(frozen=True)
class Work:
    """What is measured.

    Attributes:
        task: mrpc, squad, phase1 or phase2.
        model: As `-m` gives it.
        dtype: bf16 or fp32.
        batch_size: Examples of a micro-step; of a worker's step too.
        max_seq_length: Longest example in tokens.
        dropout: Of hidden states; None: the model's.
        attention_dropout: Of attention weights; None: the model's.
        seed: Of all draws.
        device: As `--device` gives it.
        optimizer: A name of `optim.OPTIMIZERS`; None: the recipe's.
        extra: Further flags of the training command.
    """

    task: str
    model: str
    dtype: str
    batch_size: int
    max_seq_length: int
    dropout: float | None
    attention_dropout: float | None
    seed: int
    device: str
    optimizer: str | None = None
    extra: tuple[str, ...] = ()

    @property
    def is_fine_tuned(self) -> bool:
        """Whether it is a task rather than a phase of pre-training."""
        return self.task in FINE_TUNED

    def settings(self, world_size: int = 1) -> tuple[TrainingSettings, dict[str, Origin]]:
        """The settings of the training command.

        Args:
            world_size: Workers; each has `batch_size` examples of a step.

        Returns:
            Settings and where each came from.

        Raises:
            UsageError: A value is not allowed.
        """
        command = "finetuning" if self.is_fine_tuned else "pretraining"
        flags = {
            "-d": self.dtype,
            "-m": self.model,
            "-t": self.task if self.is_fine_tuned else "bookswiki",
            "-b": self.batch_size,
            "--global-batch-size": self.batch_size * world_size,
            "-s": self.max_seq_length,
            "-i": _STEPS_WITHOUT_END,
            "--init-checkpoint": "random",
            "--device": self.device,
            "--seed": self.seed,
            "--dropout": self.dropout,
            "--attention-dropout": self.attention_dropout,
            "--optimizer": self.optimizer,
            "--phases": None if self.is_fine_tuned else 1,
        }
        argv = [
            text
            for name, value in flags.items()
            if value is not None
            for text in (name, str(value))
        ]
        given = flags_of([*argv, *self.extra], command)
        settings, origins = resolve(command, given, {}, tasks=tuple(TASKS))
        assert isinstance(settings, TrainingSettings)
        refuse_what_is_missing(settings, origins)
        return settings, origins


@dataclass(frozen=True)
class Block:
    """Some steps that were timed together.

    Attributes:
        seconds: From the first batch on the host to the last update.
        examples: Of all workers.
        tokens: Of all workers, without padding.
        flops: Operations of the model on all workers, forward and backward.
        steps: The `step` events.
    """

    seconds: float
    examples: int
    tokens: int
    flops: float
    steps: tuple[dict[str, Any], ...] = ()


class OwnSide:
    """A worker that trains drawn examples.

    Args:
        work: What is measured.
        events: Where the events are written, as in a run.
        announce: Told what is fetched of a model.

    Raises:
        DemoBertError: A setting is not allowed, or the model is not found.
    """

    name = "demo_bert"

    def __init__(self, work: Work, events: Path, *, announce: Callable[[str], None]) -> None:
        self.work = work
        self.start = find_starting_weights(work.model, "random", announce=announce)
        made = _fine_tuned if work.is_fine_tuned else _pretrained
        self.worker, self.source = made(work, self.start)
        self._log = EventLog.open(events)
        self.config = self.worker.start.config
        self.backend, self.dtype = self.worker.backend, self.worker.dtype
        self.optimizer = self.worker.settings.optimizer
        self.micro_batch_size = work.batch_size
        """Examples of a micro-step; less than asked for where memory ran out."""
        self.lengths = self.source.lengths
        """Tokens of each drawn example."""

    def follow(self, course: Course) -> None:
        """Trains these examples from now on, from the first.

        Args:
            course: The batches.
        """
        self.source.deal(self.worker, course, seed=self.worker.settings.seed)
        self.worker.step = 0

    def run(self, num_steps: int, *, is_exact: bool = False) -> Block:
        """Trains some steps.

        Args:
            num_steps: How many.
            is_exact: Whether the device is waited for before each reading of the clock: the parts
                are exact then, and the whole may be slower.

        Returns:
            What was done.
        """
        backend, steps = self.worker.backend, list[dict[str, Any]]()

        def emit(event: str, **fields: object) -> None:
            found = self._log.append(event, **fields)
            if event == "step":
                steps.append(found)

        clock = StepClock(backend.synchronize if is_exact else None)
        first = self.worker.step
        backend.synchronize()
        started = time.perf_counter()
        self.worker.measure(num_steps, emit=emit, clock=clock)
        backend.synchronize()
        seconds = time.perf_counter() - started
        flops = sum(self.source.flops(self.config, first + n) for n in range(num_steps))
        return Block(
            seconds=seconds,
            examples=sum(step["examples"] for step in steps),
            tokens=sum(step["tokens"] for step in steps),
            flops=TRAINING_FACTOR * flops,
            steps=tuple(steps),
        )

    def released(self) -> "OwnSide":
        """Lets go of what takes memory, and keeps what is told of the work.

        Returns:
            The same side, which can run no more.
        """
        self._log.close()
        self.worker.graphs.drop()
        self.micro_batch_size = _micro_batch_size(self.worker)
        del self.worker, self.source, self.start
        gc.collect()
        return self


def _micro_batch_size(worker: Worker | PretrainWorker) -> int:
    if isinstance(worker, Worker):
        return worker.plan.micro_batch_size
    return worker.phases[0].micro_batch_size


class Rows:
    """Drawn examples of a fine-tuning task.

    Args:
        rows: The examples.
        work: What is measured.
    """

    def __init__(self, rows: Sequence[Example], work: Work) -> None:
        self._rows = rows
        self._task = work.task
        self.lengths = [len(row.input_ids) for row in rows]
        self._course: Course | None = None

    def deal(self, worker: Any, course: Course, *, seed: int) -> None:
        """Lays the examples out so that the worker's order follows the course."""
        self._course = course
        worker.train_rows = [self._rows[row] for row in course.dealt(seed).tolist()]
        worker.lengths = [len(row.input_ids) for row in worker.train_rows]

    def batch(self, number: int) -> Batch:
        """A batch of the course, for the other side."""
        assert self._course is not None
        return pack([self._rows[row] for row in self._course.batch(number).tolist()])

    def flops(self, config: Any, number: int) -> float:
        """Operations of a batch's forward pass."""
        assert self._course is not None
        chosen = [self.lengths[row] for row in self._course.batch(number).tolist()]
        return load_task(self._task).flops(config, chosen, num_labels=len(LABELS))


@dataclass(frozen=True)
class ChosenExamples(Examples):
    """Examples of pre-training in the order of a course.

    Attributes:
        chosen: (N,) int64, the example that each row stands for.
    """

    chosen: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        """N."""
        return len(self.chosen)

    def pairs(self, epochs: np.ndarray, rows: np.ndarray) -> Pairs:
        """See `Examples.pairs`; every epoch is the first one over again."""
        return super().pairs(np.zeros_like(epochs), self.chosen[rows])


class DrawnPairs:
    """Drawn examples of a phase of pre-training.

    Args:
        examples: Of the phase.
    """

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        rows = np.arange(len(examples))
        self.lengths: list[int] = examples.pairs(np.zeros_like(rows), rows).num_tokens.tolist()
        self._course: Course | None = None

    def deal(self, worker: Any, course: Course, *, seed: int) -> None:
        """Lays the examples out so that the worker's order follows the course."""
        self._course = course
        facts = {f.name: getattr(self._examples, f.name) for f in dataclasses.fields(Examples)}
        (number,) = worker.examples
        order = derive(seed, "phase", number)
        worker.examples[number] = ChosenExamples(**facts, chosen=course.dealt(order))

    def batch(self, number: int) -> Batch:
        """A batch of the course, for the other side."""
        return self._examples.batch(self._pairs(number))

    def flops(self, config: Any, number: int) -> float:
        """Operations of a batch's forward pass."""
        pairs = self._pairs(number)
        masked = self._examples.num_masked(pairs)
        return pretraining_flops(config, pairs.num_tokens.tolist(), masked)

    def _pairs(self, number: int) -> Pairs:
        assert self._course is not None
        rows = self._course.batch(number)
        return self._examples.pairs(np.zeros_like(rows), rows)


def _fine_tuned(work: Work, start: StartingWeights) -> tuple[Worker, Rows]:
    settings, origins = work.settings(place().world_size)
    session = FineTuning(settings, origins, ())
    settings, origins = session.with_recipe(settings, origins)
    rows = drawn_examples(
        work.task,
        vocab_size=start.config.vocab_size,
        max_seq_length=work.max_seq_length,
        seed=work.seed,
    )
    labels = LABELS if session.task.head == "classifier" else ()
    data = TaskData(
        name="drawn examples",
        splits={"train": rows, "validation": ()},
        labels=labels,
        source="drawn",
        licence="",
    )
    start = with_dropout(start, hidden=settings.dropout, attention=settings.attention_dropout)
    inputs = Inputs(start, data, {"train": rows, "validation": ()})
    session.backend.prepare()
    worker, _, _ = session.make_worker(settings, origins, inputs=inputs)
    return worker, Rows(rows, work)


def _pretrained(work: Work, start: StartingWeights) -> tuple[PretrainWorker, DrawnPairs]:
    settings, origins = work.settings(place().world_size)
    session = PreTraining(settings, origins, ())
    settings, origins = session.with_recipe(settings, origins)
    shard = drawn_documents(
        max_seq_length=work.max_seq_length,
        is_long=work.task == "phase1",
        vocab_size=start.config.vocab_size,
        seed=work.seed,
    )
    data = PretrainingData(
        shards=[shard],
        vocabulary=start.vocabulary,
        case_rules=start.case_rules,
        record={},
        is_learnt_by_heart=False,
        whole_words=False,
    )
    session.backend.prepare()
    start = with_dropout(start, hidden=settings.dropout, attention=settings.attention_dropout)
    worker, _, _ = session.make_worker(settings, origins, data=data, start=start)
    (number,) = worker.examples
    return worker, DrawnPairs(worker.examples[number])
