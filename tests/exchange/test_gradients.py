"""When gradients travel, and what is known of them; the other workers are played by the test."""

import math

import pytest
import torch
from torch import Tensor, nn

from demo_bert.distributed import Pending, World
from demo_bert.exchange import sums
from demo_bert.exchange.arena import Arena
from demo_bert.exchange.gradients import Gradients

SIZES = ((40, 3), (7,), (30,), (5, 5))


class Product(nn.Module):
    """The sum of products with each parameter; the last ones come first in a backward."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.ones(size) for size in SIZES)

    def forward(self, factor: float, chosen: tuple[int, ...] = (0, 1, 2, 3)) -> Tensor:
        total = torch.zeros(())
        for number in chosen:
            total = torch.sin(total) + (self.weights[number] * factor * (number + 1)).sum()
        return total


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many numbers each sum had, as they were begun; another worker has the same."""
    found: list[int] = []

    def begin(tensor: Tensor) -> Pending:
        found.append(tensor.numel())
        tensor.mul_(2)
        return Pending(None)

    monkeypatch.setattr(sums, "begin_sum", begin)
    return found


def made(as_views: bool = True, model: Product | None = None) -> tuple[Product, Gradients]:
    model = model or Product()
    parameters = dict(model.named_parameters())
    return model, Gradients(parameters, World(0, 0, 2), as_views=as_views, bucket_elements=32)


@pytest.mark.parametrize("as_views", [True, False])
def test_gradients_of_all_micro_batches_travel_once_and_in_the_last_backward(
    as_views: bool, sent: list[int]
) -> None:
    model = Product()
    under_way: list[int] = []  # when the last gradient of a backward pass comes
    model.weights[0].register_post_accumulate_grad_hook(lambda _: under_way.append(len(sent)))
    _, gradients = made(as_views, model)
    for _ in range(2):
        sent.clear()
        under_way.clear()
        for index in (0, 2, 4):
            gradients.before_backward(index, is_last=index == 4)
            model(1.0 + index).backward()
            assert (sent == []) == (index < 4)
        assert under_way == [0, 0, 2], "not while the backward pass goes on"
        assert len(sent) == 7, "weights 3 and 2 fill a bucket each, 1 and 0 have what follows"
        gradients.launch(num_in_step=6)
        assert len(sent) == 7
        gradients.finish(gradients.has())
        for number, weight in enumerate(model.weights):
            assert weight.grad is not None
            if number == 3:
                torch.testing.assert_close(weight.grad, torch.full((5, 5), 2 * 9.0 * 4))
        gradients.drop()
        assert {weight.grad for weight in model.weights} == {None}


def test_gradients_live_in_the_buckets(sent: list[int]) -> None:
    for as_views in (True, False):
        model, gradients = made(as_views)
        gradients.before_backward(0, is_last=False)
        model(1.0).backward()
        stores = {w.grad.untyped_storage().data_ptr() for w in model.weights if w.grad is not None}
        assert len(stores) == (1 if as_views else len(SIZES))


def test_a_worker_without_a_micro_batch_adds_zeros(sent: list[int]) -> None:
    model, gradients = made()
    for _ in range(2):
        gradients.before_backward(0, is_last=True)
        model(1.0).backward()
        gradients.launch(2)
        gradients.finish([True] * 4)
        assert all(weight.grad is not None and weight.grad.any() for weight in model.weights)
        gradients.drop()
        sent.clear()
        gradients.launch(1)
        assert len(sent) == 7 and gradients.has() == [False] * 4
        gradients.finish([True, True, True, False])
        assert [None if w.grad is None else int(w.grad.count_nonzero()) for w in model.weights] == [
            *(0, 0, 0, None)
        ]
        gradients.drop()


def test_what_got_no_gradient_in_the_step_before_is_not_waited_for(sent: list[int]) -> None:
    model, gradients = made()
    seen = []
    for step in range(3):
        sent.clear()
        gradients.before_backward(0, is_last=True)
        model(1.0, chosen=(0, 1, 2)).backward()
        seen.append(len(sent))
        gradients.launch(2)
        assert len(sent) == 7, step
        gradients.finish(gradients.has())
        assert model.weights[3].grad is None
        gradients.drop()
    assert seen == [0, 7, 7]
    gradients.expect_all()
    gradients.before_backward(0, is_last=True)
    model(1.0).backward()
    gradients.launch(2)
    gradients.finish(gradients.has())
    assert model.weights[3].grad is not None


def test_norm_and_the_first_broken_gradient() -> None:
    model = Product()
    gradients = Gradients(dict(model.named_parameters()), World())
    assert gradients.norm() == 0.0 and gradients.sent_bytes == 0
    (model.weights[1].sum() * 2 + model.weights[2].sum()).backward()
    gradients.launch(1)
    assert gradients.has() == [False, True, True, False]
    assert gradients.norm() == pytest.approx(math.sqrt(4 * 7 + 30))
    assert model.weights[1].grad is not None
    assert gradients.broken() is None
    model.weights[1].grad[3] = math.inf
    assert gradients.broken() == "weights.1"


@pytest.mark.parametrize("shares", [1, 2, 3, 8])
def test_every_number_lies_in_one_share_of_one_worker(shares: int) -> None:
    parameters = [torch.arange(float(math.prod(size))).reshape(size) for size in SIZES]
    arena = Arena(parameters, num_shares=shares, bucket_elements=16)
    for view, parameter in zip(arena.views, parameters, strict=True):
        view.copy_(parameter + 1)
    found: list[list[tuple[int, list[float]]]] = [[] for _ in SIZES]
    for rank in range(shares):
        for piece in arena.pieces(rank):
            numbers = arena.flat[piece.start : piece.end].tolist()
            found[piece.index] += [(piece.first, numbers)]
    whole = [[x for _, numbers in sorted(pieces) for x in numbers] for pieces in found]
    assert whole == [(parameter + 1).flatten().tolist() for parameter in parameters]
    assert max(map(len, arena.buckets_of)) > 1, "no parameter lies in two buckets"
    covered = [number for bucket in arena.buckets for number in range(bucket.start, bucket.end)]
    assert covered == list(range(arena.flat.numel()))
    assert all((bucket.end - bucket.start) % shares == 0 for bucket in arena.buckets)
