import os
import resource
import statistics
import subprocess
import sys
import types
from pathlib import Path

import pytest

from demo_bert import __version__, cli, errors
from demo_bert.commands import COMMANDS
from demo_bert.settings.option import PRETRAINING_TASKS
from demo_bert.settings.table import OPTIONS
from demo_bert.tasks import PLANNED, TASKS

SOURCE = Path(cli.__file__).parents[1]
MRPC = ["finetuning", "-d", "bf16", "-m", "tiny", "-t", "mrpc"]


@pytest.fixture(autouse=True)
def _inside_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DEMO_BERT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def ran(monkeypatch):
    """Stands in for the command's module; what it was called with."""
    calls = []

    def run(settings, origins, argv):
        calls.append(types.SimpleNamespace(settings=settings, origins=origins, argv=argv))
        return 0

    for name, line in COMMANDS.items():
        if line.is_delivered:
            monkeypatch.setitem(sys.modules, line.module, types.SimpleNamespace(run=run))
        assert line.module == f"demo_bert.commands.{name}"
    return calls


def raising(monkeypatch, error):
    def run(settings, origins, argv):
        raise error

    module = types.SimpleNamespace(run=run)
    monkeypatch.setitem(sys.modules, COMMANDS["finetuning"].module, module)


def program(*argv, **environ):
    """The program in a process of its own, with the standard library alone."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **environ}
    return subprocess.run(
        [sys.executable, "-S", "-m", "demo_bert", *argv],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_right_command_line_prepares_the_environment_and_runs_the_command(ran):
    order = []
    code = cli.main(["-b", "32", *MRPC, "-v"], prepare_environment=lambda: order.append("prepared"))
    assert (code, order, len(ran)) == (0, ["prepared"], 1)
    assert ran[0].settings.batch_size == (32,)
    assert ran[0].settings.workers == "auto"
    assert ran[0].origins["batch_size"].where == "-b"
    assert ran[0].argv == ["-b", "32", *MRPC, "-v"]


def test_the_exit_code_of_the_command_is_that_of_the_program(monkeypatch):
    module = types.SimpleNamespace(run=lambda settings, origins, argv: 7)
    monkeypatch.setitem(sys.modules, COMMANDS["finetuning"].module, module)
    assert cli.main(MRPC) == 7


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["finetunning"], "did you mean 'finetuning'"),
        (["--epoch", "3", *MRPC], "unknown option --epoch (did you mean --epochs?)"),
        ([*MRPC, "-b", "0"], "-b: needs a whole number of at least 1, got '0'"),
        ([*MRPC, "-b", "64", "8"], "-b takes one value, as finetuning has one phase"),
        ([*MRPC, "-b", "1", "2", "3"], "-b takes one value or two"),
        ([*MRPC, "-e", "3", "-i", "5"], "-e and -i exclude each other"),
        ([*MRPC, "-v", "0"], "-v: needs a whole number of at least 1"),
        ([*MRPC, "--dataset-path", "none.tsv"], "--dataset-path 'none.tsv': no such file"),
        ([*MRPC, "--init-checkpoint", "./none"], "--init-checkpoint './none': no such file"),
        ([*MRPC, "--config", "none.toml"], "--config none.toml: no such file"),
        ([*MRPC, "-o", __file__], "is a file; a directory is needed"),
        ([*MRPC, "--columns", "txt=a", "--dataset-path", "."], "did you mean 'text'"),
        ([*MRPC, "extra\nline"], "unexpected 'extra\\nline'"),
        ([*MRPC, "--o\ndd"], "unknown option"),
        ([*MRPC[:-1], "cola"], "-t cola: not here yet; there are mrpc, squad, squad_v2, class"),
        ([*MRPC[:-1], "mrcp"], "unknown task 'mrcp' (did you mean 'mrpc'?)"),
        (["finetuning"], "-d/--dtype is required"),
        (["evaluate"], "evaluate needs MODEL"),
        (["predict"], "predict needs --text"),
        (["report"], "report needs RUN"),
        (["report", "none"], "RUN 'none': no such file or directory"),
        (["help", "finetunning"], "unknown command 'finetunning'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2_and_nothing_is_installed_or_written(
    argv, told, ran, capsys, tmp_path
):
    assert cli.main(argv, prepare_environment=lambda: pytest.fail("installed")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("demo_bert: error: ")
    assert err.count("\n") == 1
    assert told in err
    assert list(tmp_path.iterdir()) == []
    assert ran == []


@pytest.mark.parametrize("command", [n for n, line in COMMANDS.items() if not line.is_delivered])
def test_a_command_that_is_not_here_says_so_in_one_line(command, capsys):
    assert cli.main([command], prepare_environment=lambda: pytest.fail("installed")) == 2
    err = capsys.readouterr().err
    assert f"{command} is not here yet; there are finetuning, " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("task", PLANNED)
def test_a_planned_task_says_so_in_one_line(task, capsys):
    assert cli.main([*MRPC[:-1], task]) == 2
    assert f"-t {task}: not here yet" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["help"], ["-h"], ["--help"], ["-b", "8"]])
def test_without_a_command_there_is_the_help(argv, capsys):
    assert cli.main(argv, prepare_environment=lambda: pytest.fail("installed")) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_help(command, capsys):
    texts = []
    for argv in ([command, "-h"], ["-h", command], ["help", command], [command, "--hlp", "--help"]):
        assert cli.main(argv, prepare_environment=lambda: pytest.fail("installed")) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1
    assert texts[0].startswith(f"demo_bert {command}: ")


@pytest.mark.parametrize("columns", ["40", "80", "100", "300", "x"])
def test_the_help_keeps_to_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    cli.main(["finetuning", "-h"])
    limit = min(max(int(columns), 80), 100) if columns.isdigit() else 80
    assert max(map(len, capsys.readouterr().out.split("\n"))) <= limit


def test_the_version_is_told(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"demo_bert {__version__}\n"


ERRORS = [
    (errors.UsageError("x"), 2),
    (errors.DataError("x"), 2),
    (errors.DiskError("x"), 1),
    (errors.NetworkError("x"), 1),
]


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_an_error_of_a_command_is_one_line_with_its_exit_code(error, code, monkeypatch, capsys):
    raising(monkeypatch, error)
    assert cli.main(MRPC) == code
    assert capsys.readouterr().err == "demo_bert: error: x\n"


def test_secrets_and_line_ends_are_taken_out_of_errors(monkeypatch, capsys):
    raising(monkeypatch, errors.NetworkError("https://me:pw@hub\nfailed"))
    assert cli.main(MRPC) == 1
    assert capsys.readouterr().err == "demo_bert: error: https://***@hub failed\n"


def test_a_message_that_quotes_a_whole_file_is_shortened(monkeypatch, capsys):
    raising(monkeypatch, errors.DataError("first " + "x" * 9000 + " last"))
    assert cli.main(MRPC) == 2
    said = capsys.readouterr().err
    assert len(said) < 1600
    assert said.startswith("demo_bert: error: first x") and said.endswith("x last\n")


def test_a_stop_on_request_is_no_error(monkeypatch, capsys):
    raising(monkeypatch, errors.StopRequested("stopped at step 7; go on with: demo_bert ..."))
    assert cli.main(MRPC) == 75
    assert capsys.readouterr().err.startswith("demo_bert: stopped at step 7")


def test_of_several_workers_the_first_alone_says_that_they_stopped(monkeypatch, capsys):
    raising(monkeypatch, errors.StopRequested("stopped at step 7"))
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    for rank, said in ((0, "demo_bert: stopped at step 7\n"), (1, "")):
        for name, value in {**variables, "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)
        assert cli.main(MRPC) == 75
        assert capsys.readouterr().err == said


def test_an_interrupt_is_exit_130(monkeypatch, capsys):
    raising(monkeypatch, KeyboardInterrupt())
    assert cli.main(MRPC) == 130
    assert capsys.readouterr().err == "demo_bert: interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    raising(monkeypatch, ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        cli.main(MRPC)


def test_a_failure_to_prepare_the_environment_is_one_line(capsys, ran):
    def fail():
        raise errors.DiskError("no room")

    assert cli.main(MRPC, prepare_environment=fail) == 1
    assert capsys.readouterr().err == "demo_bert: error: no room\n"
    assert ran == []


def test_variables_without_effect_are_named_once_before_the_run(ran, monkeypatch, capsys):
    monkeypatch.setenv("DEMO_BERT_EPOCS", "3")
    assert cli.main(MRPC) == 0
    err = capsys.readouterr().err
    assert err.startswith("demo_bert: warning: environment variables without effect here: ")
    assert "DEMO_BERT_EPOCS (did you mean DEMO_BERT_EPOCHS?)" in err
    assert err.count("\n") == 1
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(MRPC) == 0
    assert capsys.readouterr().err == ""


def test_a_run_goes_on_from_its_directory_alone(ran, tmp_path):
    settings = [{"name": n, "value": v} for n, v in (("dtype", "fp32"), ("model", "mini"))]
    settings += [{"name": "task", "value": "mrpc"}, {"name": "seed", "value": 3}]
    record = f'{{"command": "finetuning", "settings": {settings!r}}}'.replace("'", '"')
    (tmp_path / "run.json").write_text(record, encoding="utf-8")
    assert cli.main(["finetuning", "-o", str(tmp_path)]) == 0
    found = ran[0].settings
    assert (found.dtype, found.model, found.task, found.seed) == ("fp32", "mini", "mrpc", 3)
    assert cli.main(["evaluate", str(tmp_path)]) == 0
    assert ran[1].settings.task == "mrpc"


def test_another_runs_directory_is_refused_with_the_differences(ran, tmp_path, capsys):
    record = '{"command": "finetuning", "settings": [{"name": "dtype", "value": "fp32"}]}'
    (tmp_path / "run.json").write_text(record, encoding="utf-8")
    assert cli.main([*MRPC, "-o", str(tmp_path)]) == 2
    assert "dtype is bf16, was fp32" in capsys.readouterr().err
    assert ran == []


def test_a_yaml_file_waits_for_the_environment(ran, tmp_path, monkeypatch):
    path = tmp_path / "run.yaml"
    path.write_text("batch_size: 8\n", encoding="utf-8")
    yaml = pytest.importorskip("yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    calls = []

    def prepare():
        calls.append("prepared")
        sys.modules["yaml"] = yaml

    assert cli.main([*MRPC, "--config", str(path)], prepare_environment=prepare) == 0
    assert ran[0].settings.batch_size == (8,)
    assert calls == ["prepared"]


def test_yaml_without_its_package_is_one_line(ran, tmp_path, monkeypatch, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("batch_size: 8\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert cli.main([*MRPC, "--config", str(path)]) == 2
    assert "needs the package pyyaml" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error_on_the_terminal():
    command = [sys.executable, "-m", "demo_bert", "finetuning", "-h"]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environ, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["-h"], 0), (["finetuning", "-h"], 0), ([*MRPC, "-b", "0"], 2), (["prepare"], 2), ([], 0)],
)
def test_help_and_mistakes_need_the_standard_library_alone(argv, code):
    script = (
        "import sys; from demo_bert.cli import main; code = main(sys.argv[1:]);"
        "known = {*sys.stdlib_module_names, 'demo_bert', '__main__'};"
        "print([m for m in sys.modules if m.partition('.')[0] not in known], file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, *argv],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.strip().split("\n")[-1] == "[]"


def test_the_program_says_one_line_and_exits_2_for_a_mistake():
    done = program(*MRPC, "-b", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "demo_bert: error: -b: needs a whole number of at least 1, got '0'\n"


@pytest.mark.parametrize("argv", [["-h"], ["finetuning", "-h"], [*MRPC, "-b", "0"]])
def test_help_and_mistakes_answer_in_under_three_tenths_of_a_second(argv):
    """Processor time of the whole process, so that a busy machine does not decide; without
    compiled files, as on the first call."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program(*argv, PYTHONDONTWRITEBYTECODE="1")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(seconds) < 0.3


def test_the_help_states_the_recipes_own_values():
    from demo_bert.tasks import load_task

    stated = {option.name: option.recipes for option in OPTIONS if "finetuning" in option.commands}
    for name in TASKS:
        recipe = load_task(name).recipe
        bf16, fp32 = recipe.batch_size["bf16"], recipe.batch_size["fp32"]
        batch = str(bf16) if bf16 == fp32 else f"{bf16} (fp32: {fp32})"
        assert stated["batch_size"][name] == batch
        assert stated["max_seq_length"][name] == str(recipe.max_seq_length)
        assert stated["epochs"][name] == f"{recipe.epochs:g}"
        assert stated["optimizer"][name] == recipe.optimizer
        assert stated["schedule"][name] == recipe.schedule
        assert stated["weight_decay"][""] == str(recipe.weight_decay)
        assert stated["clip_norm"][""] == str(recipe.clip_norm)
        rates = [
            f"{rate:.0e}".replace("e-0", "e-")
            for rate in (recipe.learning_rate, recipe.small_learning_rate)
        ]
        assert stated["learning_rate"][name].startswith(
            f"{rates[0]} at batch {recipe.reference_batch} (hidden sizes below 768: {rates[1]})"
        )
        assert f"{recipe.warmup_fraction * 100:g} % of the steps" in stated["warmup"][name]
        assert f"{recipe.raised_warmup_fraction * 100:g} % where" in stated["warmup"][name]


def test_the_help_names_every_optimizer_and_schedule():
    optim = pytest.importorskip("demo_bert.optim")
    for name, table in (("optimizer", optim.OPTIMIZERS), ("schedule", optim.SCHEDULES)):
        text = next(option.help for option in OPTIONS if option.name == name)
        assert [known for known in table if known not in text] == []


def test_every_size_of_the_command_line_is_one_of_the_models():
    sizes = pytest.importorskip("demo_bert.model.sizes")
    from demo_bert.settings.option import SIZES

    assert set(SIZES) == set(sizes.SIZES)


def test_the_tasks_of_the_contract_are_all_known():
    known = {*TASKS, *PLANNED, *PRETRAINING_TASKS}
    contract = "mrpc squad squad_v2 cola sst2 qqp stsb mnli qnli rte wnli bookswiki text overfit"
    assert set(contract.split()) <= known


def test_a_signal_while_the_interpreter_is_taken_down_keeps_the_exit_code():
    program = (
        "import atexit, os, signal, sys; from demo_bert import cli;"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM));"
        "sys.argv = ['demo_bert', 'nothing']; cli.run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "error" in done.stderr
