"""The forecast of a worker's memory against a worker."""

import subprocess
import sys

import pytest

from demo_bert.model.bert import BertConfig
from demo_bert.model.memory import activation_bytes, training_bytes
from small_run import ENVIRONMENT

SHAPE = BertConfig(
    hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
)
WORKER = """
import resource, sys
import numpy, torch
from demo_bert.data.packing import Example, pack
from demo_bert.model.bert import BertConfig
from demo_bert.model.heads import SequenceClassifier
from demo_bert.model.linear import round_products
batch_size, length, is_rounded = (int(word) for word in sys.argv[1:])
config = BertConfig(
    hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
)
model = SequenceClassifier(config, 2)
round_products(model, is_rounded=bool(is_rounded))
batch = pack([Example(numpy.full(length, 5), length, 1)] * batch_size)
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(2):
    inputs = batch.input_ids, batch.position_ids, batch.token_type_ids, batch.cu_seqlens
    model(*inputs, length).sum().backward()
    optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.parametrize("is_rounded", [0, 1])
@pytest.mark.parametrize(("batch_size", "length"), [(32, 128), (4, 512)])
def test_the_forecast_is_enough_and_not_twice_too_much(
    batch_size: int, length: int, is_rounded: int
) -> None:
    argv = [sys.executable, "-c", WORKER, str(batch_size), str(length), str(is_rounded)]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    forecast = training_bytes(SHAPE, batch_size=batch_size, max_seq_length=length)
    assert 0.5 * forecast < int(done.stdout) < forecast


def test_more_of_anything_needs_more() -> None:
    small = training_bytes(SHAPE, batch_size=1, max_seq_length=16)
    assert small < training_bytes(SHAPE, batch_size=2, max_seq_length=16)
    assert small < training_bytes(SHAPE, batch_size=1, max_seq_length=32)


def test_one_long_example_keeps_more_than_two_of_half_its_length() -> None:
    half, whole = activation_bytes(SHAPE, [192, 384])
    assert 2 * half < whole < 4 * half
    more = training_bytes(SHAPE, batch_size=3, max_seq_length=384)
    assert more - training_bytes(SHAPE, batch_size=2, max_seq_length=384) == whole
