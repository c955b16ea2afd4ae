from pathlib import Path

import pytest

from demo_bert.commands.report import run
from demo_bert.errors import RunDirectoryError
from demo_bert.settings import ReportSettings
from report import runs


def test_one_run_has_its_page_written_anew(tmp_path, capsys):
    directory = runs.write_run(tmp_path / "out", num_steps=9)
    (directory / "report.html").write_text("old")
    assert run(ReportSettings(runs=(str(directory),)), {}, []) == 0
    assert capsys.readouterr().out == f"{directory / 'report.html'}\n"
    assert "minilm on mrpc" in (directory / "report.html").read_text("utf-8")


def test_several_runs_are_a_table_and_a_page_here(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        runs.write_run(tmp_path / name, num_steps=9)
    assert run(ReportSettings(runs=("one", "two")), {}, []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("run") and lines[-1] == "comparison.html"
    assert Path("comparison.html").exists() and not Path("one/report.html").exists()


def test_nothing_is_written_when_one_of_them_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.write_run(tmp_path / "one", num_steps=9)
    with pytest.raises(RunDirectoryError, match="two: no such directory"):
        run(ReportSettings(runs=("one", "two")), {}, [])
    assert not Path("comparison.html").exists()
