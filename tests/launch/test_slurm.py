"""Started by a real SLURM on three namespaces, and by torchrun and mpirun, it joins as a worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import slurm as slurms
from launch.cluster import MRPC, SMALL, Cluster, finished, why_not
from small_run import ENVIRONMENT, read_json

REASON = why_not() or slurms.why_not()
pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(REASON is not None, reason=f"NOT RUN: SLURM: {REASON}"),
]
PROGRAM = (sys.executable, "-m", "demo_bert")


def test_srun_starts_workers_that_meet_and_scancel_lets_them_save(
    three: Cluster, tmp_path: Path
) -> None:
    with slurms.slurm(three, tmp_path / "slurm") as made:
        run = tmp_path / "srun"
        argv = [*PROGRAM, *MRPC, *SMALL, "-o", str(run)]
        started = ["srun", "-N", "3", "--ntasks-per-node=1", "--cpu-bind=none", *argv]
        finished(made.start(started, cwd=tmp_path, environment=dict(ENVIRONMENT)))
        results = read_json(run / "results.json")
        assert (results["status"], results["world_size"]) == ("complete", 3)

        # The script of docs/cluster.md, and a job that is cancelled.
        run = tmp_path / "sbatch"
        script = tmp_path / "job.sh"
        command = " ".join([*PROGRAM, *MRPC, *SMALL, "-i", "5000", "-o", str(run)])
        script.write_text(
            "#!/bin/bash\n#SBATCH --nodes=3\n#SBATCH --ntasks-per-node=1\n"
            f"#SBATCH --output={tmp_path}/out\nexport PATH={os.environ['PATH']}\n"
            f"exec srun --kill-on-bad-exit=0 {command}\n"
        )
        queued = made.start(
            ["sbatch", "--wait", str(script)], cwd=tmp_path, environment=dict(ENVIRONMENT)
        )
        _wait_for(tmp_path / "out", "step    5/5000")
        made.run("scancel", "--name=job.sh")
        queued.communicate(timeout=90)
        said = _wait_for(tmp_path / "out", "it goes on with")
        assert "stopped by SIGTERM after step" in said
        assert read_json(run / "results.json")["status"] == "stopped"


def test_mpirun_and_torchrun_start_workers_that_meet(tmp_path: Path) -> None:
    starts = {
        "mpirun": ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", *PROGRAM],
        "torchrun": [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "demo_bert"),
        ],
    }
    for name, start in starts.items():
        run = tmp_path / name
        process = subprocess.Popen(
            [*start, *MRPC, *SMALL, "-o", str(run)],
            env=ENVIRONMENT,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        finished(process)
        results = read_json(run / "results.json")
        assert (results["status"], results["world_size"]) == ("complete", 2), name


def _wait_for(path: Path, text: str) -> str:
    """What a file holds once it has the text."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and text in (found := path.read_text()):
            return found
        time.sleep(0.2)
    raise AssertionError(path.read_text() if path.exists() else "no output")
