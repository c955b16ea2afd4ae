"""The table of all options, and questions to it."""

from dataclasses import replace
from functools import cache

from demo_bert.settings.command_options import COMMAND_OPTIONS
from demo_bert.settings.option import GROUPS, PREFIX, Arity, Option
from demo_bert.settings.prepare_options import PREPARE_OPTIONS
from demo_bert.settings.run_options import RUN_OPTIONS
from demo_bert.settings.training_options import TRAINING_OPTIONS

OPTIONS: tuple[Option, ...] = (
    *TRAINING_OPTIONS,
    *RUN_OPTIONS,
    *COMMAND_OPTIONS,
    *PREPARE_OPTIONS,
)
"""Every option of every command, once."""

OTHER_VARIABLES: tuple[str, ...] = tuple(
    PREFIX + name
    for name in ("TORCH_INDEX", "VENV", "CACHE", "JOB", "HEARTBEATS", "GOES_ON", "BEGUN")
)
"""Variables of ours that no command has as a setting: of installation, downloads and launching."""

_FINE_TUNING_GROUPS = ("what", "data", "length", "learning")
_NOT_FINE_TUNED = ("dtype", "model", "task", "init_checkpoint", "seeds")


@cache
def options_of(command: str) -> tuple[Option, ...]:
    """The options of a command, in the order of the help.

    Args:
        command: Its name.

    Returns:
        Rows of the table; for `pipeline` also those of fine-tuning as `--finetuning-<name>`.
    """
    own = [option for option in OPTIONS if command in option.commands]
    if command == "pipeline":
        own += [_prefixed(option) for option in options_of("finetuning") if _is_stage(option)]
    groups = list(GROUPS)
    return tuple(sorted(own, key=lambda option: groups.index(option.group)))


@cache
def arities() -> dict[str, Arity]:
    """How many values follow each flag; a flag means as many in all commands.

    Returns:
        Flag, with dashes, -> arity.
    """
    rows = (*OPTIONS, *options_of("pipeline"))
    return {flag: option.arity for option in rows for flag in option.all_flags}


@cache
def phased() -> frozenset[str]:
    """The options that have a value for each phase.

    Returns:
        Their names.
    """
    return frozenset(option.name for option in OPTIONS if option.arity == "one-or-two")


@cache
def variables() -> frozenset[str]:
    """The environment variables with our prefix that mean something.

    Returns:
        Their names.
    """
    rows = (*OPTIONS, *options_of("pipeline"))
    return frozenset((*(option.variable for option in rows), *OTHER_VARIABLES))


def _is_stage(option: Option) -> bool:
    return option.group in _FINE_TUNING_GROUPS and option.name not in _NOT_FINE_TUNED


def _prefixed(option: Option) -> Option:
    long_flag = next(flag for flag in option.flags.split() if flag.startswith("--"))
    return replace(
        option,
        name=f"finetuning_{option.name}",
        flags=f"--finetuning-{long_flag[2:]}",
        off_flag=f"--finetuning-{option.off_flag[2:]}" if option.off_flag else "",
        commands=("pipeline",),
        group="finetuning",
        help="As --" + long_flag[2:] + " of finetuning.",
        aliases=(),
    )
