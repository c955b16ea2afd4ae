"""Environment variables that somebody set and that have no effect."""

from collections.abc import Mapping

from demo_bert.choices import near
from demo_bert.settings.option import PREFIX
from demo_bert.settings.origin import Origin
from demo_bert.settings.table import options_of, variables

OF_THE_ORIGINAL: tuple[str, ...] = (
    "HABANA_INITIAL_WORKSPACE_SIZE_MB",
    "HABANA_PROFILE_RANGE",
    "HABANA_USE_STREAMS_FOR_HCL",
    "HBN_TF_REGISTER_DATASETOPS",
    "HCL_CONFIG_PATH",
    "HLS_TYPE",
    "HOROVOD_HIERARCHICAL_ALLREDUCE",
    "MPIRUN_ARGS_MAP_BY_PE",
    "NUM_WORKERS_TOTAL",
    "TF_ALLOW_CONTROL_EDGES_IN_HABANA_OPS",
    "TF_BF16_CONVERSION",
    "TF_DISABLE_SCOPED_ALLOCATOR",
    "TF_ENABLE_BF16_CONVERSION",
    "TF_PRELIMINARY_CLUSTER_SIZE",
    "TF_RECIPE_CACHE_PATH",
    "TOTAL_DATASET_WORD_COUNT",
)
"""Variables that the original read or set and that mean nothing here."""

_ONLY_WITH_WORKERS = ("hosts", "workers")


def environment_warning(
    command: str,
    values: Mapping[str, object],
    origins: Mapping[str, Origin],
    *,
    environ: Mapping[str, str],
) -> str | None:
    """One line about all variables without effect: unknown ones of ours, those of the original.

    Args:
        command: The command that runs.
        values: Its settings by name.
        origins: Where each came from.
        environ: The environment.

    Returns:
        The line, which never has a value of a variable in it; None where there is nothing to say.
    """
    notes = [
        _unknown(name)
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in variables()
    ]
    notes += [name for name in OF_THE_ORIGINAL if environ.get(name)]
    for option in options_of(command):
        used = origins.get(option.name, Origin("default")).where
        for variable in option.aliases:
            if not environ.get(variable):
                continue
            if option.name in _ONLY_WITH_WORKERS and values.get("workers") is None:
                notes.append(f"{variable} (no workers without -v)")
            elif _is_overruled(variable, used, environ=environ):
                notes.append(f"{variable} ({used} counts)")
    return f"environment variables without effect here: {', '.join(notes)}" if notes else None


def _unknown(name: str) -> str:
    known = sorted(variable.removeprefix(PREFIX) for variable in variables())
    close = near(name.removeprefix(PREFIX), known, limit=1)
    return f"{name} (did you mean {PREFIX}{close[0]}?)" if close else f"{name} (no such setting)"


def _is_overruled(variable: str, used: str, *, environ: Mapping[str, str]) -> bool:
    """Whether another variable for the same setting won, with another value."""
    return used in environ and used != variable and environ[used] != environ[variable]
