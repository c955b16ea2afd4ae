"""--compile is obeyed, and by itself compiles only where it pays."""

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from demo_bert.commands.device_model import compile_as_asked
from demo_bert.errors import UsageError


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
