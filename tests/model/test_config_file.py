"""Configurations are read strictly: what would change the network is obeyed or refused."""

import json
from pathlib import Path

import pytest

from demo_bert.errors import ModelError
from demo_bert.model.bert import BertConfig
from demo_bert.model.config_file import config_json, parse_config, parse_labels
from demo_bert.model.json_object import read_json_object

PATH = Path("config.json")
SMALL: dict[str, object] = {
    "vocab_size": 100,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def parse(gelu_is_tanh: bool = False, **more: object) -> BertConfig:
    return parse_config({**SMALL, **more}, PATH, gelu_is_tanh=gelu_is_tanh)


def test_what_is_not_said_has_berts_defaults() -> None:
    config = parse(pad_token_id=None, position_embedding_type="absolute", model_type="bert")
    assert config == BertConfig(**SMALL)  # type: ignore[arg-type]


def test_all_values_are_taken() -> None:
    config = parse(layer_norm_eps=1e-5, hidden_dropout_prob=0, type_vocab_size=3, pad_token_id=4)
    assert config.layer_norm_eps == 1e-5
    assert config.hidden_dropout_prob == 0.0
    assert (config.type_vocab_size, config.pad_token_id) == (3, 4)


@pytest.mark.parametrize(
    ("name", "gelu_is_tanh", "expected"),
    [
        ("gelu", False, "gelu"),
        ("gelu", True, "gelu_new"),
        ("gelu_python", True, "gelu"),
        ("gelu_new", False, "gelu_new"),
        ("gelu_pytorch_tanh", False, "gelu_new"),
    ],
)
def test_googles_gelu_is_the_tanh_form(name: str, gelu_is_tanh: bool, expected: str) -> None:
    assert parse(gelu_is_tanh, hidden_act=name).hidden_act == expected
    assert parse(gelu_is_tanh=True).hidden_act == "gelu_new"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model_type": "albert"}, "model_type is 'albert', only 'bert' can be read"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', one of gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"hidden_size": "8"}, "hidden_size is '8', a whole number"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": 8.5}, "hidden_size is 8.5"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small', a number"),
        ({"num_attention_heads": 3}, "hidden_size 8 is not divisible by num_attention_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob 1.5"),
    ],
)
def test_what_is_no_bert_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse(**more)


def test_all_problems_stand_in_one_line() -> None:
    with pytest.raises(ModelError) as caught:
        parse_config({"hidden_size": "x", "model_type": "t5"}, PATH, gelu_is_tanh=False)
    for part in ("vocab_size, num_hidden_layers,", "hidden_size is 'x'", "model_type is 't5'"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_come_in_the_order_of_their_numbers() -> None:
    names = {str(number): f"class {number}" for number in reversed(range(12))}
    expected = tuple(f"class {number}" for number in range(12))
    assert parse_labels({"id2label": names}, PATH) == expected
    assert parse_labels({}, PATH) is None


@pytest.mark.parametrize("names", [["a"], {"1": "a"}, {"0": 7}, {"a": "b"}, "x"])
def test_labels_with_gaps_are_refused(names: object) -> None:
    with pytest.raises(ModelError, match="id2label"):
        parse_labels({"id2label": names}, PATH)


def test_what_is_saved_reads_as_the_same() -> None:
    config = parse(hidden_act="gelu_new", layer_norm_eps=1e-6)
    content = json.loads(
        json.dumps(config_json(config, architecture="BertModel", num_labels=2, labels=["no", "ja"]))
    )
    assert parse_config(content, PATH, gelu_is_tanh=False) == config
    assert parse_labels(content, PATH) == ("no", "ja")
    one = config_json(config, architecture="BertModel", num_labels=1, labels=None)
    assert one["problem_type"] == "regression"


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_json_object(tmp_path / "config.json")
    assert "\n" not in str(caught.value)
