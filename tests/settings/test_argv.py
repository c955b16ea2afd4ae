import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.commands import COMMANDS
from demo_bert.errors import UsageError
from demo_bert.settings.argv import flags_of, read_argv


def read(text):
    """Command and {name: texts} of a command line that must be right."""
    line = read_argv(text.split(), COMMANDS)
    assert line.problems == ()
    return line.command, {name: given.texts for name, given in line.given.items()}


def problems(text):
    return "; ".join(read_argv(text.split(), COMMANDS).problems)


BASE = {"dtype": ("bf16",), "model": ("base",), "task": ("mrpc",)}
LARGE = {"dtype": ("bf16",), "model": ("large",)}


@pytest.mark.parametrize(
    ("text", "command", "given"),
    [
        ("finetuning -d bf16 -m base -t mrpc", "finetuning", BASE),
        ("-d bf16 -m base -t mrpc finetuning", "finetuning", BASE),
        ("-d bf16 finetuning -m base -t mrpc", "finetuning", BASE),
        ("finetuning --dtype=bf16 --model base --task=mrpc", "finetuning", BASE),
        ("finetuning -d bf16 -m base --test-set mrpc", "finetuning", BASE),
        ("finetuning -d bf16 -m base --test_set mrpc", "finetuning", BASE),
        ("finetuning -dbf16 -m base -t mrpc", "finetuning", BASE),
        (
            "finetuning -d bf16 -m base -t mrpc -b 32 -s 128 -v",
            "finetuning",
            {**BASE, "batch_size": ("32",), "max_seq_length": ("128",), "workers": ("auto",)},
        ),
        (
            "pretraining -d bf16 -m large -b 64 8 -v",
            "pretraining",
            {**LARGE, "batch_size": ("64,8",), "workers": ("auto",)},
        ),
        (
            "pretraining -d bf16 -m large -b 64,8 -v 8",
            "pretraining",
            {**LARGE, "batch_size": ("64,8",), "workers": ("8",)},
        ),
        (
            "-v -d bf16 pretraining -m large -b 64 8",
            "pretraining",
            {**LARGE, "batch_size": ("64,8",), "workers": ("auto",)},
        ),
        (
            "-b 64 8 pretraining -d bf16 -m large",
            "pretraining",
            {**LARGE, "batch_size": ("64,8",)},
        ),
        (
            "-b 64, 8 pretraining -d bf16 -m large",
            "pretraining",
            {**LARGE, "batch_size": ("64,8",)},
        ),
        ("-b64 pretraining -d bf16 -m large", "pretraining", {**LARGE, "batch_size": ("64",)}),
        ("-v finetuning", "finetuning", {"workers": ("auto",)}),
        ("-v 2 finetuning", "finetuning", {"workers": ("2",)}),
        ("-v2 finetuning", "finetuning", {"workers": ("2",)}),
        ("-v=2 finetuning", "finetuning", {"workers": ("2",)}),
        ("--workers 2 finetuning", "finetuning", {"workers": ("2",)}),
        ("--use_horovod finetuning", "finetuning", {"workers": ("auto",)}),
        ("finetuning --use-horovod 8", "finetuning", {"workers": ("8",)}),
        ("pretraining -fpo", "pretraining", {"fast_perf_only": ("true",)}),
        ("pretraining -fpo 1", "pretraining", {"fast_perf_only": ("1",)}),
        (
            "pretraining -fpo -b 8",
            "pretraining",
            {"fast_perf_only": ("true",), "batch_size": ("8",)},
        ),
        ("--fast_perf_only pretraining", "pretraining", {"fast_perf_only": ("true",)}),
        (
            "pretraining --learning-rate 6e-3 4e-3",
            "pretraining",
            {"learning_rate": ("6e-3,4e-3",)},
        ),
        (
            "pretraining --objectives mlm mlm+nsp",
            "pretraining",
            {"objectives": ("mlm,mlm+nsp",)},
        ),
        ("--objectives mlm pretraining", "pretraining", {"objectives": ("mlm",)}),
        (
            "finetuning --dataset-path a --dataset_path b",
            "finetuning",
            {"dataset_path": ("a", "b")},
        ),
        ("finetuning --no-sample", "finetuning", {"sample": ("false",)}),
        ("finetuning --sample", "finetuning", {"sample": ("true",)}),
        ("finetuning -b 32 -b 16", "finetuning", {"batch_size": ("32", "16")}),
        (
            "evaluate runs/a -t mrpc -b 8",
            "evaluate",
            {"model": ("runs/a",), "task": ("mrpc",), "batch_size": ("8",)},
        ),
        ("evaluate -b 8 runs/a", "evaluate", {"model": ("runs/a",), "batch_size": ("8",)}),
        ("-b 8 evaluate runs/a", "evaluate", {"model": ("runs/a",), "batch_size": ("8",)}),
        ("report a b c", "report", {"runs": ("a", "b", "c")}),
        ("report -- -a", "report", {"runs": ("-a",)}),
        ("predict --text=-x", "predict", {"text": ("-x",)}),
        (
            "prepare inspect store --examples 2",
            "prepare",
            {"action": ("inspect",), "stores": ("store",), "examples": ("2",)},
        ),
        (
            "prepare merge a b -o c",
            "prepare",
            {"action": ("merge",), "stores": ("a", "b"), "output_dir": ("c",)},
        ),
        (
            "plan pretraining -m base -v 8",
            "plan",
            {"planned": ("pretraining",), "model": ("base",), "workers": ("8",)},
        ),
        (
            "pipeline --text novels -m tiny -t mrpc --finetuning-batch-size 16",
            "pipeline",
            {
                "text": ("novels",),
                "model": ("tiny",),
                "task": ("mrpc",),
                "finetuning_batch_size": ("16",),
            },
        ),
    ],
)
def test_a_command_line_of_the_contract_is_read(text, command, given):
    assert read(text) == (command, given)


def test_a_text_may_begin_with_a_dash():
    line = read_argv(["predict", "--text", "- a list, -d and all"], COMMANDS)
    assert line.given["text"].texts == ("- a list, -d and all",)


def test_the_flag_is_kept_as_it_was_typed():
    line = read_argv(["finetuning", "--batch_size=8"], COMMANDS)
    assert line.given["batch_size"].flag == "--batch_size"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("finetunning", "unknown command 'finetunning' (did you mean 'finetuning'?); there are"),
        ("help finetunning", "unknown command 'finetunning'"),
        ("finetuning --epoch 3", "unknown option --epoch (did you mean --epochs?)"),
        ("finetuning -epochs 3", "unknown option -epochs (did you mean --epochs?)"),
        ("finetuning -task mrpc", "unknown option -task (did you mean --task?)"),
        ("finetuning --batch 3", "unknown option --batch (did you mean --batch-size?)"),
        ("finetuning --xyzzy", "unknown option --xyzzy; demo_bert finetuning -h lists all"),
        ("--xyzzy finetuning", "unknown option --xyzzy"),
        ("--xyzzy 3 finetuning", "unknown option --xyzzy"),
        ("--xyzzy", "unknown option --xyzzy; demo_bert -h lists all"),
        ("pretraining -b 64 8 4", "-b takes one value or two (one for each phase), got 64 8 4"),
        ("pretraining -b 64,8,4", "-b takes one value or two (one for each phase), got 64 8 4"),
        ("-b finetuning", "-b needs N [N]"),
        ("finetuning -d", "-d needs bf16|fp32"),
        ("finetuning -d -m tiny", "-d needs bf16|fp32"),
        ("finetuning -o --new", "-o needs DIR"),
        ("finetuning --objectives mlm", "--objectives is an option of pretraining"),
        ("finetuning extra", "unexpected 'extra'; finetuning takes no arguments"),
        ("evaluate a b", "unexpected 'b'; evaluate takes MODEL beside its options"),
        ("report --new", "--new is an option of"),
    ],
)
def test_a_wrong_command_line_is_told_in_a_few_words(text, problem):
    assert problem in problems(text)


def test_all_problems_are_told_together():
    told = problems("finetuning --epoch 3 -d -b 1 2 3 extra")
    assert [word in told for word in ("--epoch", "-d needs", "-b takes")] == [True] * 3


def test_a_flag_without_its_value_counts_as_meant():
    line = read_argv(["finetuning", "-d"], COMMANDS)
    assert line.given["dtype"].texts == ()


@pytest.mark.parametrize("text", ["-h", "--help", "finetuning -h", "-h finetuning", "help"])
def test_help_is_asked_for_anywhere(text):
    assert read_argv(text.split(), COMMANDS).wants_help


def test_the_version_is_asked_for_anywhere():
    assert read_argv(["finetuning", "--version"], COMMANDS).wants_version


def test_flags_alone_can_be_read_for_a_command():
    assert flags_of(["-b", "8"], "finetuning")["batch_size"].texts == ("8",)
    with pytest.raises(UsageError, match="--epoch"):
        flags_of(["--epoch", "8"], "finetuning")


PIECES = [["-d", "bf16"], ["-m", "base"], ["-b", "64", "8"], ["-v"], ["-v", "2"], ["-i", "5"]]


@given(st.permutations([["pretraining"], *PIECES[:3], PIECES[5]]), st.sampled_from(PIECES[3:5]))
@settings(deadline=None)
def test_the_order_of_options_and_command_does_not_matter(pieces, workers):
    argv = [word for piece in (*pieces[:2], workers, *pieces[2:]) for word in piece]
    line = read_argv(argv, COMMANDS)
    assert line.problems == ()
    assert line.command == "pretraining"
    assert line.given["batch_size"].texts == ("64,8",)
    assert line.given["workers"].texts == ("2" if len(workers) == 2 else "auto",)


@given(st.lists(st.text(min_size=0, max_size=12), max_size=8))
@settings(deadline=None)
def test_no_command_line_is_too_odd_to_be_read(argv):
    read_argv(argv, COMMANDS)
