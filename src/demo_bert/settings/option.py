"""What an option is: its name, its flags, its values, who takes it, what the help says."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from demo_bert.choices import is_number, one_of, some_text, yes_or_no

Arity = Literal["one", "one-or-two", "flag", "optional-number", "repeatable"]
"""How many values follow a flag.

one: one; one-or-two: one for each phase, as `64 8` or `64,8`; flag: none (or 0 or 1, as the
original's `-fpo 1`); optional-number: a number or none; repeatable: one, and the flag may come
again.
"""

PREFIX = "DEMO_BERT_"
"""Start of the environment variables that are ours."""

SIZES = ("tiny", "mini", "small", "medium", "base", "large", "minilm")
"""Names of model sizes, as `-m` takes them."""

PRETRAINING_TASKS = ("bookswiki", "text", "overfit")
"""What `-t` names in pretraining; the first is the default."""

TRAINING = ("pretraining", "finetuning", "pipeline", "plan")
"""Commands that train, or forecast a training command."""

PHASED = ("pretraining", "pipeline", "plan")
"""Commands whose work may have two phases."""

GROUPS: Mapping[str, str] = {
    "positional": "Arguments",
    "what": "What to do",
    "data": "Data",
    "length": "Batches and length",
    "learning": "Learning",
    "finetuning": "The fine-tuning stage",
    "run": "Run",
    "output": "Output",
    "machine": "Machine",
    "workers": "Workers and hosts",
    "general": "General",
    "environment": "By environment variable or --config alone",
}
"""Groups of options in the order of the help."""


@dataclass(frozen=True)
class Option:
    """One option of one or more commands; a row of the table.

    The same name may have several rows, for different commands.
    """

    name: str
    """Field of the settings, key in a settings file, and in capitals the end of its variable."""
    flags: str
    """Flags as the help writes them, separated by spaces; empty: a positional argument where
    `group` says so, else set by environment or file alone."""
    _: KW_ONLY
    commands: tuple[str, ...]
    """Commands that take it."""
    group: str
    """A key of GROUPS."""
    help: str
    """What it is, without the default."""
    metavar: str = ""
    """What the help puts for the value; empty: the choices."""
    choices: tuple[str, ...] = ()
    """The closed set of values; empty: `parse` decides."""
    parse: Callable[[str], object] = some_text
    """Reads one value, or raises UsageError."""
    arity: Arity = "one"
    """Values that follow the flag."""
    default: object = None
    """Value where nobody sets it; None: the task's recipe or the command decides."""
    recipes: Mapping[str, str] = field(default_factory=dict)
    """What the recipes decide, for the help: task -> text; "" for what holds for all."""
    is_required: bool = False
    """Whether somebody must set it."""
    shapes_result: bool = False
    """Whether another value gives another result: such options make the digest in a run
    directory's name and may not change when a run goes on."""
    off_flag: str = ""
    """A flag that sets it to false."""
    aliases: tuple[str, ...] = ()
    """Further environment variables, for people who come from the original."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def all_flags(self) -> tuple[str, ...]:
        """Each flag, dashes within, and the one that sets it to false."""
        return tuple(self.flags.split()) + ((self.off_flag,) if self.off_flag else ())

    @property
    def label(self) -> str:
        """How a message names it when nobody set it: its first flags, or its metavar."""
        flags = self.flags.split()
        if not flags:
            return self.metavar.strip("[].") if self.group == "positional" else self.variable
        return f"{flags[0]}/{flags[1]}" if len(flags) > 1 and len(flags[0]) == 2 else flags[0]

    def read(self, texts: tuple[str, ...]) -> object:
        """The value of the texts that were given for it.

        Args:
            texts: One text for each time it was given; the last counts, unless it is repeatable.
                The values of one time are separated by commas.

        Returns:
            A tuple for one-or-two and repeatable, a bool for flag, else what `parse` gives.

        Raises:
            UsageError: A text is not allowed.
        """
        if self.arity == "repeatable":
            return tuple(self._read_one(text) for text in texts)
        if self.arity == "flag":
            return yes_or_no(texts[-1])
        if self.arity == "one-or-two":
            return tuple(self._read_one(part.strip()) for part in texts[-1].split(","))
        return self._read_one(texts[-1])

    def goes_on(self, token: str) -> bool:
        """Whether a word after the first value of a one-or-two option is one more value of it.

        Args:
            token: The word.

        Returns:
            True for a number where it takes numbers, for a choice where it has choices.
        """
        if self.choices:
            return all(part in self.choices for part in token.split(","))
        return is_number(token)

    def _read_one(self, text: str) -> object:
        return one_of(text, self.choices) if self.choices else self.parse(text)
