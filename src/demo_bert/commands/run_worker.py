"""One worker's share of a run: what sessions, forecasts and results need of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from demo_bert.checkpoint import Checkpoint
from demo_bert.commands.forecast import Load
from demo_bert.commands.starting_weights import StartingWeights
from demo_bert.data.packing import Batch
from demo_bert.distributed import World
from demo_bert.hardware import Backend, Dtype
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import TrainingSettings


class RunWorker(Protocol):
    """What a session needs of one worker's share of a run."""

    settings: TrainingSettings
    backend: Backend
    world: World
    dtype: Dtype
    start: StartingWeights
    model: nn.Module
    step: int
    """Updates done since the run began."""

    @property
    def num_steps(self) -> int:
        """Updates of the whole run."""
        ...

    def train(
        self,
        checkpoint: Checkpoint | None,
        checkpoints: Path,
        *,
        emit: Callable[..., object],
        stop_reason: Callable[[], str | None],
    ) -> str | None:
        """Goes on from the checkpoint to the last step, and scores.

        Args:
            checkpoint: Where to go on; None: from the starting weights.
            checkpoints: The directory to save into.
            emit: Records an event.
            stop_reason: Why the run is to stop, or None.

        Returns:
            Why it stopped early (a checkpoint is saved), or None when it is done.

        Raises:
            TrainingError: Losses or gradients were not finite.
            RunDirectoryError: The checkpoint was saved with other numbers.
            DiskError: The last save could not be written.
        """
        ...

    def loads(self, first_step: int) -> tuple[Load, ...]:
        """The work from a step on, one for each phase.

        Args:
            first_step: Updates that are done.

        Returns:
            The loads that are not done.
        """
        ...

    def probe_batch(self, load: Load, size: int) -> tuple[Batch, float]:
        """Some of the run's examples, for a probe.

        Args:
            load: Of which phase.
            size: How many.

        Returns:
            The batch, on the host, and the operations of its forward pass.
        """
        ...

    def probe_loss(self, load: Load, batch: Batch) -> Tensor:
        """The loss of such a batch.

        Args:
            load: Of which phase.
            batch: On the device.

        Returns:
            A scalar.
        """
        ...

    def use_micro_batches(self, sizes: Mapping[str, int]) -> None:
        """Takes other micro-batches than were asked for; steps are the same.

        Args:
            sizes: Name of the load -> examples of a micro-step.
        """
        ...

    def micro_batches_of(self, checkpoint: Checkpoint) -> dict[str, int]:
        """The micro-batches that a checkpoint was saved with.

        Args:
            checkpoint: Of this run.

        Returns:
            Name of the load -> examples of a micro-step.
        """
        ...

    def write_products(self, directory: RunDirectory) -> None:
        """Writes what a finished run leaves: the model and the like.

        Args:
            directory: The run's.
        """
        ...

    def results(
        self, directory: RunDirectory, *, status: str, started: float, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The content of results.json.

        Args:
            directory: The run's.
            status: "complete", "stopped" or "failed".
            started: Unix time at which this attempt's command began.
            record: The content of run.json.

        Returns:
            Plain values.
        """
        ...
