"""How recordings are asked of torch's CUDA interface; on a GPU, that they replay what is plain."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from demo_bert.data.capacity import capacities, fill, inert_batches
from demo_bert.data.packing import Example, pack
from demo_bert.hardware.backend import Dtype
from demo_bert.hardware.cuda import CudaBackend
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.heads import SequenceClassifier
from demo_bert.replay import ReplayedSteps
from demo_bert.tasks import load_task
from demo_bert.training import divided_losses


class Calls:
    """Stands for `torch.cuda`: notes what is asked of it, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.noted: list[str] = []
        self.mode = "default"
        self.states: list[Any] = []
        usual, side = self.stream("usual"), self.stream("side")
        generator = SimpleNamespace(graphsafe_set_state=self.states.append)
        for name, stand_in in {
            "current_stream": lambda index: usual,
            "Stream": lambda index: side,
            "graph_pool_handle": lambda: "pool",
            "stream": lambda stream: self.within(f"on {stream.name}"),
            "set_stream": lambda stream: self.noted.append(f"set {stream.name}"),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.noted.append("replay")),
            "graph": self.graph,
            "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": lambda mode: self.noted.append(f"waits {mode}"),
            "default_generators": (generator,),
        }.items():
            patch.setattr(torch.cuda, name, stand_in)
        fresh = SimpleNamespace(graphsafe_get_state=lambda: "fresh")
        patch.setattr(torch, "Generator", lambda device: fresh)

    def stream(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            wait_stream=lambda other: self.noted.append(f"{name} waits for {other.name}"),
        )

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        self.noted.append(name)
        yield
        self.noted.append(f"end {name}")

    def graph(self, graph: Any, **options: Any) -> Any:
        assert hasattr(graph, "replay")
        assert options.pop("stream").name == "side"
        assert options == {"pool": "pool", "capture_error_mode": "thread_local"}
        return self.within("record")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_each_work_is_warmed_up_and_recorded_on_one_side_stream(calls: Calls) -> None:
    works = [lambda: calls.noted.append("one"), lambda: calls.noted.append("two")]
    replays = CudaBackend().capture(works)
    parts: list[str] = []
    for name in ("one", "two"):
        warm_up = ["on side", name, name, "waits error", name, "waits 0", "end on side"]
        parts += ["side waits for usual", *warm_up, "record", name, "end record"]
    assert calls.noted == [*parts, "set usual", "usual waits for side"]
    assert len(replays) == 2
    assert not calls.states
    replays[1]()
    assert calls.noted[-1] == "replay"


@pytest.mark.parametrize("at", [2, 4])
def test_after_a_failure_the_device_is_as_before(calls: Calls, at: int) -> None:
    def broken() -> None:
        calls.noted.append("work")
        if calls.noted.count("work") == at:
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        CudaBackend().capture([broken])
    assert calls.noted[-2:] == ["set usual", "usual waits for side"]
    assert calls.states == ["fresh"]
    assert calls.noted.count("waits error") == calls.noted.count("waits 0")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_on_a_real_gpu_replays_are_the_plain_micro_steps(dtype: Dtype, dropout: float) -> None:
    backend = CudaBackend()
    backend.prepare()
    config = replace(
        BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2),
        intermediate_size=512,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model = SequenceClassifier(config, 2)
    initialise(model, initializer_range=0.02, seed=1)
    model.to(backend.device()).train()
    loss_sum = load_task("classification").loss_sum

    def losses_of(batch: Any, counts: torch.Tensor) -> torch.Tensor:
        return divided_losses(model, batch, counts, loss_sum=loss_sum, dtype=dtype, backend=backend)

    sizes = capacities(8, 64, count=3)
    steps = ReplayedSteps(
        inert_batches(sizes, max_seq_length=64),
        parameters=dict(model.named_parameters()),
        losses_of=losses_of,
        num_parts=1,
        backend=backend,
    )
    draw = np.random.default_rng(1)
    rows = [Example(draw.integers(1, 30000, 40), 20, number % 2) for number in range(8)]
    real = [fill(pack(rows[:count]), sizes, max_seq_length=64) for count in (2, 5, 8)]
    assert steps.difference(real, dtype) is None
    seed, counts = 3, torch.ones(1, device=backend.device())
    losses: list[float] = []
    for each in (seed, seed, seed + 1):
        backend.seed(each)
        losses.append(float(steps(real[0], counts, lambda part: None)))
    assert losses[0] == losses[1]
    assert (losses[1] != losses[2]) is (dropout > 0.0)
