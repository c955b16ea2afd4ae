"""`doctor` on this machine: each thing has its line, what is wrong its mend."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from demo_bert import __version__
from demo_bert.commands import doctor
from small_run import Program


def test_this_machine_is_told_line_by_line(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@hub.example")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.example/simple")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    answer = program.call("doctor", "--device", "cpu")
    told = {line[8:].split("  ")[0]: line for line in answer.out.splitlines()[:-1]}
    assert answer.code == 0, answer.out
    assert f"{__version__} in " in told["demo_bert"]
    for what in ("python", "torch", "device", "bf16", "free memory", "disk here", "pyarrow"):
        assert told[what].startswith("ok "), told[what]
    assert "is not reached" in told["hub"] and "HF_ENDPOINT" in told["hub"]
    assert "secret" not in answer.out
    assert "index.example" in told["package index"]
    assert answer.out.splitlines()[-1].startswith("no problems, ")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_a_problem_and_exit_1(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    monkeypatch.setattr(doctor, "_reach", lambda: iter(()))
    answer = program.call("doctor", "--device", "cpu")
    assert answer.code == 1
    problems = [line for line in answer.out.splitlines() if line.startswith("problem ")]
    assert len(problems) == 2 and all("make room" in line for line in problems)
    assert answer.out.splitlines()[-1].startswith("2 problems, ")


def test_setting_up_hosts_wants_hosts(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MULTI_HLS_IPS", raising=False)
    answer = program.call("doctor", "--setup-hosts")
    assert answer.code == 2
    assert "set MULTI_HLS_IPS=host,host" in answer.err
