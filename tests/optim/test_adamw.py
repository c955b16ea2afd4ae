"""AdamW against plain scalar arithmetic and against torch's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from demo_bert.errors import UsageError
from demo_bert.optim import OPTIMIZERS, make_optimizer
from demo_bert.optim.adamw import AdamW

NUM_STEPS = 20
RATES = [1e-3 * (1 - step / 40) for step in range(NUM_STEPS)]


def by_hand(
    weight: float, gradients: list[float], *, is_corrected: bool, decay: float, eps: float
) -> float:
    """The published update in double precision, one weight."""
    first = second = 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        m, v = first, second
        if is_corrected:
            m, v = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weight -= rate * (m / (math.sqrt(v) + eps) + decay * weight)
    return weight


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """First weights (6,) and the gradients of each step (20, 6), of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([1e-6, 1e-3, 1.0, 1e3, 0.0, 1.0])
    gradients = torch.randn(NUM_STEPS, 6, generator=generator) * scales
    gradients[3:, 5] = 0.0  # seen for three steps only
    return torch.randn(6, generator=generator), gradients


def trained(optimizer_of: object, name: str, seed: int = 0) -> Tensor:
    weights, gradients = drawn(seed)
    parameter = nn.Parameter(weights.clone())
    optimizer = optimizer_of({name: parameter})  # type: ignore[operator]
    for step, rate in enumerate(RATES):
        parameter.grad = gradients[step].clone()
        optimizer.step(rate, step, norm=1.0)
    return parameter.detach()


@pytest.mark.parametrize(("name", "is_corrected"), [("adamw", True), ("adamw-google", False)])
@pytest.mark.parametrize(("parameter", "decay"), [("a.weight", 0.1), ("a.bias", 0.0)])
def test_twenty_steps_are_those_of_the_formula(
    name: str, is_corrected: bool, parameter: str, decay: float
) -> None:
    found = trained(lambda p: make_optimizer(name, p, weight_decay=0.1), parameter)
    weights, gradients = drawn()
    expected = [
        by_hand(
            float(weights[i]),
            [float(g) for g in gradients[:, i]],
            is_corrected=is_corrected,
            decay=decay,
            eps=1e-6,
        )
        for i in range(len(weights))
    ]
    torch.testing.assert_close(
        found.double(), torch.tensor(expected).double(), rtol=1e-6, atol=1e-6
    )


def test_the_two_forms_differ_where_it_matters() -> None:
    found = [
        trained(lambda p, n=n: make_optimizer(n, p, weight_decay=0.0), "w") for n in OPTIMIZERS
    ]
    assert (found[0] - found[1]).abs().max() > 1e-3


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.3]))
@settings(max_examples=10)
def test_it_equals_torchs_own(seed: int, decay: float) -> None:
    weights, gradients = drawn(seed)
    reference = nn.Parameter(weights.clone())
    torchs = torch.optim.AdamW([reference], betas=(0.9, 0.999), eps=1e-6, weight_decay=decay)
    for step, rate in enumerate(RATES):
        torchs.param_groups[0]["lr"] = rate
        reference.grad = gradients[step].clone()
        torchs.step()
    found = trained(lambda p: AdamW(p, weight_decay=decay), "w", seed)
    torch.testing.assert_close(found, reference.detach(), rtol=2e-6, atol=1e-6)


def test_biases_and_norms_do_not_decay() -> None:
    names = ("bert.layers.0.feed_forward.up.weight", "a.bias", "bert.embeddings.norm.weight")
    parameters = {name: nn.Parameter(torch.ones(2)) for name in names}
    optimizer = AdamW(parameters, weight_decay=0.5)
    for parameter in parameters.values():
        parameter.grad = torch.zeros(2)
    optimizer.step(0.1, 0, norm=1.0)
    assert [parameter[0].item() for parameter in parameters.values()] == pytest.approx([0.95, 1, 1])


def test_a_parameter_without_gradient_stays_as_it_is() -> None:
    parameters = {"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.ones(2))}
    optimizer = AdamW(parameters, weight_decay=0.5)
    parameters["a"].grad = torch.ones(2)
    optimizer.step(0.1, 0, norm=1.0)
    assert parameters["b"].tolist() == [1, 1]
    assert optimizer.state["exp_avg.b"].tolist() == [0, 0]
    assert parameters["a"][0] < 1


def test_the_state_is_all_that_a_new_optimizer_needs() -> None:
    weights, gradients = drawn()
    whole = trained(lambda p: AdamW(p), "w")
    parameter = nn.Parameter(weights.clone())
    first = AdamW({"w": parameter})
    for step in range(7):
        parameter.grad = gradients[step].clone()
        first.step(RATES[step], step, norm=1.0)
    second = AdamW({"w": parameter})
    for name, tensor in first.state.items():
        second.state[name].copy_(tensor)
    for step in range(7, NUM_STEPS):
        parameter.grad = gradients[step].clone()
        second.step(RATES[step], step, norm=1.0)
    assert torch.equal(parameter.detach(), whole)


def test_moments_are_float32_and_named_after_their_weights() -> None:
    optimizer = AdamW({"w": nn.Parameter(torch.ones(2, 3))})
    assert {n: (tuple(t.shape), t.dtype) for n, t in optimizer.state.items()} == {
        "exp_avg.w": ((2, 3), torch.float32),
        "exp_avg_sq.w": ((2, 3), torch.float32),
    }


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="adamv.*adamw"):
        make_optimizer("adamv", {}, weight_decay=0.0)


@pytest.mark.parametrize("name", ["adamw", "lamb", "lamb-paper"])
@pytest.mark.parametrize("fused", [("cpu",), ()], ids=["fused", "plain"])
def test_a_factor_scales_the_gradients_first(
    name: str, fused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo_bert.optim.kernel._FUSED", fused)
    found: list[Tensor] = []
    for factor, scale in ((0.25, 1.0), (1.0, 0.25)):
        parameter = nn.Parameter(torch.arange(1.0, 5.0))
        optimizer = make_optimizer(name, {"w": parameter}, weight_decay=0.1)
        for step in range(3):
            gradient = torch.tensor([0.5, -0.1, 2.0, -(3.0**step)]) * scale
            norm = float(gradient.norm())
            parameter.grad = gradient
            optimizer.step(0.1, step, norm=norm, factor=factor)
        found.append(parameter.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-7)
