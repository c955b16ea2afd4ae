"""Processes that use the hub: its library reads the environment once, at its import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import demo_bert

ASK = Path(__file__).with_name("hub") / "ask.py"
SOURCE = Path(demo_bert.__file__).parents[1]


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return {
        **{k: v for k, v in kept.items() if not k.startswith(("HF_", "DEMO_BERT_", "XDG_"))},
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / "hf"),
        "DEMO_BERT_CACHE": str(home / "own"),
        "PYTHONPATH": str(SOURCE),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def start(endpoint: str, home: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ASK)],
        env=environment(endpoint, home, **more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(actions: list[dict[str, Any]], endpoint: str, home: Path, **more: str) -> Any:
    outcomes, said = start(endpoint, home, **more).communicate(json.dumps(actions), timeout=60)
    assert said == ""
    return json.loads(outcomes)
