"""Hosts, agents and networks that fail in the middle of a run: what is lost, and how soon told."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch.cluster import MRPC, SMALL, Cluster, cluster, finished, read_until, signalled, why_not
from small_run import Program, events, losses, read_json

REASON = why_not()
pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(REASON is not None, reason=f"NOT RUN: several hosts: {REASON}"),
]

LONG = ("-i", "300", "--save-every", "5", "--eval-every", "10000", "-v", "1")


@contextmanager
def at_work(
    three: Cluster, run: Path, cwd: Path, *options: str
) -> Iterator["subprocess.Popen[str]"]:
    """A run on three hosts; nothing of it is left afterwards."""
    process = three.start([*MRPC, *SMALL, *LONG, *options, "-o", str(run)], cwd=cwd)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: "subprocess.Popen[str]", three: Cluster) -> str:
    """Asks a run to stop; it saves, and leaves nothing on any host."""
    signalled(process, signal.SIGTERM)
    _, rest = finished(process, code=75)
    for address in three.inits:
        assert three.processes(address) == {}
    return rest


def timed(process: "subprocess.Popen[str]", text: str, since: float) -> tuple[float, str]:
    """Seconds until a line came, and all lines up to it."""
    lines = read_until(process, text)
    return time.monotonic() - since, "".join(lines)


def told(record: dict[str, float], what: str, seconds: float) -> None:
    """Keeps a figure, and shows it with -s."""
    record[what] = round(seconds, 1)
    print(f"{what}: {seconds:.1f} s")


def test_an_agent_that_is_killed_takes_its_workers_along_and_the_run_goes_on(
    three: Cluster, tmp_path: Path
) -> None:
    with at_work(three, three.private / "agent", tmp_path) as process:
        read_until(process, "saved checkpoints/step-5")
        began = time.monotonic()
        three.kill(three.addresses[2], "agent")
        seconds, _ = timed(process, "warning: starting again (1 of 3)", began)
        told({}, "an agent killed: noticed and swept", seconds)
        assert seconds < 30
        seconds, _ = timed(process, "going on after step", began)
        told({}, "an agent killed: going on", seconds)
        stop(process, three)


def test_a_link_that_is_cut_for_5_s_costs_5_s(three: Cluster, tmp_path: Path) -> None:
    with at_work(three, three.private / "flap", tmp_path) as process:
        read_until(process, "step   6/300")
        three.link(three.addresses[1], "down")
        began = time.monotonic()
        time.sleep(5.0)
        three.link(three.addresses[1], "up")
        seconds, lines = timed(process, "step  20/300", began)
        told({}, "a link cut for 5 s: 14 further steps after", seconds)
        assert "starting again" not in lines and "does not answer" not in lines
        stop(process, three)


def test_the_host_of_rank_0_is_lost_for_good_and_the_others_go_on_without_it(
    three: Cluster, tmp_path: Path
) -> None:
    run = three.private / "gone"
    first = three.addresses[0]
    with at_work(three, run, tmp_path, "--min-hosts", "2", "-i", "24") as process:
        read_until(process, "saved checkpoints/step-10")
        began = time.monotonic()
        three.link(first, "down")
        try:
            seconds, _ = timed(process, f"{first}: does not answer any more", began)
            told({}, "rank 0's host cut off: noticed", seconds)
            assert seconds < 30
            seconds, lines = timed(process, "going on after step", began)
            told({}, "rank 0's host cut off: going on with two hosts", seconds)
            assert "going on with 2 of 3 hosts" in lines
            _, rest = finished(process)
        finally:
            three.link(first, "up")
    here = three.here / "gone"
    results = read_json(here / "results.json")
    assert (results["status"], results["steps"]) == ("complete", 24)
    assert results["hosts"] == three.addresses[1:]
    assert results["global_batch_size"] == 12, "the global batch changed"
    assert f"checkpoints are in {three.addresses[1]}" in rest
    # Nothing is lost: every step is there, and the rows and losses are those of a quiet run.
    quiet = three.private / "quiet"
    argv = [*MRPC, *SMALL, *LONG, "-i", "24", "-o", str(quiet)]
    finished(three.start(argv, cwd=tmp_path))
    lost, other = losses(here), losses(three.here / "quiet")
    assert [*lost] == [*other] == list(range(1, 25))
    for step in lost:
        assert lost[step][0] == pytest.approx(other[step][0], rel=1e-3)
    assert [e["kind"] for e in events(here, "fault")] == ["lost_workers"]
    deadline = time.monotonic() + 60
    while three.processes(first) and time.monotonic() < deadline:
        time.sleep(1.0)
    assert three.processes(first) == {}, "what was cut off runs for ever"


def test_the_host_of_rank_0_is_lost_before_anything_was_saved_and_the_others_start_over(
    three: Cluster, tmp_path: Path
) -> None:
    first, second, _ = three.addresses
    options = ("--min-hosts", "2", "-i", "12", "--save-every", "1000")
    with at_work(three, three.private / "early", tmp_path, *options) as process:
        read_until(process, "step  3/12")
        assert (three.of(second) / "early" / "run.json").exists()
        three.link(first, "down")
        try:
            lines = "".join(read_until(process, "it starts over from the starting weights"))
            assert "going on with 2 of 3 hosts" in lines
            finished(process)
        finally:
            three.link(first, "up")
    here = three.here / "early"
    results = read_json(here / "results.json")
    assert (results["status"], results["steps"]) == ("complete", 12)
    assert (results["hosts"], results["global_batch_size"]) == (three.addresses[1:], 12)
    assert [*losses(here)] == list(range(1, 13))
    # The host that comes back takes part again, with the run that the others went on with.
    argv = [*MRPC, *SMALL, *LONG, *options, "-i", "14", "-o", str(three.private / "early")]
    _, err = finished(three.start(argv, cwd=tmp_path))
    assert "going on after step 12" in err, err
    assert f"{first}: ranks 2 to 2" in err, err
    assert [*losses(here)] == list(range(1, 15))


def test_a_worker_that_hangs_ends_the_run_with_its_name(three: Cluster, tmp_path: Path) -> None:
    with at_work(three, three.private / "hang", tmp_path, "--timeout", "10s") as process:
        read_until(process, "saved checkpoints/step-5")
        began = time.monotonic()
        three.kill(three.addresses[2], "rank 2", signal.SIGSTOP)
        _, err = finished(process, code=1)
        told({}, "a worker stopped, --timeout 10s: the run ended", time.monotonic() - began)
    wanted = f"rank 2 on {three.addresses[2]}: did not answer for 10 s; last step "
    assert wanted in err
    for address in three.addresses:
        assert three.processes(address) == {}


def test_a_disk_that_fills_costs_a_checkpoint_and_not_the_run(
    three: Cluster, tmp_path: Path
) -> None:
    first = three.addresses[0]
    three.mount(first, "-t", "tmpfs", "-o", "size=230m", "none", str(three.private))
    filler = three.private / "filler"
    try:
        with at_work(three, three.private / "full", tmp_path) as process:
            read_until(process, "saved checkpoints/step-5")
            fill = f"head -c 200000000 /dev/zero > {filler}; true"
            subprocess.run(three.command(["sh", "-c", fill], where=first), check=True, stderr=-3)
            lines = read_until(process, "training goes on and tries again")
            assert "No space left on device" in lines[-1]
            subprocess.run(three.command(["rm", str(filler)], where=first), check=True)
            read_until(process, "saved checkpoints/step-")
            stop(process, three)
    finally:
        three.unmount(first, str(three.private))


def test_a_mistake_of_the_user_is_exit_code_2_through_mpirun(
    three: Cluster, tmp_path: Path
) -> None:
    argv = [*MRPC, *SMALL, "-s", "4000", "-o", str(three.private / "wrong"), "-v", "1"]
    _, err = finished(three.start(argv, cwd=tmp_path), code=2)
    assert "-s/--max-seq-length 4000: the model takes at most 512 tokens" in err
    assert not (three.here / "wrong").exists()


def test_sixteen_hosts_are_looked_at_in_less_than_30_s(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with cluster(tmp_path_factory.mktemp("sixteen"), 16) as many:
        began = time.monotonic()
        three_bad = many.addresses[3], many.addresses[8], many.addresses[15]
        for address in three_bad:
            many.keys_of(address).write_text("")
        out, _ = finished(many.start(["doctor", "--device", "cpu"], cwd=tmp_path), code=1)
        seconds = time.monotonic() - began
        told({}, "16 hosts looked at", seconds)
        assert seconds < 30
        for address in three_bad:
            assert f"ssh-copy-id {address}" in out


def test_hosts_that_lack_data_and_weights_get_those_that_are_here(
    three: Cluster, program: Program, tmp_path: Path
) -> None:
    for name, source in (("model", program.model), ("data", program.data)):
        shutil.copytree(source, three.here / name)
    argv = ["finetuning", "-d", "fp32", "--device", "cpu", "-b", "4", "-s", "24", "-i", "4"]
    argv += ["-m", str(three.private / "model"), "--dataset-path", str(three.private / "data")]
    argv += ["-o", str(three.private / "given"), "-v", "1"]
    _, err = finished(three.start(argv, cwd=tmp_path))
    for address in three.addresses:
        assert f"{address}: has no {three.private / 'data'}; copying it there" in err
        assert (three.of(address) / "model" / "config.json").exists()
    assert read_json(three.here / "given" / "results.json")["status"] == "complete"
    (three.of(three.addresses[1]) / "data" / "train.tsv").write_text("other\n")
    _, err = finished(three.start([*argv, "--new"], cwd=tmp_path), code=1)
    assert f"{three.addresses[1]}: {three.private / 'data'} is not the same as here" in err


def test_the_program_is_put_on_hosts_that_lack_it(three: Cluster, tmp_path: Path) -> None:
    for address in three.addresses:
        # As an earlier installation left it; what is downloaded is not tried here.
        (three.of(address) / "checkout").mkdir()
        (three.of(address) / "checkout" / ".venv").symlink_to(sys.prefix)
    environment = {"DEMO_BERT_REMOTE_DIR": str(three.private / "checkout")}
    argv = ["doctor", "--device", "cpu"]
    out, _ = finished(three.start(argv, cwd=tmp_path, environment=environment), code=1)
    assert out.count("doctor --setup-hosts") == 3
    argv.append("--setup-hosts")
    out, err = finished(three.start(argv, cwd=tmp_path, environment=environment))
    assert "no problems on 3 hosts" in out and "all-reduce of 16 MiB over 3 workers" in out
    for address in three.addresses:
        assert f"{address}: is set up" in err
        assert (three.of(address) / "checkout" / "src" / "demo_bert" / "__init__.py").exists()
