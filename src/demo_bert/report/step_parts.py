"""Where the time of a step went, as far as the readings of its clock can say."""

from collections.abc import Mapping

PASSES = "forward, backward, sums"
"""What is one part on a device that runs ahead of the host."""

_NOT_APART = ("forward", "backward", "communication")


def step_parts(parts_s: Mapping[str, float], *, runs_ahead: bool) -> dict[str, float]:
    """The parts of a step that can be told apart.

    The loop waits for the device at the end of a step and for the losses before the update, not
    between the passes. On a device that runs ahead of the host those readings say how fast work was
    handed over, and the wait for all of it would count as communication.

    Args:
        parts_s: Part -> seconds, as the `step` event has it.
        runs_ahead: Whether the device does: all but CPUs.

    Returns:
        Part -> seconds.

    Example:
        >>> step_parts({"data": 1.0, "forward": 2.0, "communication": 9.0}, runs_ahead=True)
        {'data': 1.0, 'forward, backward, sums': 11.0}
    """
    if not runs_ahead:
        return dict(parts_s)
    found: dict[str, float] = {}
    for part, seconds in parts_s.items():
        name = PASSES if part in _NOT_APART else part
        found[name] = found.get(name, 0.0) + seconds
    return found
