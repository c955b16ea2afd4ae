"""The peer gets the very examples that the program trains."""

import numpy as np
import torch

from demo_bert.commands.measuring.huggingface import padded
from demo_bert.commands.measuring.peak import Peak, model_shapes
from demo_bert.data.packing import Example, pack
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.bert import BertConfig

ROWS = [
    Example(np.array([2, 7, 8, 3, 9, 3], np.int32), 4, 1),
    Example(np.array([2, 5, 3], np.int32), 3, 0),
]


def test_rows_are_padded_with_mask_and_segments() -> None:
    inputs = padded(pack(ROWS), 8, "mrpc")
    assert inputs["input_ids"].tolist() == [[2, 7, 8, 3, 9, 3, 0, 0], [2, 5, 3, 0, 0, 0, 0, 0]]
    assert inputs["attention_mask"].sum(1).tolist() == [6, 3]
    assert inputs["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    assert inputs["labels"].tolist() == [1, 0]


def test_the_peak_is_the_best_of_what_was_seen() -> None:
    peak = Peak(CpuBackend(), "fp32", most_s=0.05)
    shapes = model_shapes(BertConfig(hidden_size=24, intermediate_size=48), num_tokens=32)
    assert shapes == ((32, 24, 72), (32, 24, 24), (32, 24, 48), (32, 48, 24))
    peak.measure("before", ((64, 64, 64), *shapes))
    assert len(peak.seen) == 5
    assert peak.flops_per_s == max(rate for _, _, rate in peak.seen)
    assert torch.is_grad_enabled()
