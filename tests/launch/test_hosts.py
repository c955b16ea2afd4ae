"""Several hosts: the commands of the README on three namespaces, with an sshd each."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

import demo_bert
from corpus.recipes import files_of, prose, write_books
from launch.cluster import (
    MRPC,
    OVERFIT,
    PORT,
    SMALL,
    Cluster,
    finished,
    read_until,
    signalled,
    why_not,
)
from small_run import Program, events, losses, read_json

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"NOT RUN: several hosts: {REASON}")


def test_three_hosts_fine_tune_and_all_comes_back(
    three: Cluster, program: Program, tmp_path: Path
) -> None:
    run = three.private / "mrpc"
    options = ("--global-batch-size", "10", "-o", str(run), "-v", "1")
    secrets = {"HF_TOKEN": "s3cret", "LOG_LEVEL_ALL": "info", "OUTPUT_DIR": str(tmp_path / "other")}
    out, err = finished(three.start([*MRPC, *SMALL, *options], cwd=tmp_path, environment=secrets))
    assert "accuracy" in out and out.count("accuracy") == 1
    # The opening table has what was set and what was worked out.
    line = next(row for row in err.splitlines() if row.startswith("mpirun_command"))
    assert f"mpirun --allow-run-as-root -np 3 -H {','.join(three.addresses)} " in line
    assert "-x LOG_LEVEL_ALL" in line and "BatchMode=yes" in line and f"-p {3022}" in line
    assert "HF_TOKEN" not in line and "s3cret" not in err and "PATH" not in line.split()
    table = {row.split()[0]: row.split()[1] for row in err.splitlines() if "DEMO_BERT_" in row}
    assert table["hosts"] == three.addresses[0]
    assert (table["network_interface"], table["ssh_port"], table["workers"]) == (
        "eth0",
        "3022",
        "1",
    )
    assert f"{three.addresses[2]}: ranks 2 to 2, threads of each: 1" in err
    assert "step 4/4" in err and "[rank 1, " not in err.split("step 1/4")[1]
    # The first host has everything, the invoking machine all but checkpoints.
    there, here = three.of(three.addresses[0]) / "mrpc", three.here / "mrpc"
    assert {path.name for path in (there / "checkpoints").iterdir()} == {"newest", "step-4"}
    assert not (here / "checkpoints").exists()
    results = read_json(here / "results.json")
    assert results == read_json(there / "results.json")
    assert (results["status"], results["world_size"], results["hosts"]) == (
        "complete",
        3,
        three.addresses,
    )
    assert results["data"]["sample"] is True
    assert (here / "model" / "model.safetensors").exists()
    assert {path.name for path in (here / "logs").iterdir()} == {f"rank-{r}.log" for r in range(3)}
    assert "step 4/4" in (here / "logs" / "rank-0.log").read_text()
    assert f"checkpoints are in {three.addresses[0]}:{run}/checkpoints" in err
    for address in three.addresses:
        assert three.processes(address) == {}
    # One worker sees the same rows and learns the same.
    alone = tmp_path / "alone"
    assert program.call(*MRPC, *SMALL, *options[:2], "-o", str(alone)).code == 0
    one, many = losses(alone), losses(here)
    assert [*one] == [*many] == [1, 2, 3, 4]
    for step in one:
        assert many[step] == pytest.approx(one[step], rel=1e-5)
    tokens = [[e["tokens"] for e in events(path, "step")] for path in (alone, here)]
    assert tokens[0] == tokens[1]
    # The same command again needs no host: its result is here.
    argv = [*MRPC, *SMALL, *options]
    out, err = finished(three.start(argv, cwd=tmp_path, environment={"PATH": "/usr/bin:/bin"}))
    assert "accuracy" in out and "finished" in err


def test_two_workers_on_each_host_learn_a_text_by_heart_on_storage_that_all_see(
    three: Cluster, tmp_path: Path
) -> None:
    run = tmp_path / "overfit"
    options = ("-b", "2", "--global-batch-size", "12", "-s", "32", "-i", "3", "-w", "1")
    argv = [*OVERFIT, *options, "-o", str(run), "-v", "2"]
    _, err = finished(three.start(argv, cwd=tmp_path, hosts=three.addresses[:2]))
    results = json.loads((run / "results.json").read_text())
    assert (results["status"], results["world_size"]) == ("complete", 4)
    assert f"everything is in {run}, which all hosts see" in err
    assert {path.name for path in (run / "logs").iterdir()} == {f"rank-{r}.log" for r in range(4)}


def test_all_problems_of_all_hosts_are_named_at_once_with_their_mends(
    three: Cluster, tmp_path: Path
) -> None:
    first, second, third = three.addresses
    version = Path(demo_bert.__file__)
    other = tmp_path / "__init__.py"
    other.write_text(version.read_text().replace(demo_bert.__version__, "0.0.1"))
    keys = three.keys_of(second).read_text()
    three.keys_of(second).write_text("")
    three.mount(first, "-t", "tmpfs", "-o", "size=64k", "none", str(three.private))
    three.mount(third, "--bind", str(other), str(version))
    run = three.private / "run"
    try:
        argv = [*MRPC, *SMALL, "-o", str(run), "-v", "1"]
        _, err = finished(three.start(argv, cwd=tmp_path), code=1)
    finally:
        three.keys_of(second).write_text(keys)
        three.unmount(first, str(three.private))
        three.unmount(third, str(version))
    lines = err.splitlines()
    assert lines[-1] == (
        "demo_bert: error: 3 of 3 hosts cannot be used (above); nothing was started"
    )
    told = {
        host: next(line for line in lines if line.startswith(f"warning: {host}: "))
        for host in three.addresses
    }
    assert "GB of disk free" in told[first]
    assert f"ssh-copy-id {second}" in told[second]
    assert "demo_bert 0.0.1 there" in told[third]
    assert not run.exists()


def test_a_host_whose_key_has_changed_is_named_with_its_mend(
    three: Cluster, tmp_path: Path
) -> None:
    second = three.addresses[1]
    known = three.directory / "known_hosts"
    before = known.read_text()
    old = " ".join((three.directory / "hostkey.pub").read_text().split()[:2])
    new = " ".join((three.directory / "id.pub").read_text().split()[:2])
    lines = [
        line.replace(old, new) if f"[{second}]" in line else line for line in before.splitlines()
    ]
    known.write_text("\n".join(lines) + "\n")
    run = three.private / "changed"
    try:
        argv = [*MRPC, *SMALL, "-o", str(run), "-v", "1"]
        _, err = finished(three.start(argv, cwd=tmp_path), code=1)
    finally:
        known.write_text(before)
    (line,) = [line for line in err.splitlines() if second in line]
    assert line.startswith(f"warning: {second}: its key is not the one that is known here")
    assert f"`ssh-keygen -R '[{second}]:{PORT}'`, then `ssh {second}` once by hand" in line
    assert err.splitlines()[-1].endswith("1 of 3 hosts cannot be used (above); nothing was started")
    for address in three.addresses:
        assert not (three.of(address) / "changed").exists()
        assert not [*three.of(address).glob(".demo_bert*")], "what the look left is still there"


def test_doctor_looks_at_every_host_and_measures_the_network(
    three: Cluster, tmp_path: Path
) -> None:
    argv = ["doctor", "--device", "cpu"]
    out, _ = finished(three.start(argv, cwd=tmp_path))
    for number, address in enumerate(three.addresses, start=1):
        row = next(line for line in out.splitlines() if line.startswith(address))
        assert f"node{number}" in row and f"eth0 {address}" in row
    assert "no problems on 3 hosts" in out
    assert "all-reduce of 16 MiB over 3 workers: " in out


def test_hosts_make_the_store_that_one_worker_makes_where_all_see_its_place(
    three: Cluster, program: Program, tmp_path: Path
) -> None:
    sources = [f"--books={write_books(tmp_path / str(n), 2 + n)}" for n in range(4)]
    assert program.call("prepare", *sources, "-o", str(tmp_path / "one"), "-v", "1").code == 0
    hosts = three.addresses[:2]
    before = set(three.of(hosts[0]).iterdir())
    argv = ["prepare", *sources, "-v", "1", "-o"]
    out, err = finished(three.start([*argv, str(tmp_path / "two")], cwd=tmp_path, hosts=hosts))
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")
    assert "two: 5 documents" in out and "workers: 2" in err and "[rank 1, " not in err
    # A place of each host's own is refused, and so is a source that one of them does not have.
    own = str(three.private / "store")
    _, err = finished(three.start([*argv, own], cwd=tmp_path, hosts=hosts), code=2)
    last = err.splitlines()[-1]
    assert f"{hosts[0]} writes beside it is not seen by {hosts[1]}; give a place on" in last
    write_books(three.here / "books", 1)
    argv = ["prepare", "--books", str(three.private / "books"), "-v", "1", "-o"]
    _, err = finished(three.start([*argv, str(tmp_path / "three")], cwd=tmp_path, hosts=hosts), 1)
    assert f"{hosts[1]}: {three.private / 'books'} is not there: all hosts must see" in err
    assert not (tmp_path / "three").exists()
    assert set(three.of(hosts[0]).iterdir()) == before


@pytest.mark.drill
def test_a_store_made_on_hosts_outlives_a_killed_worker_and_a_stop(
    three: Cluster, program: Program, tmp_path: Path
) -> None:
    sources = []
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(prose(number, 900))
        sources += ["--text", str(tmp_path / f"{number}.txt")]
    assert program.call("prepare", *sources, "-o", str(tmp_path / "one"), "-v", "1").code == 0
    hosts, store = three.addresses[:2], tmp_path / "two"
    argv = ["prepare", *sources, "-v", "1", "-o", str(store)]
    process = three.start(argv, cwd=tmp_path, hosts=hosts)
    try:
        read_until(process, "of 148 kB")
        three.kill(hosts[1], "rank 1")
        lines = read_until(process, "starting again (1 of 3)")
        read_until(process, "goes on with the unfinished store")
        signalled(process, signal.SIGTERM)
        _, rest = finished(process, code=75)
    finally:
        process.kill()
    assert f"rank 1 on {hosts[1]}: killed by SIGKILL" in "".join(lines)
    assert rest.count("stopped (SIGTERM); what is finished is kept") == 1
    finished(three.start(argv, cwd=tmp_path, hosts=hosts))
    assert files_of(store) == files_of(tmp_path / "one")


def test_a_worker_that_is_killed_costs_the_steps_since_the_last_checkpoint(
    three: Cluster, tmp_path: Path
) -> None:
    run = three.private / "killed"
    options = ("-i", "400", "--save-every", "5", "--eval-every", "1000", "-v", "1", "--new")
    process = three.start([*MRPC, *SMALL, *options, "-o", str(run)], cwd=tmp_path)
    try:
        lines = read_until(process, "saved checkpoints/step-10")
        three.kill(three.addresses[1], "rank 1")
        killed = time.monotonic()
        lines += read_until(process, "killed by SIGKILL")
        noticed = time.monotonic() - killed
        lines += read_until(process, "going on after step")
        signalled(process, signal.SIGTERM)
        _, rest = finished(process, code=75)
    finally:
        process.kill()
    assert noticed < 30
    assert f"rank 1 on {three.addresses[1]}: killed by SIGKILL after step" in "".join(lines)
    assert "starting again (1 of 3)" in "".join(lines)
    # It may have heard of it from another worker first.
    said = re.findall(r"stopped by (?:SIGTERM|a stop request to another worker) after step", rest)
    assert len(said) == 1, "not the first worker alone said it"
    here = three.here / "killed"
    results = read_json(here / "results.json")
    assert results["status"] == "stopped"
    newest = {
        (three.of(a) / "killed" / "checkpoints" / "newest").read_text() for a in three.addresses[:2]
    }
    assert newest == {f"step-{results['steps']}\n"}, "no second host has the last checkpoint"
    first, second, third = (three.of(address) / "killed" for address in three.addresses)
    for directory in (second, third):
        assert read_json(directory / "run.json") == read_json(first / "run.json")
    steps = range(1, results["steps"] + 1)
    kept, all_of_it = losses(second), losses(first)
    assert [kept[s] for s in steps] == [all_of_it[s] for s in steps], "nor the events before it"
    faults = events(here, "fault")
    assert [fault["kind"] for fault in faults] == ["lost_workers"]
    for address in three.addresses:
        assert three.processes(address) == {}
