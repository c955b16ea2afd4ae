"""A compiled model is the same model; a compiler that fails leaves it as it was."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.compiling import compile_layers
from demo_bert.model.heads import SequenceClassifier

# Dynamo looks at the gradients of what goes in, and torch warns of its own doing.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

_CONFIG = BertConfig(
    vocab_size=40,
    hidden_size=8,
    num_hidden_layers=10,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def _model() -> SequenceClassifier:
    model = SequenceClassifier(_CONFIG, 2)
    initialise(model, initializer_range=0.2, seed=1)
    return model


def _run(model: SequenceClassifier, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(sum(lengths)) % _CONFIG.vocab_size
    positions = torch.cat([torch.arange(n) for n in lengths])
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    model.zero_grad()
    logits = model(ids, positions, ids % 2, bounds, max(lengths))
    logits.square().sum().backward()
    return logits.detach(), model.bert.layers[0].feed_forward.up.weight.grad.clone()


@pytest.fixture(autouse=True)
def _no_compiled_code_of_others() -> None:
    torch._dynamo.reset()


@pytest.mark.drill
def test_one_graph_of_each_part_serves_all_layers_and_token_counts() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        del inputs
        graphs.append(graph)
        return graph.forward

    plain, compiled = _model(), _model()
    names = list(compiled.state_dict())
    assert compile_layers(compiled, nullcontext, backend=count) is None
    num_tried = len(graphs)
    assert 0 < num_tried < _CONFIG.num_hidden_layers
    assert list(compiled.state_dict()) == names
    for lengths in ([3, 20], [7, 1, 9], [30, 2]):
        for ours, theirs in zip(_run(compiled, lengths), _run(plain, lengths), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert len(graphs) <= num_tried + 1  # the last layer has few tokens


def test_a_compiler_that_fails_says_why_and_leaves_the_model_as_it_was() -> None:
    def fail(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        raise OSError("no compiler here")

    model, plain = _model(), _model()
    reason = compile_layers(model, nullcontext, backend=fail)
    assert reason is not None
    assert "no compiler here" in reason
    assert "\n" not in reason
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(_run(model, [4, 6])[0], _run(plain, [4, 6])[0])
