"""The stages of `pipeline` as command lines, each of which could be typed by itself."""

import dataclasses
import shlex
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_bert.errors import UsageError
from demo_bert.settings import Origin, flags_of, read_recorded, resolve
from demo_bert.settings.option import Option
from demo_bert.settings.table import options_of
from demo_bert.tasks import PLANNED, TASKS

if TYPE_CHECKING:
    from demo_bert.settings.typed import Settings

SOURCES = ("wikipedia", "books", "text", "jsonl", "parquet")
"""Options that name text."""
_FINE_TUNING = "finetuning_"
_SET = ("flag", "environment", "file", "run")
_OWN = frozenset(
    ("output_dir", "new", "resume", "config", "max_time", "model", "dtype", "task", "dry_run")
)
"""What the pipeline works out for each stage."""
_OF_THE_STAGE = ("what", "data", "length", "learning")
"""Groups of options that fine-tuning takes as `--finetuning-<name>` alone."""
_SMALL_BATCHES = (256, 64)
_LEARNING = ("optimizer", "schedule", "learning_rate", "recipe", "init_checkpoint")
_SMALL_SIZES = ("tiny", "mini", "small", "medium", "minilm")


def _learning_of_small_batches(model: str) -> tuple[str, ...]:
    """How a run of some thousand small batches learns.

    LAMB's published rate, scaled to such a batch, presumes the published number of examples: an
    hour with it ends about where it began (benchmarks/NOTES.md). 1e-4 at 256 is the paper's.
    """
    rates = "1e-3,5e-4" if model in _SMALL_SIZES else "1e-4,5e-5"
    return ("--optimizer=adamw", "--schedule=linear", f"--learning-rate={rates}")


@dataclass(frozen=True)
class Stage:
    """A command of the pipeline."""

    command: str
    flags: tuple[str, ...]
    directory: Path
    """What it writes: a token store or a run directory."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The program's arguments."""
        return (self.command, *self.flags)

    def line(self, program: str) -> str:
        """The command line, for a shell."""
        return shlex.join([program, *self.argv])

    def with_flags(self, *flags: str) -> "Stage":
        """The same with further flags."""
        return dataclasses.replace(self, flags=(*self.flags, *flags))

    def resolved(
        self, environ: Mapping[str, str], *, with_recorded: bool = True
    ) -> "tuple[Settings, dict[str, Origin]]":
        """Its settings, and where each came from.

        Args:
            environ: The environment, as `hand_over` leaves it.
            with_recorded: Whether a run that is there already has its say.

        Returns:
            As `settings.resolve` gives them.

        Raises:
            UsageError: Something is wrong with them.
            RunDirectoryError: They differ from those of the run that is there.
        """
        return resolve(
            self.command,
            flags_of(self.flags, self.command),
            environ,
            tasks=tuple(TASKS),
            planned_tasks=PLANNED,
            recorded=read_recorded(self.directory) if with_recorded else None,
        )


def stages_of(
    values: Mapping[str, Any], origins: Mapping[str, Origin], directory: Path
) -> tuple[Stage, ...]:
    """The stages that a pipeline's settings ask for, in order.

    Args:
        values: Its settings by name.
        origins: Where each came from.
        directory: The pipeline's.

    Returns:
        `prepare` where text is named, `pretraining`, `finetuning`.

    Raises:
        UsageError: The settings name both text and a token store.
    """
    store, trained, tuned = (directory / n for n in ("store", "pretraining", "finetuning"))
    named = [str(origins[name]) for name in SOURCES if values[name]]
    if named and values["dataset_path"]:
        raise UsageError(
            f"{origins['dataset_path']} names a token store that is there, {named[0]} text that one"
            " is made of; give one of them"
        )
    stages: list[Stage] = []
    if named:
        stages.append(Stage("prepare", (*_flags("prepare", values, origins), f"-o={store}"), store))
    flags = [f"-d={values['dtype']}", f"-m={values['model']}"]
    if named or values["dataset_path"]:
        flags.append("-t=text")
    if named:
        flags.append(f"--dataset-path={store}")
    flags += _flags("pretraining", values, origins)
    has_text = bool(
        named or values["dataset_path"]
    )  # else the embedded text, with steps of its own
    if has_text and values["global_batch_size"] is None and not values["fast_perf_only"]:
        flags.append(f"--global-batch-size={','.join(map(str, _SMALL_BATCHES))}")
        if not any(origins[name].source in _SET for name in _LEARNING):
            flags += _learning_of_small_batches(values["model"])
    stages.append(Stage("pretraining", (*flags, f"-o={trained}"), trained))
    flags = [f"-d={values['dtype']}", f"-m={trained}", f"-t={values['task'] or 'mrpc'}"]
    flags += _flags("finetuning", values, origins)
    stages.append(Stage("finetuning", (*flags, f"-o={tuned}"), tuned))
    return tuple(stages)


def hand_over(
    values: Mapping[str, Any], origins: Mapping[str, Origin], environ: MutableMapping[str, str]
) -> None:
    """Makes the environment say to the stages only what flags cannot say.

    A variable such as DEMO_BERT_ITERS has set the pipeline's own option; every stage, and every
    worker of a stage, would read it again.

    Args:
        values: The pipeline's settings by name.
        origins: Where each came from.
        environ: The environment, which is changed.
    """
    for option in options_of("pipeline"):
        if option.flags:
            for variable in (option.variable, *option.aliases):
                environ.pop(variable, None)
        elif origins[option.name].source in ("file", "run") and values[option.name] is not None:
            environ[option.variable] = _texts(option, values[option.name])[-1]


def _flags(command: str, values: Mapping[str, Any], origins: Mapping[str, Origin]) -> list[str]:
    """What was set for a stage, as its flags."""
    found: list[str] = []
    for option in options_of(command):
        name = _name_in_pipeline(command, option, origins)
        if name is None or origins[name].source not in _SET or values[name] is None:
            continue
        flag = next((f for f in option.flags.split() if f.startswith("--")), option.flags)
        found += [f"{flag}={text}" for text in _texts(option, values[name])]
    return found


def _name_in_pipeline(command: str, option: Option, origins: Mapping[str, Origin]) -> str | None:
    """The pipeline's option that a stage's option gets its value from; None: it keeps its own."""
    name = option.name
    if not option.flags or name in _OWN:
        return None
    if command == "prepare" and name == "max_seq_length":  # of `prepare inspect`
        return None
    if command == "pretraining" and name == "seeds":  # one pre-trained model, scored N times
        return None
    if command == "finetuning":
        own = _FINE_TUNING + name
        if own in origins and (origins[own].source in _SET or name != "seed"):
            return own
        if option.group in _OF_THE_STAGE and name not in ("seed", "seeds"):
            return None
    return name if name in origins else None


def _texts(option: Option, value: object) -> list[str]:
    """A value as the texts of its flag, one for each time that the flag comes."""
    if isinstance(value, bool):
        return ["1" if value else "0"]
    if isinstance(value, Mapping):
        return [",".join(f"{key}={item}" for key, item in value.items())]
    if isinstance(value, tuple):
        texts = [str(item) for item in value]
        return texts if option.arity == "repeatable" else [",".join(texts)]
    return [str(value)]
