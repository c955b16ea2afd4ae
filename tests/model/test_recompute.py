"""Activations that are computed again give the same gradients, dropout too, in less memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from demo_bert.data.packing import Example, pack
from demo_bert.hardware.backend import Dtype
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.bert import initialise, recompute_activations
from demo_bert.model.heads import SequenceClassifier
from demo_bert.tasks import load_task
from small_run import CONFIG

DEEP = replace(CONFIG, num_hidden_layers=3)
DRAWN = np.random.default_rng(2)
BATCH = pack([Example(DRAWN.integers(5, 60, 4 + 3 * n), 3, n % 2) for n in range(6)])


def gradients(does: bool, dtype: Dtype) -> dict[str, torch.Tensor]:
    model = SequenceClassifier(DEEP, 2)
    initialise(model, initializer_range=0.2, seed=3)
    recompute_activations(model, does)
    backend = CpuBackend()
    model.train()
    backend.seed(11)
    with backend.autocast(dtype):
        loss = load_task("classification").loss_sum(model, BATCH)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_gradients_are_the_same_to_the_bit(dtype: Dtype) -> None:
    plain, again = gradients(False, dtype), gradients(True, dtype)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_fewer_tensors_wait_for_the_backward_pass() -> None:
    def waiting(does: bool) -> int:
        model = SequenceClassifier(DEEP, 2)
        initialise(model, initializer_range=0.2, seed=3)
        recompute_activations(model, does)
        model.train()
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            load_task("classification").loss_sum(model, BATCH)
        return sum(sizes.values())

    assert waiting(True) < 0.5 * waiting(False)
