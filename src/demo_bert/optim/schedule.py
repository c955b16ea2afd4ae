"""Learning-rate schedules: the factor of the peak rate at each step."""

import math
from collections.abc import Callable

from demo_bert.choices import unknown_name_message
from demo_bert.errors import UsageError

_POWER = 0.5
_DECAY_FRACTION = 0.1

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


def polynomial(num_steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to 1, then the root of the share of all steps that is left.

    The decay counts from the first step of all, so the factor jumps down where it begins: with
    NVIDIA's 2000 of 7038 steps from 1 to 0.846.

    Args:
        num_steps: Updates in all.
        warmup_steps: Updates of the warm-up.

    Returns:
        The schedule.

    Source:
        `PolyWarmUpScheduler` of NVIDIA's BERT, degree 0.5; it spends its last update at 0, this
        one at one step's share.

    Example:
        >>> factor = polynomial(num_steps=8, warmup_steps=2)
        >>> [round(factor(step), 3) for step in (0, 1, 2, 4, 7)]
        [0.5, 1.0, 0.866, 0.707, 0.354]
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return (1 - step / num_steps) ** _POWER

    return factor


def polynomial_rebased(num_steps: int, warmup_steps: int) -> Schedule:
    """As `polynomial`, but the decay counts from the end of the warm-up: no jump.

    Args:
        num_steps: Updates in all.
        warmup_steps: Updates of the warm-up.

    Returns:
        The schedule.

    Example:
        >>> factor = polynomial_rebased(num_steps=6, warmup_steps=2)
        >>> [round(factor(step), 3) for step in (0, 1, 2, 5)]
        [0.5, 1.0, 1.0, 0.5]
    """
    straight = linear(num_steps, warmup_steps)

    def factor(step: int) -> float:
        return straight(step) if step < warmup_steps else straight(step) ** _POWER

    return factor


def cosine(num_steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to 1, then half a cosine wave towards 0.

    Args:
        num_steps: Updates in all.
        warmup_steps: Updates of the warm-up.

    Returns:
        The schedule.

    Source:
        Loshchilov and Hutter 2017, without restarts.

    Example:
        >>> factor = cosine(num_steps=6, warmup_steps=2)
        >>> [round(factor(step), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    straight = linear(num_steps, warmup_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return straight(step)
        return 0.5 - 0.5 * math.cos(math.pi * straight(step))

    return factor


def warmup_stable_decay(num_steps: int, warmup_steps: int) -> Schedule:
    """Linear warm-up to 1, then 1, then in the last tenth of all steps linear decay towards 0.

    Args:
        num_steps: Updates in all.
        warmup_steps: Updates of the warm-up.

    Returns:
        The schedule.

    Source:
        Hu et al. 2024 (MiniCPM), with a linear last part.

    Example:
        >>> factor = warmup_stable_decay(num_steps=20, warmup_steps=2)
        >>> [factor(step) for step in (0, 1, 2, 17, 18, 19)]
        [0.5, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    num_after = num_steps - min(warmup_steps, num_steps)
    num_decaying = max(1, min(num_after, round(_DECAY_FRACTION * num_steps)))
    level = constant(num_steps, warmup_steps)

    def factor(step: int) -> float:
        return min(level(step), (num_steps - step) / num_decaying)

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


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "linear": linear,
    "constant": constant,
    "polynomial": polynomial,
    "polynomial-rebased": polynomial_rebased,
    "cosine": cosine,
    "warmup-stable-decay": warmup_stable_decay,
}
