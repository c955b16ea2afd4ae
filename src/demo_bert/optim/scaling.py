"""How the base learning rate follows the global batch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RateChoice:
    """A learning rate and where it comes from.

    Attributes:
        rate: The peak rate.
        reason: One line for the log: base, factor, cap, result.
        is_raised: Whether it is above the base rate.
    """

    rate: float
    reason: str
    is_raised: bool


def scaled_rate(
    base: float,
    *,
    rule: str,
    reference_batch: int,
    global_batch: int,
    num_workers: int,
    cap: float | None,
) -> RateChoice:
    """The learning rate for a global batch.

    Args:
        base: Rate of the recipe at its reference batch.
        rule: "sqrt" (of the ratio of batches), "linear" (in the ratio), "workers" (their number,
            as the original demo), "none".
        reference_batch: Examples of a step for which the base rate was published.
        global_batch: Examples of a step in this run.
        num_workers: Workers in all.
        cap: With "sqrt", the rate goes neither below the base nor above this; None: no bounds.

    Returns:
        The choice.

    Example:
        >>> options = dict(reference_batch=32, num_workers=1, cap=3e-4)
        >>> scaled_rate(1e-4, rule="sqrt", global_batch=128, **options).rate
        0.0002
        >>> scaled_rate(1e-4, rule="sqrt", global_batch=8, **options).rate
        0.0001
    """
    ratio = global_batch / reference_batch
    factor = {
        "sqrt": math.sqrt(ratio),
        "linear": ratio,
        "workers": float(num_workers),
        "none": 1.0,
    }[rule]
    rate = base * factor
    note = f"base {base:g} at batch {reference_batch} x {factor:.4g} ({rule}, batch {global_batch})"
    if rule == "sqrt" and cap is not None:
        bounded = min(max(rate, base), max(cap, base))
        if bounded != rate:
            note += f", kept within {base:g} and {max(cap, base):g}"
        rate = bounded
    return RateChoice(rate, f"{note} = {rate:.4g}", rate > base)
