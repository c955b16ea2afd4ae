"""Options that the command line knows and that nothing obeys yet: refused, never ignored."""

from collections.abc import Mapping

from demo_bert.errors import UsageError
from demo_bert.settings import Origin, TrainingSettings

_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "recipe": (None,),
    "track": (None,),
}
"""Option -> the values that ask for nothing that is missing."""


def refuse_what_is_missing(settings: TrainingSettings, origins: Mapping[str, Origin]) -> None:
    """Refuses options that are not here yet.

    Args:
        settings: As resolved.
        origins: Where each came from.

    Raises:
        UsageError: One line that names them all.
    """
    missing = [
        str(origins.get(name, name))
        for name, harmless in _WITHOUT_EFFECT.items()
        if getattr(settings, name) not in harmless
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(f"{', '.join(missing)}: {verb} not here yet; leave it out")
