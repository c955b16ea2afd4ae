"""The task: what it keeps of a window, its loss, its sample."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from demo_bert.data.packing import Batch, Example, pack, unpack
from demo_bert.losses import span_losses
from demo_bert.tasks import load_task
from demo_bert.tasks.spans.answers import NUM_BEST, Candidate
from demo_bert.tasks.spans.questions import Question
from demo_bert.tasks.spans.shown import NUM_SHOWN, shown_questions
from demo_bert.tasks.spans.task import SAMPLE, SpanTask
from demo_bert.tasks.task import DataRequest

LENGTHS = (3, 40, 7, 25)


class Given(nn.Module):
    """Gives the logits that it was told, whatever it is asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, *_: object) -> torch.Tensor:
        return self.logits


def task(name: str = "squad") -> SpanTask:
    found = load_task(name)
    assert isinstance(found, SpanTask)
    return found


def batch_and_logits() -> tuple[Batch, torch.Tensor]:
    labels = [(0, 0), (5, 39), (2, 2), (-100, -100)]
    rows = [
        Example(np.arange(length), 2, label) for length, label in zip(LENGTHS, labels, strict=True)
    ]
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(sum(LENGTHS), 2, generator=generator)
    return pack(rows), torch.round(logits * 4) / 4  # many equal ones


def test_unpacking_lays_each_rows_tokens_out() -> None:
    batch, logits = batch_and_logits()
    padded = unpack(logits, batch, fill=-7.0)
    assert padded.shape == (4, 40, 2)
    for number, part in enumerate(logits.split(LENGTHS)):
        assert torch.equal(padded[number, : len(part)], part)
        assert (padded[number, len(part) :] == -7.0).all()


def test_the_loss_is_that_of_each_row_alone_and_its_gradient_is_finite() -> None:
    batch, logits = batch_and_logits()
    model = Given(logits)
    loss = task().loss_sum(model, batch)
    expected = torch.zeros(())
    for part, (start, end) in zip(logits.split(LENGTHS), batch.labels.tolist(), strict=True):
        if start >= 0:
            expected += F.cross_entropy(part[None, :, 0], torch.tensor([start])) / 2
            expected += F.cross_entropy(part[None, :, 1], torch.tensor([end])) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    assert model.logits.grad is not None
    assert torch.isfinite(model.logits.grad).all()
    assert (model.logits.grad[-LENGTHS[-1] :] == 0).all(), "a row without label learns nothing"


def test_a_row_without_tokens_has_no_loss_and_spoils_none() -> None:
    logits = torch.full((2, 4, 2), -1e30, requires_grad=True)
    losses = span_losses(logits, torch.tensor([[-100, -100], [-100, -100]]))
    losses.sum().backward()
    assert losses.tolist() == [0.0, 0.0]
    assert logits.grad is not None and (logits.grad == 0).all()


def test_what_is_kept_of_a_window_are_the_first_of_the_best() -> None:
    batch, logits = batch_and_logits()
    outputs = task().outputs(Given(logits), batch).detach()
    assert outputs.shape == (4, task().num_outputs(()))
    for row, part in zip(outputs, logits.split(LENGTHS), strict=True):
        assert torch.equal(row[1:3], part[0])
        for side in (0, 1):
            begin = 3 + 2 * NUM_BEST * side
            places, values = row[begin : begin + NUM_BEST], row[begin + NUM_BEST :][:NUM_BEST]
            order = sorted(range(len(part)), key=lambda n: (-part[n, side].item(), n))[:NUM_BEST]
            spare = NUM_BEST - len(order)
            assert places.tolist() == [*order, *[-1] * spare]
            assert torch.equal(values[: len(order)], part[order, side])
            assert (values[len(order) :] < -1e29).all()


@pytest.mark.parametrize("name", ["squad", "squad_v2"])
def test_the_sample_is_of_the_version_and_its_articles_are_disjoint(name: str) -> None:
    said: list[str] = []
    data = task(name).load(DataRequest(sample=True), said.append)
    assert data.is_sample
    assert "SAMPLE" in said[0] and f"not {name} scores" in said[0]
    assert data.licence == "CC BY-SA 4.0"
    titles = [{one.title for one in data.splits[part]} for part in ("train", "validation")]
    assert not titles[0] & titles[1]
    contexts = [{one.context for one in data.splits[part]} for part in ("train", "validation")]
    assert not contexts[0] & contexts[1]
    counts = [len(data.splits[part]) for part in ("train", "validation")]
    assert counts == ([411, 202] if name == "squad" else [403, 202])
    none = [sum(not one.answers for one in data.splits[part]) for part in ("train", "validation")]
    assert none == ([0, 0] if name == "squad" else [190, 99])


def test_the_sample_has_its_attribution_beside_it() -> None:
    readme = (SAMPLE / "README.md").read_text("ascii")
    for words in ("Attribution-ShareAlike 4.0", "Rajpurkar", "Changes:"):
        assert words in readme
    assert "CC BY-SA 4.0" in (SAMPLE / "LICENSE.txt").read_text("ascii")
    for path in sorted(SAMPLE.glob("*.json")):
        qas = [
            qa
            for article in json.loads(path.read_text("ascii"))["data"]
            for part in article["paragraphs"]
            for qa in part["qas"]
        ]
        assert f"| `{path.name}` |" in readme and f"| {len(qas)} |" in readme


def asked(number: int, *answers: str) -> Question:
    context = f"The town {number} lies by a river."
    span = (18, 20) if answers else (-1, -1)
    return Question(f"q{number}", "Where?", context, answers, *span)


def test_right_and_wrong_and_unanswerable_questions_are_shown_in_equal_parts() -> None:
    examples = [asked(n, "by") for n in range(80)] + [asked(80 + n) for n in range(80)]
    chosen = [
        Candidate("by", 18, 20, 0.0, 0.0, 0.5) if n % 8 else Candidate("", 0, 0, 0.0, 0.0, 0.5)
        for n in range(160)
    ]
    shown = shown_questions(examples, chosen)
    assert len(shown) == NUM_SHOWN
    kinds = [(one["is_answerable"], one["is_right"]) for one in shown]
    assert all(kinds.count(kind) in (7, 8) for kind in set(kinds)) and len(set(kinds)) == 4
    assert shown == shown_questions(examples, chosen)


def test_a_long_passage_is_shown_around_the_answer() -> None:
    context = "x" * 9000 + "here" + "y" * 9000
    one = Question("q", "Where?", context, ("here",), 9000, 9004)
    (shown,) = shown_questions([one], [Candidate("here", 9000, 9004, 0.0, 0.0, 1.0)])
    start, end = shown["span"]  # type: ignore[misc]
    assert str(shown["context"])[start:end] == "here"
    assert shown["gold_span"] == shown["span"]
    assert len(str(shown["context"])) <= 4000


def test_only_the_second_version_may_say_that_there_is_no_answer() -> None:
    assert task().threshold is None
    assert task("squad_v2").threshold == 0.0
