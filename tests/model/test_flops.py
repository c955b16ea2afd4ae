"""Counted operations against torch's own counter, on the padded textbook path."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from demo_bert.model.bert import BertConfig
from demo_bert.model.flops import TRAINING_FACTOR, classifier_flops, encoder_flops
from demo_bert.model.heads import SequenceClassifier
from small_run import CONFIG

OTHER = BertConfig(
    vocab_size=20,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=64,
)


def textbook(config: BertConfig, examples: int, length: int, num_labels: int | None) -> Tensor:
    """A padded encoder with nothing but its products, all rows of one length."""
    hidden, wide, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    x = torch.randn(examples, length, hidden, requires_grad=True)
    weights = [
        [torch.randn(*shape, requires_grad=True) for shape in shapes]
        for shapes in [[(hidden, hidden)] * 4 + [(wide, hidden), (hidden, wide)]]
        * config.num_hidden_layers
    ]
    for place, (query, key, value, output, up, down) in enumerate(weights):
        q, k, v = (
            (x @ w.T).view(examples, length, heads, -1).transpose(1, 2) for w in (query, key, value)
        )
        scores = torch.softmax(q @ k.transpose(-1, -2), -1)
        context = (scores @ v).transpose(1, 2).reshape(examples, length, hidden)
        if num_labels is not None and place == len(weights) - 1:  # the pooler reads no other token
            x, context = x[:, :1], context[:, :1]
        x = x + context @ output.T
        x = x + torch.relu(x @ up.T) @ down.T
    if num_labels is None:
        return x
    pooled = torch.tanh(x[:, 0] @ torch.randn(hidden, hidden, requires_grad=True).T)
    return pooled @ torch.randn(num_labels, hidden, requires_grad=True).T


@pytest.mark.parametrize("config", [CONFIG, OTHER])
@pytest.mark.parametrize(("examples", "length"), [(1, 1), (1, 7), (4, 16)])
def test_the_count_is_that_of_the_padded_textbook_model(
    config: BertConfig, examples: int, length: int
) -> None:
    lengths = [length] * examples
    with FlopCounterMode(display=False) as counter:
        textbook(config, examples, length, None)
    assert encoder_flops(config, lengths) == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        output = textbook(config, examples, length, 5)
        forward = counter.get_total_flops()
        output.sum().backward()
    assert classifier_flops(config, lengths, 5) == forward
    assert counter.get_total_flops() == TRAINING_FACTOR * forward


@pytest.mark.parametrize("config", [CONFIG, OTHER])
def test_our_own_linear_layers_are_all_counted(config: BertConfig) -> None:
    """The model itself, but for attention, whose kernels have no common count."""
    lengths = [3, 9, 1]
    tokens = sum(lengths)
    model = SequenceClassifier(config, 2).eval()
    positions = torch.cat([torch.arange(length) for length in lengths])
    bounds = torch.tensor([0, 3, 12, 13], dtype=torch.int32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(tokens, dtype=torch.int64), positions, 0 * positions, bounds, 9)
    linear = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in linear.items() if str(op) in ("aten.mm", "aten.addmm"))
    attention = encoder_flops(config, lengths) - sum(
        encoder_flops(config, [1]) for _ in range(tokens)
    )
    attention += tokens * config.num_hidden_layers * 4 * config.hidden_size
    assert classifier_flops(config, lengths, 2) - attention == products


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8))
@settings(max_examples=30)
def test_examples_add_up_for_attention_stays_inside_each(lengths: list[int]) -> None:
    assert encoder_flops(OTHER, lengths) == sum(encoder_flops(OTHER, [n]) for n in lengths)
    assert encoder_flops(OTHER, [sum(lengths)]) >= encoder_flops(OTHER, lengths)


def test_layers_add_up() -> None:
    assert encoder_flops(OTHER, [5, 6]) == 3 * encoder_flops(
        replace(OTHER, num_hidden_layers=1), [5, 6]
    )
