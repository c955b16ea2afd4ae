"""Numbers as people read them: one place for every reader of the events."""

import math

from demo_bert.report.fields import text

_METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "exact_match": "exact match",
    "mlm_loss": "masked LM loss",
    "mlm_accuracy": "masked LM accuracy",
    "nsp_loss": "next sentence loss",
    "nsp_accuracy": "next sentence accuracy",
    "matthews_correlation": "Matthews correlation",
}
_MAIN_METRICS = ("accuracy", "matthews_correlation", "pearson", "f1", "mlm_accuracy")
_OF_ANY_FAULT = ("event", "time", "attempt", "step", "phase", "kind")


def metric_name(key: str) -> str:
    """A metric's name in the field's words.

    Args:
        key: Its key in `metrics`.

    Returns:
        The name.

    Example:
        >>> metric_name("f1"), metric_name("best_f1_thresh")
        ('F1', 'best f1 thresh')
    """
    return _METRIC_NAMES.get(key, key.replace("_", " "))


def capital(key: str) -> str:
    """A metric's name as the title of a column.

    Args:
        key: Its key in `metrics`.

    Returns:
        The name, its first letter large.

    Example:
        >>> capital("accuracy")
        'Accuracy'
    """
    name = metric_name(key)
    return name[:1].upper() + name[1:]


def score(value: float) -> str:
    """A metric with as many digits as say something.

    Args:
        value: In 0..1, in 0..100 (SQuAD), or a loss.

    Returns:
        Four decimals up to 10, two above; a whole number above 100 is a count.

    Example:
        >>> score(0.86764), score(88.4912), score(11873.0)
        ('0.8676', '88.49', '11,873')
    """
    if 100 < value < 1e6 and value == int(value):
        return f"{value:,.0f}"
    if abs(value) >= 1e6:
        return f"{value:.3g}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def main_metric(metrics: dict[str, float]) -> str | None:
    """The metric that a verdict is given by.

    Args:
        metrics: A run's metrics.

    Returns:
        Its key; None where there are no metrics.

    Example:
        >>> main_metric({"f1": 0.9, "accuracy": 0.86})
        'accuracy'
    """
    known = [key for key in _MAIN_METRICS if key in metrics]
    return next(iter(known or metrics), None)


def fault(event: dict[str, object]) -> str:
    """What a `fault` event says.

    Args:
        event: The event.

    Returns:
        Its message, else its kind with its other fields.

    Example:
        >>> fault({"event": "fault", "kind": "nonfinite", "step": 3, "tensor": "loss", "rank": 0})
        'nonfinite (tensor loss, rank 0)'
    """
    if event.get("message"):
        return text(event["message"])
    others = {name: text(value) for name, value in event.items() if name not in _OF_ANY_FAULT}
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in others.items())
    kind = text(event.get("kind")).replace("_", " ") or "fault"
    return f"{kind} ({facts})" if facts else kind


def compact(value: float) -> str:
    """A loss, a learning rate or another small quantity in few characters.

    Args:
        value: Any number.

    Returns:
        Three significant digits.

    Example:
        >>> compact(0.61234), compact(9.13e-05), compact(12345.6), compact(float("nan"))
        ('0.612', '9.13e-05', '12,346', 'nan')
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.001 or size == 0:
        return f"{value:.3f}"
    return f"{value:.2e}"


def rate(value: float) -> str:
    """A throughput: whole from 100 on, with a comma between thousands.

    Args:
        value: Something per second.

    Returns:
        The number without its unit.

    Example:
        >>> rate(21034.4), rate(41.26), rate(0.5)
        ('21,034', '41.3', '0.50')
    """
    if not math.isfinite(value):
        return str(value)
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """A span of time as a clock shows it.

    Args:
        seconds: The span, 0 or more.

    Returns:
        Minutes and seconds, with hours from an hour on, with days from two days on.

    Example:
        >>> duration(72), duration(3723), duration(200_000)
        ('1:12', '1:02:03', '2 d 7:33:20')
    """
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, short = divmod(hours, 24)
    if days >= 2:
        return f"{days} d {short}:{minutes:02d}:{rest:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Args:
        number: How many.
        noun: In the singular, with a regular plural.

    Returns:
        Both, with a comma between thousands.

    Example:
        >>> count(1, "step"), count(3668, "example")
        ('1 step', '3,668 examples')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(num_bytes: float) -> str:
    """A size in decimal units.

    Args:
        num_bytes: Bytes.

    Returns:
        With one decimal below 10 units.

    Example:
        >>> size(943_851), size(4_400_000_000)
        ('944 kB', '4.4 GB')
    """
    value = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            digits = 0 if unit == "bytes" or value >= 10 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
