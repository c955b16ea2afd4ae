"""Rounded products are those of a bfloat16 unit with float32 sums."""

import torch

from demo_bert.model.linear import Linear, round_products


def test_rounded_products_are_exact_products_of_rounded_operands() -> None:
    torch.manual_seed(0)
    layer = Linear(16, 5)
    round_products(torch.nn.Sequential(layer), True)
    inputs = torch.randn(7, 16, requires_grad=True)
    grad = torch.randn(7, 5)
    output = layer(inputs)
    output.backward(grad)
    narrow = inputs.detach().bfloat16().double()
    weight = layer.weight.detach().bfloat16().double()
    rounded_grad = grad.bfloat16().double()
    expected = narrow @ weight.T + layer.bias.detach().double()
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs.grad.double(), rounded_grad @ weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        layer.weight.grad.double(), rounded_grad.T @ narrow, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(layer.bias.grad, grad.sum(0), rtol=0, atol=1e-5)


def test_unrounded_is_plain_float32_and_differs() -> None:
    torch.manual_seed(0)
    layer = Linear(16, 5)
    inputs = torch.randn(7, 16)
    plain = layer(inputs)
    assert torch.equal(plain, torch.nn.functional.linear(inputs, layer.weight, layer.bias))
    round_products(layer, True)
    assert not torch.equal(layer(inputs), plain)
    round_products(layer, False)
    assert torch.equal(layer(inputs), plain)
