"""What is compared and told of hosts before anything is started, and how they are started."""

import sys
from pathlib import Path
from typing import Any

import pytest

from demo_bert import __version__
from demo_bert.errors import FailureError
from demo_bert.launch import mpirun, preflight, remote
from demo_bert.launch.host import content_digest, package_digest, package_version
from demo_bert.launch.placement import divide, named, nodes_of
from demo_bert.launch.preflight import Findings, Needs
from demo_bert.launch.remote import Hosts, Program, program_on_hosts

PROGRAM = Program("/py", "/src", "/work", "/")
NEEDS = Needs(device="cpu", workers=2, paths=(), output_dir="run", disk_bytes=1000)
GOOD: dict[str, Any] = {
    "time": 0.0,
    "version": __version__,
    "digest": package_digest(),
    "torch": package_version("torch"),
    "mpi": "/usr/bin/orted",
    "has_cwd": True,
    "free_disk_bytes": 5000,
    "free_memory_bytes": 1 << 30,
    "devices": 0,
    "addresses": {"eth0": "10.0.0.1"},
    "interface": "eth0",
    "paths": {},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "0.0.0"}, "demo_bert 0.0.0 there"),
        ({"digest": "x"}, "files differ"),
        ({"torch": None}, "PyTorch is not installed there"),
        ({"torch": "1.0"}, "PyTorch 1.0 there"),
        ({"mpi": None}, "apt-get install openmpi-bin"),
        ({"has_cwd": False}, "no such directory"),
        ({"disk_problem": "/x: No space left on device"}, "No space left on device: make room"),
        ({"free_disk_bytes": 10}, "wanted for checkpoints"),
        ({"devices": 1}, "1 devices, 2 workers: give -v 1"),
        ({"device_problem": "--device cuda: broken"}, "--device cuda: broken"),
        ({"time": 100.0}, "its clock is 99 s off"),
        ({"interface": None}, "MPI_TPC_INCLUDE"),
    ],
)
def test_each_problem_has_its_line_and_its_mend(change: dict[str, Any], told: str) -> None:
    def problems(facts: dict[str, Any]) -> list[str]:
        return [
            *preflight._program_problems(facts, uses_mpi=True),
            *preflight._machine_problems(facts, NEEDS, began=0.0, ended=1.0),
        ]

    assert problems(GOOD) == []
    (problem,) = problems(GOOD | change)
    assert told in problem


def test_what_is_here_is_given_and_what_differs_is_refused() -> None:
    facts = {
        name: GOOD | {"paths": {"a": digest, "b": other, "c": None}}
        for name, digest, other in (("one", "x", "y"), ("two", None, "z"), ("three", "q", None))
    }
    findings = Findings(facts=facts)
    preflight._compare_paths(findings, {"a": "x", "b": None, "c": None})
    assert findings.lacking == {"two": ["a"]}
    assert sorted(findings.lines()) == [
        "three: a is not the same as here; make them equal, or remove it there",
        "three: b is not there; put it there",
        "two: b is not the same as on the others; make them equal, or remove it there",
    ]


def test_contents_are_compared_by_name_length_and_bytes(tmp_path: Path) -> None:
    for name, text in (("a/x", "1"), ("b/x", "1"), ("c/x", "2"), ("d/y", "1")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    a, b, c, d = (content_digest(tmp_path / name) for name in "abcd")
    assert a == b and len({a, c, d}) == 3
    assert content_digest(tmp_path / "none") is None


def test_only_variables_that_matter_are_passed_on_and_no_secret() -> None:
    environ = {
        **{"MULTI_HLS_IPS": "a,b", "DEMO_BERT_EPOCHS": "2", "NCCL_DEBUG": "INFO", "PATH": "/bin"},
        **{"HF_TOKEN": "s", "DEMO_BERT_API_KEY": "s", "HOME": "/root", "AWS_SECRET": "s"},
        **{"https_proxy": "http://me:pass@proxy", "HF_ENDPOINT": "http://hub", "HF_HOME": "/h"},
        "OMP_NUM_THREADS": "",
    }
    passed = ["DEMO_BERT_EPOCHS", "HF_ENDPOINT", "MULTI_HLS_IPS", "NCCL_DEBUG"]
    assert mpirun.passed_variables(environ) == passed


def test_the_users_own_mpirun_keeps_its_options_and_ours_follow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "bin" / "mpirun"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)

    def line(command: str | None) -> list[str]:
        return mpirun.mpirun_line(
            ("a", "b"),
            PROGRAM,
            directory="/tmp/job",
            ssh_arguments=("-p", "3022"),
            command=command,
            interface=None,
            environ={"SSH_PORT": "3022"},
        )

    words = line(f"{own} --mca x y")
    assert words[:6] == [str(own), "--mca", "x", "y", "--prefix", str(tmp_path)]
    assert words[words.index("-H") + 1] == "a,b"
    assert words[words.index("-x") + 1] == "SSH_PORT"
    assert words[-2:] == ["agent", "/tmp/job"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailureError, match="apt-get install openmpi-bin"):
        line(None)


def test_the_program_on_the_hosts_is_where_it_is_here_or_where_they_are_told(
    tmp_path: Path,
) -> None:
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    for name in ("demo_bert", "pyproject.toml"):
        (root / name).touch()
    here = program_on_hosts(root / "src", cwd=root / "x", remote_dir=None)
    assert here == Program(sys.executable, str(root / "src"), str(root / "x"), str(root))
    there = program_on_hosts(root / "src", cwd=root / "x", remote_dir="/opt/bert")
    assert (there.source, there.cwd, there.root) == ("/opt/bert/src", "/opt/bert/x", "/opt/bert")
    assert program_on_hosts(tmp_path, cwd=Path("/data"), remote_dir=None).root is None


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("Host key verification failed.", "by hand"),
        ("IDENTIFICATION HAS CHANGED! Host key verification failed.", "`ssh-keygen -R 'h'`"),
        ("root@h: Permission denied (publickey).", "ssh-copy-id h"),
        ("ssh: Could not resolve hostname h", "give its address"),
        ("ssh: connect to host h port 22: Connection refused", "SSH_PORT"),
        ("ssh: connect to host h port 22: Connection timed out", "is it on"),
    ],
)
def test_what_ssh_says_is_told_with_the_mend(
    said: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", f"import sys; print({said!r}, file=sys.stderr); sys.exit(255)"]
    monkeypatch.setattr(Hosts, "command", lambda *args: command)
    with pytest.raises(remote.HostError, match="^h: ") as caught:
        Hosts(PROGRAM, port=None).ask("h", "look", {}, timeout_s=20.0)
    assert mend in str(caught.value) and said in str(caught.value)


def test_cores_are_divided_by_nodes_where_the_numbers_allow(tmp_path: Path) -> None:
    for node, cores in enumerate(("0-3", "4-7")):
        path = tmp_path / f"sys/devices/system/node/node{node}/cpulist"
        path.parent.mkdir(parents=True)
        path.write_text(f"{cores}\n")
    nodes = nodes_of(range(8), tmp_path)
    assert nodes == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert nodes_of([0, 1, 9], tmp_path) == [[0, 1, 9]], "a core of no node"
    assert divide(nodes, 2) == nodes
    assert divide(nodes, 4, each=1) == [[0], [1], [4], [5]]
    assert named(divide(nodes, 3)) == "0-1 | 2-3 | 4-5"
    assert divide(nodes, 9) is None
