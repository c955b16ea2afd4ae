"""Rounded products are those of a bfloat16 unit; narrow copies follow their masters."""

import pytest
import torch

from demo_bert.model.linear import Linear, round_products
from demo_bert.model.narrow_weight import can_pack, each_row_counts
from demo_bert.optim import OPTIMIZERS, make_optimizer


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


def test_in_bfloat16_on_a_cpu_products_are_narrow_and_gradients_wide() -> None:
    torch.manual_seed(0)
    layer = Linear(16, 5)
    inputs = torch.randn(7, 16, requires_grad=True)
    grad = torch.randn(7, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(inputs)
    output.backward(grad)
    assert output.dtype == torch.bfloat16
    narrow, weight = inputs.detach().bfloat16().double(), layer.weight.detach().bfloat16().double()
    expected = narrow @ weight.T + layer.bias.detach().double()
    torch.testing.assert_close(output.double(), expected, rtol=1e-2, atol=1e-2)
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == torch.float32
    wide_grad = grad.double()
    torch.testing.assert_close(
        layer.weight.grad.double(), wide_grad.T @ narrow, rtol=1e-2, atol=5e-2
    )
    torch.testing.assert_close(layer.bias.grad.double(), wide_grad.sum(0), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(inputs.grad.double(), wide_grad @ weight, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "plain write", "other storage"])
def test_the_narrow_copy_follows_every_change_of_the_master(name: str) -> None:
    torch.manual_seed(0)
    layer = Linear(16, 5)
    inputs = torch.randn(7, 16)

    def narrow() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return layer(inputs)

    narrow().sum().backward()
    copy = layer._narrow
    assert torch.equal(narrow(), narrow())
    assert layer._narrow is copy
    if name == "plain write":
        with torch.no_grad():
            layer.weight.copy_(torch.randn(5, 16))
    elif name == "other storage":
        layer.weight.data = torch.randn(5, 16)
    else:
        make_optimizer(name, dict(layer.named_parameters()), weight_decay=0.0).step(
            0.1, 0, norm=1.0
        )
    expected = torch.nn.functional.linear(
        inputs.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16()
    )
    assert torch.equal(narrow(), expected)
    assert "_narrow" not in layer.state_dict()


def test_a_narrow_copy_that_an_evaluation_made_serves_training() -> None:
    layer = Linear(16, 5)
    inputs = torch.randn(7, 16)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            layer(inputs)
        copy = layer._narrow
        layer(inputs).sum().backward()
    assert layer._narrow is copy
    assert layer.weight.grad is not None


def test_weights_laid_out_for_many_rows_give_the_same_products() -> None:
    if not can_pack():
        pytest.skip("this CPU or torch multiplies plain weights")
    torch.manual_seed(0)
    layer = Linear(80, 96)
    inputs = torch.randn(512, 80, requires_grad=True)
    grad = torch.randn(512, 96).bfloat16()
    found = []
    for kept in (layer, _plain(layer)):
        inputs.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            output = kept(inputs)
        output.backward(grad)
        found.append((output, inputs.grad, kept.weight.grad, kept.bias.grad))
    narrow = layer._narrow
    assert narrow is not None
    assert narrow._packed is not None
    for packed, plain in zip(*found, strict=True):
        torch.testing.assert_close(packed, plain, rtol=1e-2, atol=1e-2)


def test_few_rows_and_narrow_layers_keep_the_plain_weight() -> None:
    for outputs, num_rows in ((96, 100), (2, 2048)):
        layer = Linear(80, outputs)
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.randn(num_rows, 80)).sum().backward()
        assert layer._narrow is not None
        assert layer._narrow._packed is None


def test_a_few_rows_that_stand_for_many_are_multiplied_as_those() -> None:
    if not can_pack():
        pytest.skip("this CPU or torch multiplies plain weights")
    layer = Linear(80, 96)
    with each_row_counts(30.0), torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(70, 80))
    assert layer._narrow is not None
    assert layer._narrow._packed is not None


def _plain(layer: Linear) -> Linear:
    """The same layer, whose weight is never laid out."""
    copy = Linear(layer.in_features, layer.out_features)
    copy.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        copy(torch.zeros(1, layer.in_features))
    assert copy._narrow is not None
    copy._narrow._can_pack = False
    return copy
