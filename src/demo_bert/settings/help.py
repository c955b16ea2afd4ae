"""The help: of the program, and of each command, made from the table of options."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo_bert.settings.option import Option

_INDENT = 30
_FIRST_STEPS = (
    "demo_bert finetuning -d bf16 -m minilm -t mrpc",
    "demo_bert evaluate RUN -t mrpc",
    'demo_bert predict RUN --text "It rains." --text-b "It is raining."',
)


def command_help(
    command: str,
    summary: str,
    *,
    examples: Sequence[str],
    tasks: Sequence[str],
    width: int,
) -> str:
    """The help of a command.

    Args:
        command: Its name.
        summary: What it does, in a few words.
        examples: Command lines.
        tasks: Names that `-t` takes in fine-tuning.
        width: Columns of the terminal.

    Returns:
        The text, with a line end.
    """
    from demo_bert.settings.option import GROUPS
    from demo_bert.settings.table import options_of

    options = options_of(command)
    lines = [f"demo_bert {command}: {summary}", "", *_usage(command, options, width)]
    if examples:
        lines += ["", "Examples:", *(f"  {example}" for example in examples)]
    for group, title in GROUPS.items():
        rows = [option for option in options if option.group == group]
        if rows or group == "general":
            lines += ["", f"{title}:"]
        for option in rows:
            lines += _row(option, command, tasks=tasks, width=width)
        if group == "general":
            lines += two_columns("-h, --help", "This help.", width=width)
    return "\n".join([*lines, *_footer(options, width)]) + "\n"


def two_columns(left: str, right: str, *, width: int, indent: int = _INDENT) -> list[str]:
    """A line of help: a name, and a text that is wrapped beside it.

    Args:
        left: The name; where it is too long the text starts below it.
        right: The text.
        width: Columns of the terminal.
        indent: Column where the text starts.

    Returns:
        The lines.
    """
    wrapped = textwrap.wrap(
        right, max(width - indent, 20), break_long_words=False, break_on_hyphens=False
    )
    body = [" " * indent + line for line in wrapped]
    if len(left) + 3 > indent or not body:
        return [f"  {left}", *body]
    return [f"  {left}".ljust(indent) + wrapped[0], *body[1:]]


def _usage(command: str, options: "Sequence[Option]", width: int) -> list[str]:
    places = [option.metavar for option in options if option.group == "positional"]
    needed = [
        f"{option.flags.split()[0]} {_values(option)}"
        for option in options
        if option.flags and (option.is_required or "{tasks}" in option.help)
    ]
    rest = ["[options]"] if len(options) > len(places) + len(needed) else []
    words = ["usage: demo_bert", command, *places, *needed, *rest]
    return textwrap.wrap(" ".join(words), width, subsequent_indent=" " * 7)


def _row(option: "Option", command: str, *, tasks: Sequence[str], width: int) -> list[str]:
    text = option.help.replace("{tasks}", _listed(tasks)) + _also(option)
    default = _default(option, command, tasks)
    if default:
        text += f" Default: {default}."
    return two_columns(_left(option, command), text, width=width)


def _left(option: "Option", command: str) -> str:
    if option.group == "positional":
        return option.metavar
    if not option.flags:
        return f"{option.variable} {option.metavar}"
    flags = option.flags.split()
    short = [flag for flag in flags if not flag.startswith("--")]
    long = next(flag for flag in flags if flag.startswith("--"))
    pair = f"{', '.join(short)}, {long}" if short else long
    if option.off_flag:
        pair += f", {option.off_flag}"
    values = _values(option)
    if command == "finetuning" or option.group == "finetuning":
        # One phase.
        values = values.removesuffix(" [N]").removesuffix(" [X]")
    return f"{pair} {values}".rstrip()


def _values(option: "Option") -> str:
    if option.arity == "flag":
        return ""
    return option.metavar or "|".join(option.choices)


def _also(option: "Option") -> str:
    long = [flag for flag in option.flags.split() if flag.startswith("--")][1:]
    names = [*long, *option.aliases] if option.group == "environment" else long
    return f" Also {', '.join(names)}." if names else ""


def _default(option: "Option", command: str, tasks: Sequence[str]) -> str:
    from demo_bert.settings.option import PRETRAINING_TASKS
    from demo_bert.settings.origin import shown

    if option.default is not None:
        return "" if option.arity == "flag" and not option.default else shown(option.default)
    known: set[str] = set()
    if command in ("pretraining", "pipeline") and option.group != "finetuning":
        known.update(PRETRAINING_TASKS)
    elif command in ("finetuning", "plan", "pipeline"):
        known.update(tasks)
    if command == "plan":
        known.update(PRETRAINING_TASKS)
    # Tasks with the same default share one mention.
    shared: dict[str, list[str]] = {}
    for task, text in option.recipes.items():
        if task in known:
            shared.setdefault(text, []).append(task)
    is_common = len(shared) == 1 and known == {name for names in shared.values() for name in names}
    parts = [text if is_common else f"{', '.join(who)} {text}" for text, who in shared.items()]
    rest = option.recipes.get("")
    if rest is not None:
        parts.append(f"else {rest}" if parts else rest)
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "a task"


def _footer(options: "Sequence[Option]", width: int) -> list[str]:
    if len(options) < 4:
        return []
    example = next((o for o in options if o.name == "batch_size"), options[-1])
    text = (
        f"Each option is also an environment variable ({example.variable}=...) and a name in a"
        f" --config file ({example.name} = ...). A flag wins over the environment, the environment"
        " over the file, the file over the default. Dashes and underscores are the same."
    )
    return ["", *textwrap.wrap(text, width, break_on_hyphens=False)]


def program_help(commands: Sequence[tuple[str, str, str]], *, width: int) -> str:
    """The help of the program.

    Args:
        commands: (heading, name, what it does) of each command.
        width: Columns of the terminal.

    Returns:
        The text, with a line end.
    """
    lines = [
        "From text to a trained BERT, and from a trained BERT to an answer.",
        "",
        "usage: demo_bert COMMAND [options]    options may also stand before the command",
        "       demo_bert COMMAND -h           what a command does, and its options",
    ]
    heading = ""
    for group, name, text in commands:
        if group != heading:
            heading = group
            lines += ["", f"{group}:"]
        lines += two_columns(name, text, width=width, indent=15)
    lines += ["", "First steps:", *(f"  {line}" for line in _FIRST_STEPS), "", "General:"]
    lines += two_columns("-h, --help", "This help; after a command, that command's.", width=width)
    lines += two_columns("--version", "The program's version.", width=width)
    text = (
        "Exit codes: 0 done, 2 a mistake in what was given, 1 a failure, 75 stopped on request with"
        " a checkpoint saved, 130 interrupted."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, width)]) + "\n"
