"""LAMB against plain scalar arithmetic in double precision, and against numbers made by hand."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from demo_bert.optim import make_optimizer
from demo_bert.optim.lamb import Lamb

NUM_STEPS = 20
RATES = [6e-3 * (1 - step / 40) for step in range(NUM_STEPS)]
SHAPES = {"a.weight": (3, 4), "a.bias": (4,), "norm.weight": (4,), "embeddings.word": (5, 2)}
DECAYING = ("a.weight", "embeddings.word")
FORMS = {
    "lamb": {"max_norm": 1.0, "ratio": DECAYING, "decay": DECAYING},
    "nvlamb": {"max_norm": 1.0, "ratio": tuple(SHAPES), "decay": DECAYING},
    "lamb-paper": {"max_norm": math.inf, "ratio": tuple(SHAPES), "decay": tuple(SHAPES)},
}


def drawn(seed: int = 0) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """First weights, and the gradients of each step: some global norms above 1, some below."""
    generator = torch.Generator().manual_seed(seed)
    weights = {n: torch.randn(shape, generator=generator) for n, shape in SHAPES.items()}
    gradients = [
        {
            name: torch.randn(shape, generator=generator) * (0.03 if step % 3 else 3.0)
            for name, shape in SHAPES.items()
        }
        for step in range(NUM_STEPS)
    ]
    return weights, gradients


def by_hand(
    weights: Mapping[str, Tensor],
    gradients: list[dict[str, Tensor]],
    *,
    max_norm: float,
    ratio: tuple[str, ...],
    decay: tuple[str, ...],
) -> dict[str, list[float]]:
    """The published update, one number after the other, in double precision."""
    values = {name: [float(x) for x in tensor.flatten()] for name, tensor in weights.items()}
    first = {name: [0.0] * len(values[name]) for name in values}
    second = {name: [0.0] * len(values[name]) for name in values}
    for step, (given, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        flat = {name: [float(x) for x in tensor.flatten()] for name, tensor in given.items()}
        norm = math.sqrt(sum(g * g for each in flat.values() for g in each))
        shrink = max(1.0, norm / max_norm)
        for name, each in values.items():
            direction: list[float] = []
            for place, weight in enumerate(each):
                g = flat[name][place] / shrink
                first[name][place] = 0.9 * first[name][place] + 0.1 * g
                second[name][place] = 0.999 * second[name][place] + 0.001 * g * g
                m = first[name][place] / (1 - 0.9**step)
                v = second[name][place] / (1 - 0.999**step)
                wanted = m / (math.sqrt(v) + 1e-6)
                direction.append(wanted + (0.01 * weight if name in decay else 0.0))
            size = math.sqrt(sum(w * w for w in each))
            length = math.sqrt(sum(d * d for d in direction))
            trust = size / length if name in ratio and size and length else 1.0
            values[name] = [w - rate * trust * d for w, d in zip(each, direction, strict=True)]
    return values


def norm_of(parameters: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((p.grad**2).sum()) for p in parameters.values()))  # type: ignore


def trained(optimizer_of: object, seed: int = 0) -> dict[str, Tensor]:
    weights, gradients = drawn(seed)
    parameters = {name: nn.Parameter(tensor.clone()) for name, tensor in weights.items()}
    optimizer = optimizer_of(parameters)  # type: ignore[operator]
    for step, rate in enumerate(RATES):
        for name, parameter in parameters.items():
            parameter.grad = gradients[step][name].clone()
        optimizer.step(rate, step, norm=norm_of(parameters))
    return {name: parameter.detach() for name, parameter in parameters.items()}


@pytest.mark.parametrize("form", FORMS)
def test_twenty_float32_steps_are_within_1e_6_of_double_precision(form: str) -> None:
    found = trained(lambda p: make_optimizer(form, p, weight_decay=0.01))
    expected = by_hand(*drawn(), **FORMS[form])  # type: ignore[arg-type]
    for name, tensor in found.items():
        wanted = torch.tensor(expected[name], dtype=torch.float64).view(SHAPES[name])
        error = (tensor.double() - wanted).norm() / wanted.norm()
        assert error <= 1e-6, name


def test_the_forms_differ_from_each_other() -> None:
    found = [trained(lambda p, f=form: make_optimizer(f, p, weight_decay=0.01)) for form in FORMS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(found[one]["a.bias"], found[other]["a.bias"], rtol=1e-3)


def test_one_step_by_hand() -> None:
    # The global norm is 10, so gradients become 0.6 and 0.8; after the first step Adam's direction
    # is the sign, (1, 1) less what eps takes; decay 0.1 adds (0.3, 0.4): (1.3, 1.4), length
    # 1.9105; the weights' norm is 5, so the ratio is 2.6171; at a rate of 0.1 the weights go down
    # by (0.34023, 0.36640).
    parameter = nn.Parameter(torch.tensor([3.0, 4.0]))
    parameter.grad = torch.tensor([6.0, 8.0])
    Lamb({"w": parameter}, weight_decay=0.1).step(0.1, 0, norm=10.0)
    assert parameter.tolist() == pytest.approx([3 - 0.34023, 4 - 0.36640], abs=2e-5)


def test_a_small_global_norm_is_left_alone() -> None:
    parameters = {name: nn.Parameter(torch.ones(1)) for name in ("a", "b")}
    parameters["a"].grad, parameters["b"].grad = torch.tensor([0.3]), torch.tensor([0.4])
    optimizer = Lamb(parameters)
    optimizer.step(0.0, 0, norm=0.5)
    assert optimizer.state["exp_avg.a"].item() == pytest.approx(0.03)
    assert optimizer.state["exp_avg.b"].item() == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("weight", "gradient", "expected"),
    [(0.0, 0.5, -0.1), (2.0, 0.0, 2.0), (0.0, 0.0, 0.0)],
    ids=["zero weights", "zero gradient", "both"],
)
def test_a_norm_of_zero_makes_a_ratio_of_one(
    weight: float, gradient: float, expected: float
) -> None:
    parameter = nn.Parameter(torch.tensor([weight]))
    parameter.grad = torch.tensor([gradient])
    Lamb({"w": parameter}, weight_decay=0.0).step(0.1, 0, norm=abs(gradient))
    assert parameter.item() == pytest.approx(expected, abs=1e-6)


def test_the_plain_form_does_what_the_fused_kernel_does(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = trained(Lamb)
    monkeypatch.setattr("demo_bert.optim.kernel._FUSED", ())
    plain = trained(Lamb)
    for name, tensor in fused.items():
        torch.testing.assert_close(plain[name], tensor, rtol=1e-6, atol=1e-6)


def test_tensors_together_are_tensors_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(Lamb)
    monkeypatch.setattr(Tensor, "is_cpu", False)  # few large kernels, as on other devices
    together = trained(Lamb)
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradient_stays_as_it_is() -> None:
    parameters = {"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.ones(2))}
    optimizer = Lamb(parameters)
    optimizer.step(0.1, 0, norm=0.0)
    parameters["a"].grad = torch.ones(2)
    optimizer.step(0.1, 0, norm=2**0.5)
    assert parameters["b"].tolist() == [1, 1]
    assert optimizer.state["exp_avg.b"].tolist() == [0, 0]
    assert parameters["a"][0] < 1


def test_the_step_count_can_start_anew_with_the_moments_kept() -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = Lamb({"a.bias": parameter}, max_norm=None)
    parameter.grad = torch.ones(1)
    for step in (0, 1):
        optimizer.step(0.0, step, norm=1.0)
    parameter.grad = torch.zeros(1)
    optimizer.step(1.0, 0, norm=0.0)
    # m = 0.9 * 0.19 and v = 0.999 * 0.001999, corrected as after a first step.
    expected = (0.171 / 0.1) / math.sqrt(0.999 * 0.001999 / 0.001)
    assert 1 - parameter.item() == pytest.approx(expected, rel=1e-4)


def test_query_key_and_value_have_a_trust_ratio_each() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 2, generator=generator) * size for size in (0.1, 1.0, 10.0)]
    gradient = torch.randn(6, 2, generator=generator)
    whole = nn.Parameter(torch.cat(parts))
    whole.grad = gradient.clone()
    norm = float(gradient.norm())
    Lamb({"attention.qkv.weight": whole}).step(0.1, 0, norm=norm)
    apart = {name: nn.Parameter(part) for name, part in zip("qkv", parts, strict=True)}
    for parameter, part in zip(apart.values(), gradient.chunk(3), strict=True):
        parameter.grad = part.clone()
    Lamb(apart).step(0.1, 0, norm=norm)
    torch.testing.assert_close(whole.detach(), torch.cat([p.detach() for p in apart.values()]))
