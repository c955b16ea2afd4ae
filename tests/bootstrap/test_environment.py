"""The environment is made once and whole, whatever happens meanwhile; pip is a stub here."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap_checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe that pip waits at, and one beside it through which it says so."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    os.mkfifo(f"{path}.reached")
    return path


def reached(gate: Path) -> int:
    """Waits until pip is at the gate, and gives its process number."""
    with open(os.open(f"{gate}.reached", os.O_RDONLY | os.O_NONBLOCK)) as pipe:
        assert select.select([pipe], [], [], 60)[0], "pip did not come this far"
        return int(pipe.read())


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("demo_bert:   ")]


def test_the_first_call_makes_the_environment_and_runs_the_command_in_it(
    checkout: Checkout,
) -> None:
    result = checkout.run("finetuning", "-b", "64 8")
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["argv"] == ["finetuning", "-b", "64 8"]
    assert said["prefix"] == str(checkout.environment)
    first, *steps, last = lines_of(result.stderr)
    assert first.startswith(f"demo_bert: first run: making {checkout.environment} with Python 3.")
    assert [step for step in steps if " step " in step] == [
        "demo_bert: step 1 of 3: a virtual environment",
        "demo_bert: step 2 of 3: 1 package",
        "demo_bert: step 3 of 3: torch 2.13.0 and its libraries",
    ]
    assert last.startswith("demo_bert: ready after ")


def test_later_calls_say_nothing_and_change_nothing(checkout: Checkout) -> None:
    checkout.run()
    before = {path: path.stat().st_mtime_ns for path in checkout.environment.rglob("*")}
    result = checkout.run("again")
    assert (result.returncode, result.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in checkout.environment.rglob("*")} == before
    assert checkout.pip_calls() == ["packages", "torch"]


def test_help_makes_nothing(checkout: Checkout) -> None:
    result = checkout.run("-h")
    assert (result.returncode, result.stdout, result.stderr) == (0, "help\n", "")
    assert not checkout.environment.exists()


def test_it_works_through_a_link_from_any_directory(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run()
    link = tmp_path / "anywhere" / "bert"
    link.parent.mkdir()
    link.symlink_to(checkout.launcher)
    result = checkout.run("x", launcher=link)
    assert json.loads(result.stdout)["prefix"] == str(checkout.environment)
    assert result.stderr == ""


def test_a_variable_puts_the_environment_elsewhere(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a disk" / "environment"
    variables = {"DEMO_BERT_VENV": str(elsewhere)}
    result = checkout.run(variables=variables)
    assert json.loads(result.stdout)["prefix"] == str(elsewhere)
    assert not checkout.environment.exists()
    assert checkout.run(variables=variables).stderr == ""


@pytest.mark.parametrize(
    "interruption",
    [{"TEST_VENV": "killed"}, {"TEST_PIP": "packages=killed"}, {"TEST_PIP": "torch=killed"}],
    ids=["in-venv", "in-packages", "in-torch"],
)
def test_after_a_kill_the_next_call_makes_it_anew(
    checkout: Checkout, interruption: dict[str, str]
) -> None:
    assert checkout.run(variables=interruption).returncode == -signal.SIGKILL
    half_written = checkout.environment / "half-written"
    half_written.write_text("")
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    assert "anew, as it was not finished" in result.stderr.splitlines()[0]
    assert not half_written.exists()
    assert checkout.run().stderr == ""


def test_an_empty_directory_is_taken(checkout: Checkout) -> None:
    checkout.environment.mkdir()
    assert checkout.run().returncode == 0


@pytest.mark.parametrize("kind", ["environment", "file"])
def test_what_is_not_ours_is_left_alone(checkout: Checkout, kind: str) -> None:
    if kind == "environment":
        checkout.environment.mkdir()
        (checkout.environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    else:
        checkout.environment.write_text("mine")
    result = checkout.run()
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "not made by demo_bert" in line and "DEMO_BERT_VENV" in line
    assert not checkout.environment.with_name(".venv.lock").exists()
    if kind == "environment":
        assert [path.name for path in checkout.environment.iterdir()] == ["pyvenv.cfg"]
    else:
        assert checkout.environment.read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_one_line(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = checkout.run(variables={"DEMO_BERT_VENV": str(tmp_path / "file" / "environment")})
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "cannot be written" in line and "DEMO_BERT_VENV" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_is_one_line(checkout: Checkout, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = checkout.run(variables={"DEMO_BERT_VENV": str(locked / "environment")})
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "Permission denied" in line


def test_changed_pins_are_installed_in_place(checkout: Checkout) -> None:
    checkout.run()
    kept = checkout.environment / "kept"
    kept.write_text("")
    (checkout.root / "requirements.lock").write_text("torch==2.13.0\none==1.1\n")
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    assert "requirements.lock has changed" in result.stderr.splitlines()[0]
    assert kept.exists()
    assert list(checkout.environment.rglob("one-1.1.dist-info"))
    assert checkout.run().stderr == ""


def test_pins_that_change_while_it_runs_inside_are_installed_too(checkout: Checkout) -> None:
    checkout.run()
    (checkout.root / "requirements.lock").write_text("torch==2.13.0\none==1.1\n")
    inside = str(checkout.environment / "bin" / "python")
    result = subprocess.run(
        [inside, str(checkout.launcher), "x"], env=checkout.env(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["prefix"] == str(checkout.environment)
    assert list(checkout.environment.rglob("one-1.1.dist-info"))


def test_an_environment_that_is_no_link_to_an_interpreter_does_not_loop(
    checkout: Checkout, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    base = os.path.realpath(sys.executable)
    command = [base, "-m", "venv", "--without-pip", "--copies", str(foreign)]
    subprocess.run(command, check=True)
    result = checkout.run(
        python=foreign / "bin" / "python", variables={"DEMO_BERT_VENV": str(foreign)}
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "deactivate it" in line


def change_record(checkout: Checkout, **fields: object) -> None:
    ready = checkout.environment / "demo_bert-ready.json"
    ready.write_text(json.dumps(json.loads(ready.read_text()) | fields))


def test_another_interpreter_below_makes_it_anew(checkout: Checkout) -> None:
    checkout.run()
    change_record(checkout, python="/usr/bin/gone")
    result = checkout.run()
    assert "anew, as what it was made of has changed" in result.stderr.splitlines()[0]
    assert checkout.run().stderr == ""


def test_an_environment_of_another_kind_of_machine_is_left_alone(checkout: Checkout) -> None:
    checkout.run()
    change_record(checkout, machine="Linux s390x", python="/opt/python")
    result = checkout.run()
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "was made for Linux s390x" in line and "DEMO_BERT_VENV" in line
    assert (checkout.environment / "demo_bert-ready.json").exists()


def test_of_two_calls_one_makes_it_and_the_other_waits(checkout: Checkout, gate: Path) -> None:
    first = checkout.start(variables={"TEST_PIP": f"packages=stopped:{gate}"})
    reached(gate)
    second = checkout.start("second")
    assert second.stderr is not None
    line = second.stderr.readline()
    assert line.startswith(f"demo_bert: process {first.pid} on ") and "waiting" in line
    gate.write_text("")
    assert first.communicate(timeout=60) and first.returncode == 0
    output, rest = second.communicate(timeout=60)
    assert (second.returncode, rest) == (0, "")
    assert json.loads(output)["argv"] == ["second"]
    assert checkout.pip_calls() == ["packages", "torch"]


def test_a_pip_whose_parent_was_killed_is_waited_for(checkout: Checkout, gate: Path) -> None:
    first = checkout.start(variables={"TEST_PIP": f"packages=stopped:{gate}"})
    pip = reached(gate)
    first.kill()
    first.communicate(timeout=60)
    second = checkout.start()
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    assert is_alive(pip)
    gate.write_text("")
    _, rest = second.communicate(timeout=60)
    assert second.returncode == 0, rest
    assert "anew, as it was not finished" in rest.splitlines()[0]


@pytest.mark.parametrize(
    ("signum", "code", "line"),
    [
        (signal.SIGINT, 130, "demo_bert: interrupted; call again to go on"),
        (signal.SIGTERM, 143, "demo_bert: stopped by SIGTERM; call again to go on"),
        (signal.SIGHUP, 129, "demo_bert: stopped by SIGHUP; call again to go on"),
    ],
)
def test_a_signal_ends_pip_too_with_one_line(
    checkout: Checkout, gate: Path, signum: signal.Signals, code: int, line: str
) -> None:
    process = checkout.start(variables={"TEST_PIP": f"torch=stopped:{gate}"})
    pip = reached(gate)
    process.send_signal(signum)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert lines_of(error)[-1] == line
    assert "Traceback" not in error
    assert not is_alive(pip)
    assert checkout.run().returncode == 0


def test_a_failure_of_pip_is_one_line_with_the_log(checkout: Checkout, tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("ERROR: Could not install packages due to an OSError: [Errno 28] No space left")
    result = checkout.run(variables={"TEST_PIP": f"torch=failed:{said}"})
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "DiskError" in last and "pip-torch.log" in last
    assert checkout.run().returncode == 0


def test_a_failure_of_venv_is_one_line_with_the_log(checkout: Checkout) -> None:
    result = checkout.run(variables={"TEST_VENV": "failed"})
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "-m venv failed: Error: no luck" in last and "venv.log" in last


@pytest.mark.parametrize("name", ["venv", "ensurepip"])
def test_a_python_that_cannot_make_environments_is_one_line(checkout: Checkout, name: str) -> None:
    program = (
        f"import sys; sys.modules[{name!r}] = None; sys.path.insert(0, 'src')\n"
        "from pathlib import Path\n"
        "from demo_bert.bootstrap import ensure\n"
        "ensure(Path.cwd())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=checkout.root,
        env=checkout.env(),
        capture_output=True,
        text=True,
    )
    last = result.stderr.splitlines()[-1]
    assert last.startswith("demo_bert.errors.UserError: this Python")
    assert f"has no module {name}" in last and "apt install python3-venv" in last
    assert {".venv", ".venv.lock"}.isdisjoint(path.name for path in checkout.root.iterdir())


def test_a_copied_checkout_uses_the_environment_copied_with_it(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.run()
    copy = tmp_path / "copy"
    shutil.copytree(checkout.root, copy, symlinks=True)
    result = checkout.run(launcher=copy / "demo_bert")
    assert result.stderr == ""
    assert json.loads(result.stdout)["prefix"] == str(copy / ".venv")
