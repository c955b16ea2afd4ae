"""Dropout, residual and norm in one are the three one after the other."""

import pytest
import torch

from demo_bert.model.residual import ResidualNorm


def _norm(seed: int) -> ResidualNorm:
    torch.manual_seed(seed)
    norm = ResidualNorm(24, eps=1e-12)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def test_without_dropout_values_and_gradients_are_those_of_torch() -> None:
    norm = _norm(0)
    hidden, update = torch.randn(2, 11, 24).unbind(0)
    grad = torch.randn(11, 24)
    results = []
    for run in (norm.add, lambda a, b, p: norm(a + b)):
        inputs = [part.clone().requires_grad_() for part in (hidden, update)]
        norm.zero_grad()
        output = run(*inputs, 0.0)
        output.backward(grad)
        results.append([output, *(i.grad for i in inputs), norm.weight.grad, norm.bias.grad])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_through_dropout_are_those_of_finite_differences() -> None:
    norm = _norm(1).double()
    hidden, update = (part.requires_grad_() for part in torch.randn(2, 5, 24).double().unbind(0))

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return norm.add(inputs[0], inputs[1], 0.3)

    assert torch.autograd.gradcheck(run, (hidden, update, norm.weight, norm.bias))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_in_bfloat16_it_is_the_float32_result_rounded(dropout: float) -> None:
    norm = _norm(2)
    hidden, update = torch.randn(2, 40, 24).bfloat16().unbind(0)
    torch.manual_seed(9)
    narrow = norm.add(hidden, update, dropout)
    assert narrow.dtype == torch.bfloat16
    torch.manual_seed(9)
    wide = norm.add(hidden.float(), update.float(), dropout)
    torch.testing.assert_close(narrow.float(), wide, rtol=2e-2, atol=3e-2)
