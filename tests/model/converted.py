"""Small models of ours and of transformers, in the forms of others, for the tests of conversion."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from demo_bert.errors import ModelError
from demo_bert.model.bert import Bert, BertConfig, initialise
from demo_bert.model.convert import (
    LoadedWeights,
    fill,
    read_model_directory,
    save_model_directory,
)
from demo_bert.model.heads import PreTrainer, SequenceClassifier, SpanPredictor
from demo_bert.model.vocabulary import SPECIAL_TOKENS, CaseRules

transformers = pytest.importorskip("transformers", reason="needs the dev requirement transformers")

State = dict[str, Tensor]
KINDS = ("BertModel", "BertForSequenceClassification", "BertForQuestionAnswering")
KINDS_WITH_PRETRAINING = (*KINDS, "BertForPreTraining")
SHARED = next(
    (
        parent.parent / "shared" / "data" / "checkpoints"
        for parent in Path(__file__).resolve().parents
        if (parent.parent / "shared").is_dir()
    ),
    Path("absent"),
)


def some_config(seed: int) -> BertConfig:
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 3])
    return BertConfig(
        vocab_size=draw.randint(20, 40),
        hidden_size=heads * draw.choice([2, 4]),
        num_hidden_layers=draw.randint(1, 3),
        num_attention_heads=heads,
        intermediate_size=draw.randint(5, 20),
        hidden_act=draw.choice(["gelu", "gelu_new"]),
        max_position_embeddings=draw.randint(12, 20),
        type_vocab_size=draw.randint(2, 3),
        initializer_range=0.5,
        layer_norm_eps=draw.choice([1e-12, 1e-5]),
    )


def some_vocabulary(config: BertConfig) -> list[str]:
    words = [f"w{number}" for number in range(config.vocab_size)]
    return [*SPECIAL_TOKENS, *words][: config.vocab_size]


def our_model(kind: str, config: BertConfig, num_labels: int = 3, seed: int = 0) -> nn.Module:
    makers: dict[str, Callable[[], nn.Module]] = {
        "BertModel": lambda: Bert(config),
        "BertForSequenceClassification": lambda: SequenceClassifier(config, num_labels),
        "BertForQuestionAnswering": lambda: SpanPredictor(config),
        "BertForPreTraining": lambda: PreTrainer(config),
    }
    model = makers[kind]().eval()
    initialise(model, initializer_range=0.5, seed=seed)
    with torch.no_grad():  # no parameter may be 0 or 1, or a mistake with it would not be seen
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def their_model(kind: str, config: BertConfig, num_labels: int = 3, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    num_labels = 2 if kind == "BertForQuestionAnswering" else num_labels  # start and end
    options = transformers.BertConfig(
        **config.to_dict(), num_labels=num_labels, attn_implementation="eager"
    )
    model = getattr(transformers, kind)(options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def outputs(kind: str, ours: nn.Module, theirs: Any, config: BertConfig) -> list[list[Tensor]]:
    """Two examples through both: lists of (ours, theirs)."""
    generator = torch.Generator().manual_seed(0)
    lengths = (7, config.max_position_embeddings)
    ids = [torch.randint(0, config.vocab_size, (n,), generator=generator) for n in lengths]
    types = [torch.randint(0, 2, (n,), generator=generator) for n in lengths]
    flat = {
        "input_ids": torch.cat(ids),
        "position_ids": torch.cat([torch.arange(n) for n in lengths]),
        "token_type_ids": torch.cat(types),
        "cu_seqlens": torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32),
        "max_seqlen": max(lengths),
    }
    with torch.no_grad():
        each = [theirs(i[None], token_type_ids=t[None]) for i, t in zip(ids, types, strict=True)]
        if kind == "BertForPreTraining":
            words, pairs = ours(**flat, masked_tokens=torch.arange(sum(lengths)))
            found = [words, pairs]
            expected = [
                torch.cat([one.prediction_logits[0] for one in each]),
                torch.cat([one.seq_relationship_logits for one in each]),
            ]
        elif kind == "BertForQuestionAnswering":
            both = [torch.stack([one.start_logits[0], one.end_logits[0]], 1) for one in each]
            found, expected = [ours(**flat)], [torch.cat(both)]
        elif kind == "BertForSequenceClassification":
            found, expected = [ours(**flat)], [torch.cat([one.logits for one in each])]
        else:
            assert isinstance(ours, Bert)
            hidden = ours(**flat)
            found = [hidden, ours.pool(hidden[flat["cu_seqlens"][:-1].long()])]
            expected = [
                torch.cat([one.last_hidden_state[0] for one in each]),
                torch.cat([one.pooler_output for one in each]),
            ]
    return [found, expected]


def assert_same_outputs(kind: str, ours: nn.Module, theirs: Any, config: BertConfig) -> None:
    for found, expected in zip(*outputs(kind, ours, theirs, config), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def write_directory(
    directory: Path, state: State, config: BertConfig, *, save: Callable[[State, Path], None]
) -> Path:
    directory.mkdir(exist_ok=True)
    save(state, directory)
    (directory / "config.json").write_text(json.dumps(config.to_dict() | {"model_type": "bert"}))
    entries = "".join(f"{entry}\n" for entry in some_vocabulary(config))
    (directory / "vocab.txt").write_text(entries)
    return directory


def save_safetensors(state: State, directory: Path, name: str = "model.safetensors") -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, directory / name)


def their_state(kind: str, config: BertConfig) -> State:
    model = their_model(kind, config)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def google_state(state: State) -> dict[str, np.ndarray[Any, Any]]:
    """Hugging Face's tensors as Google's code would have saved them."""
    variables: dict[str, np.ndarray[Any, Any]] = {}
    for name, tensor in state.items():
        values = tensor.numpy()
        if name.startswith("cls.predictions.decoder") or name.endswith("position_ids"):
            continue
        if name == "cls.predictions.bias":
            google = "cls/predictions/output_bias"
        elif "seq_relationship" in name:
            google = f"cls/seq_relationship/output_{'weights' if 'weight' in name else 'bias'}"
        elif "qa_outputs" in name:
            google = f"cls/squad/output_{'weights' if 'weight' in name else 'bias'}"
        elif name.startswith("classifier"):
            google = f"output_{'weights' if 'weight' in name else 'bias'}"
        else:
            google = name.replace(".layer.", ".layer_").replace(".", "/")
            if "LayerNorm" in google:
                google = google.replace("weight", "gamma").replace("bias", "beta")
            elif "_embeddings" in google:
                google = google.removesuffix("/weight")
            elif google.endswith("/weight"):
                google, values = google.replace("/weight", "/kernel"), values.T
        variables[google] = np.ascontiguousarray(values)
    return variables


def read_into(path: Path, kind: str) -> tuple[nn.Module, LoadedWeights]:
    weights = read_model_directory(path)
    model = our_model(kind, weights.config, seed=9)
    report = fill(model, weights)
    assert not report.missing
    assert not report.unexpected or kind == "BertForQuestionAnswering"
    return model, weights


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_model_directory(path)
    assert "\n" not in str(caught.value)


def save_classifier(directory: Path) -> Path:
    """A directory with a sequence classifier of ours, and its configuration of seed 1."""
    config = some_config(1)
    save_model_directory(
        directory,
        our_model("BertForSequenceClassification", config),
        config=config,
        vocabulary=some_vocabulary(config),
        case_rules=CaseRules(do_lower_case=False),
        labels=["no", "maybe", "yes"],
    )
    return directory


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
