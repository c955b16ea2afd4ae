import pytest

from demo_bert.commands import COMMANDS
from demo_bert.settings.help import command_help, program_help, two_columns
from demo_bert.settings.table import options_of

TASKS = ("mrpc", "classification")


def text_of(command, width=80):
    line = COMMANDS[command]
    return command_help(command, line.help, examples=line.examples, tasks=TASKS, width=width)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [80, 100])
def test_the_help_fits_the_terminal(command, width):
    wide = [line for line in text_of(command, width).split("\n") if len(line) > width]
    assert wide == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_argument_and_variable_without_a_flag_is_in_the_help(command):
    text = text_of(command)
    for option in options_of(command):
        for flag in option.all_flags:
            assert flag in text
        if not option.flags and option.group != "positional":
            assert option.variable in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_row_states_its_default(command):
    text = " ".join(text_of(command).split())
    assert "Default: ." not in text
    assert "Default: else" not in text
    assert "{" not in text


def test_defaults_are_those_of_the_tasks_that_are_here():
    text = " ".join(text_of("finetuning").split())
    assert "Default: mrpc 64 (fp32: 32)" in text
    assert "squad 24" not in text
    assert "Default: bookswiki 64 8 (fp32: 32 8); overfit 32." in " ".join(
        text_of("pretraining").split()
    )


def test_usage_shows_what_must_be_given():
    assert "usage: demo_bert finetuning -d bf16|fp32 -m MODEL -t TASK [options]" in text_of(
        "finetuning"
    )
    assert "usage: demo_bert evaluate MODEL -t TASK [options]" in text_of("evaluate")
    assert "usage: demo_bert report RUN...\n" in text_of("report")


def test_the_programs_help_lists_each_command_once():
    rows = [(line.group, name, line.help) for name, line in COMMANDS.items()]
    lines = program_help(rows, width=80).split("\n")
    for name in COMMANDS:
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    assert max(map(len, lines)) <= 80


def test_a_name_that_is_too_long_stands_above_its_text():
    assert two_columns("a" * 40, "text", width=80) == ["  " + "a" * 40, " " * 30 + "text"]
    assert two_columns("a", "text", width=80) == ["  a" + " " * 27 + "text"]
