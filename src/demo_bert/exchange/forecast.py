"""How long a step takes with many workers: a small model of the exchange of gradients.

A sum over W workers of n bytes, by a ring or by shares, takes 2 (W - 1) / W * n / bandwidth
+ 2 (W - 1) * latency: every link carries that much, and so many messages follow each other. Buckets
follow each other on the way. With overlap a bucket sets off when the last backward pass has made
its gradients, which is taken to be in step with the numbers made, but for the embeddings, which
come at its end. What the pass does not hide is waited for.

A ring enters and leaves every host once, so workers that share a host share nothing of its link.
Standard library alone.
"""

from dataclasses import dataclass

FULL_BUCKET = 2 << 20
"""Numbers; `arena.BUCKET_ELEMENTS` is this one."""


@dataclass(frozen=True)
class Link:
    """What lies between two workers of the ring that are on different hosts.

    Attributes:
        bytes_per_s: Each way.
        latency_s: Of a message, one way.
    """

    bytes_per_s: float
    latency_s: float


@dataclass(frozen=True)
class Work:
    """What a step asks of one worker, apart from others.

    Attributes:
        num_micro_batches: Of the whole step over all workers.
        micro_step_s: Forward and backward of one micro-batch.
        backward_s: The backward's part of it.
        update_s: Norm, clipping and optimizer.
    """

    num_micro_batches: int
    micro_step_s: float
    backward_s: float
    update_s: float


@dataclass(frozen=True)
class StepForecast:
    """Where the time of a step goes.

    Attributes:
        compute_s: Micro-steps of the worker that has most of them.
        exchange_s: The sum of gradients, taken alone.
        waited_s: What of it the last backward pass does not hide.
        update_s: Norm, clipping and optimizer.
        sent_bytes: By each worker.
    """

    compute_s: float
    exchange_s: float
    waited_s: float
    update_s: float
    sent_bytes: float

    @property
    def step_s(self) -> float:
        """The whole step."""
        return self.compute_s + self.waited_s + self.update_s


def forecast(
    num_parameters: int,
    work: Work,
    *,
    num_workers: int,
    link: Link,
    bytes_each: int = 4,
    is_overlapped: bool = True,
    num_embeddings: int = 0,
) -> StepForecast:
    """The time of a step.

    Args:
        num_parameters: Numbers of the model.
        work: What is to be done.
        num_workers: W.
        link: Between neighbours of the ring.
        bytes_each: Of a gradient on the way: 4, or 2 with `--grad-dtype bf16`.
        is_overlapped: Whether buckets travel while the last backward pass goes on.
        num_embeddings: Numbers that come at the end of a backward pass.

    Returns:
        The forecast.

    Example:
        >>> work = Work(8, micro_step_s=1.0, backward_s=0.6, update_s=0.1)
        >>> gigabit = Link(bytes_per_s=125e6, latency_s=1e-4)
        >>> found = forecast(25_000_000, work, num_workers=4, link=gigabit, is_overlapped=False)
        >>> round(found.exchange_s, 2), round(found.step_s, 2), found.sent_bytes
        (1.21, 3.31, 150000000.0)
    """
    rounds = -(-work.num_micro_batches // num_workers)
    share = 2 * (num_workers - 1) / num_workers
    buckets = bucket_sizes(num_parameters)
    costs = [
        share * numbers * bytes_each / link.bytes_per_s + 2 * (num_workers - 1) * link.latency_s
        for numbers in buckets
    ]
    made_in_step = max(1, num_parameters - num_embeddings)
    now = made = 0
    for numbers, cost in zip(buckets, costs, strict=True):
        made += numbers
        ready_s = work.backward_s * min(1.0, made / made_in_step) if is_overlapped else 0.0
        now = max(now, ready_s) + cost
    return StepForecast(
        compute_s=rounds * work.micro_step_s,
        exchange_s=sum(costs),
        waited_s=max(0.0, now - work.backward_s) if is_overlapped else sum(costs),
        update_s=work.update_s,
        sent_bytes=share * num_parameters * bytes_each,
    )


def bucket_sizes(total: int, *, full: int = FULL_BUCKET) -> list[int]:
    """The buckets that all gradients are cut into.

    Args:
        total: Numbers of the model.
        full: Of a bucket.

    Returns:
        Numbers of each bucket.

    Example:
        >>> bucket_sizes(18, full=5)
        [5, 5, 5, 3]
    """
    return [min(full, total - start) for start in range(0, total, full)]
