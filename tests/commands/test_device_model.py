"""--compile is obeyed, and by itself compiles, or records graphs, only where it pays."""

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from demo_bert.commands.device_model import compile_as_asked, is_recorded
from demo_bert.errors import UsageError
from demo_bert.model.bert import BertConfig
from demo_bert.model.heads import SequenceClassifier


@pytest.mark.parametrize(
    ("choice", "device", "num_steps", "is_compiled"),
    [
        ("auto", "cpu", 10_000, False),
        ("auto", "cuda", 10_000, True),
        ("auto", "cuda", 20, False),
        ("auto", "hpu", 10_000, False),
        ("on", "cpu", 1, True),
        ("on", "cuda", 1, True),
        ("off", "cuda", 10_000, False),
    ],
)
def test_what_is_compiled(
    choice: str, device: str, num_steps: int, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[nn.Module] = []

    def compile_layers(model: nn.Module, autocast: Any) -> None:
        calls.append(model)

    monkeypatch.setattr("demo_bert.model.compiling.compile_layers", compile_layers)
    backend: Any = SimpleNamespace(name=device, autocast=nullcontext)
    model = nn.Linear(1, 1)
    found = compile_as_asked(model, choice, backend=backend, dtype="bf16", num_steps=num_steps)
    assert found is is_compiled
    assert calls == [model] * is_compiled


def test_a_failure_is_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo_bert.model.compiling.compile_layers", lambda *args: "no g++")
    backend: Any = SimpleNamespace(name="cuda", autocast=nullcontext)
    with caplog.at_level(logging.WARNING):
        assert not compile_as_asked(
            nn.Linear(1, 1), "on", backend=backend, dtype="bf16", num_steps=1
        )
    assert [record.getMessage() for record in caplog.records] == [
        "--compile: the model runs uncompiled: no g++"
    ]


def test_on_is_refused_where_no_compiler_is_used() -> None:
    backend: Any = SimpleNamespace(name="hpu", autocast=None)
    with pytest.raises(UsageError, match="--compile on: not used on hpu"):
        compile_as_asked(nn.Linear(1, 1), "on", backend=backend, dtype="bf16", num_steps=1)


def recorded(
    choice: str,
    *,
    hidden_size: int = 16,
    num_steps: int = 1000,
    can_capture: bool = True,
    world_size: int = 1,
    **settings: bool,
) -> bool:
    chosen: Any = SimpleNamespace(
        **({"checkpoint_activations": False, "reproducible": False} | settings), compile=choice
    )
    config = BertConfig(
        vocab_size=9,
        hidden_size=hidden_size,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=2,
        max_position_embeddings=4,
    )
    return is_recorded(
        SequenceClassifier(config, 2),
        chosen,
        can_capture=can_capture,
        world_size=world_size,
        num_steps=num_steps,
    )


def test_small_models_on_one_device_that_can_are_recorded_in_runs_that_are_not_short() -> None:
    assert recorded("auto")
    assert recorded("auto", hidden_size=512)
    assert not recorded("auto", hidden_size=513)
    assert not recorded("auto", num_steps=99)
    assert not recorded("on") and not recorded("off")
    assert recorded("graphs", hidden_size=513, num_steps=1)


@pytest.mark.parametrize(
    ("against", "reason"),
    [
        ({"can_capture": False}, "the device has none"),
        ({"world_size": 2}, "they are for one worker"),
        ({"checkpoint_activations": True}, "not with --checkpoint-activations"),
        ({"reproducible": True}, "not with --reproducible"),
    ],
)
def test_graphs_that_cannot_be_are_refused_where_they_are_asked_for(
    against: dict[str, Any], reason: str
) -> None:
    assert not recorded("auto", **against)
    with pytest.raises(UsageError, match=f"--compile graphs: {reason}; leave it out"):
        recorded("graphs", **against)
