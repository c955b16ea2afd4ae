"""Learning-rate schedules: the factor of the peak rate at each step."""

from collections.abc import Callable

from demo_bert.choices import unknown_name_message
from demo_bert.errors import UsageError

Schedule = Callable[[int], float]
"""Updates before this one, from 0 -> factor in 0..1."""


def linear(num_steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to 1, then linear decay towards 0.

    Args:
        num_steps: Updates in all.
        warmup_steps: Updates of the warm-up; the last of them has factor 1.

    Returns:
        The schedule. No update has factor 0: the first of N warm-up steps has 1/N, and the last
        update of all has one step's share (the published code spends its first update at 0).

    Source:
        Devlin et al. 2019, appendix A.2.

    Example:
        >>> factor = linear(num_steps=6, warmup_steps=2)
        >>> [factor(step) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup_steps = min(warmup_steps, num_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return (num_steps - step) / max(1, num_steps - warmup_steps)

    return factor


def constant(num_steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to 1, then 1.

    Args:
        num_steps: Updates in all; no effect.
        warmup_steps: Updates of the warm-up.

    Returns:
        The schedule.

    Example:
        >>> factor = constant(num_steps=4, warmup_steps=2)
        >>> [factor(step) for step in range(4)]
        [0.5, 1.0, 1.0, 1.0]
    """
    del num_steps

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0

    return factor


def make_schedule(name: str, *, num_steps: int, warmup_steps: int) -> Schedule:
    """The schedule of that name.

    Args:
        name: A key of SCHEDULES.
        num_steps: Updates in all.
        warmup_steps: Updates of the warm-up.

    Returns:
        The schedule.

    Raises:
        UsageError: The name is unknown.
    """
    if name not in SCHEDULES:
        raise UsageError(f"--schedule: {unknown_name_message('schedule', name, SCHEDULES)}")
    return SCHEDULES[name](num_steps, warmup_steps)


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {"linear": linear, "constant": constant}
