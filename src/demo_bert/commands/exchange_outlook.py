"""What a step waits for the other workers: the model of `exchange.forecast`, with a run's numbers.

The link is the one that the workers measured when they met, where they did; else an assumed one,
and the plan says which.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from demo_bert.distributed import SumSpeed, World
from demo_bert.exchange.forecast import Link, StepForecast, Work, forecast
from demo_bert.settings import TrainingSettings

if TYPE_CHECKING:
    from demo_bert.commands.forecast import Load

LATENCY_S = 5e-5
BETWEEN_HOSTS = 125e6
"""Assumed bytes in a second: 1 Gbit/s."""
WITHIN_A_HOST = {"cpu": 1e9}
"""Assumed of a host's memory; of its accelerators, below."""
BETWEEN_ACCELERATORS = 10e9

_WITHIN, _BETWEEN = "within a host", "between hosts"


@dataclass(frozen=True)
class RunLink:
    """What lies between a run's workers, and how that is known.

    Attributes:
        link: Its numbers.
        is_measured: By the workers when they met.
        where: "between hosts" or "within a host".
    """

    link: Link
    is_measured: bool
    where: str

    @property
    def between_hosts(self) -> "RunLink":
        """This link, or the assumed one where all workers are on one host."""
        return self if self.where == _BETWEEN else _ASSUMED_BETWEEN

    def words(self) -> str:
        """The link in words."""
        known = "measured" if self.is_measured else "assumed"
        speed = f"{self.link.bytes_per_s / 1e6:,.0f} MB/s"
        return f"{speed} {known} {self.where}, {1e6 * self.link.latency_s:.0f} us a message"


_ASSUMED_BETWEEN = RunLink(Link(BETWEEN_HOSTS, LATENCY_S), False, _BETWEEN)


def link_of(world: World, device: str, measured: SumSpeed | None) -> RunLink:
    """The link of a run.

    Args:
        world: Its workers.
        device: "cpu", "cuda", ...
        measured: What they measured; None: nothing.

    Returns:
        The link.
    """
    is_one_host = world.local_size >= world.world_size
    where = _WITHIN if is_one_host else _BETWEEN
    if measured is not None and measured.num_workers > 1:
        return RunLink(Link(measured.bytes_per_s, LATENCY_S), True, where)
    within = WITHIN_A_HOST.get(device, BETWEEN_ACCELERATORS)
    return RunLink(Link(within if is_one_host else BETWEEN_HOSTS, LATENCY_S), False, where)


@dataclass(frozen=True)
class Exchange:
    """What the exchange of a run's gradients depends on, but for the number of workers.

    Attributes:
        num_parameters: Of the model.
        num_embeddings: Of them, those whose gradients come last.
        bytes_each: Of a gradient on its way.
        is_overlapped: Whether they travel during the backward pass.
    """

    num_parameters: int
    num_embeddings: int
    bytes_each: int
    is_overlapped: bool

    def step(
        self,
        load: "Load",
        *,
        num_workers: int,
        micro_step_s: float,
        backward_s: float,
        update_s: float,
        link: Link,
    ) -> StepForecast:
        """The forecast of a step of a load.

        Args:
            load: The work.
            num_workers: That share it.
            micro_step_s: Forward and backward of a micro-batch.
            backward_s: The backward's part of it.
            update_s: Norm, clipping and optimizer.
            link: Between them.

        Returns:
            Where its time goes; with one worker nothing is waited for.
        """
        num_micro_batches = -(-load.examples_per_step // load.micro_batch_size)
        return forecast(
            self.num_parameters,
            Work(num_micro_batches, micro_step_s, backward_s, update_s),
            num_workers=num_workers,
            link=link,
            bytes_each=self.bytes_each,
            is_overlapped=self.is_overlapped,
            num_embeddings=self.num_embeddings,
        )


def exchange_of(model: nn.Module, settings: TrainingSettings) -> Exchange:
    """How the gradients of a run travel.

    Args:
        model: What is trained.
        settings: As resolved: `grad_dtype`, `reproducible`.

    Returns:
        It.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return Exchange(
        num_parameters=sum(sizes.values()),
        num_embeddings=sum(size for name, size in sizes.items() if ".embeddings." in f".{name}"),
        bytes_each=2 if settings.grad_dtype == "bf16" else 4,
        is_overlapped=not settings.reproducible,
    )
