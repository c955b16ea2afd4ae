"""What does not fit a model: listed where going on is right, else refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo_bert.errors import ModelError
from demo_bert.model.bert import BertConfig
from demo_bert.model.convert import (
    fill,
    read_model_directory,
    save_model_directory,
)
from demo_bert.model.vocabulary import CaseRules
from model.converted import (
    State,
    assert_refused,
    change_config,
    our_model,
    save_classifier,
    save_safetensors,
    some_config,
    some_vocabulary,
    their_state,
    write_directory,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "saved")


def test_another_head_is_listed_and_the_models_own_stays(saved: Path) -> None:
    weights = read_model_directory(saved)
    for kind, num_labels, missing, unexpected in (
        ("BertModel", 0, [], ["classifier.weight", "classifier.bias"]),
        (
            "BertForSequenceClassification",
            2,
            ["classifier.weight", "classifier.bias"],
            ["classifier.weight", "classifier.bias"],
        ),
        (
            "BertForQuestionAnswering",
            0,
            ["span.weight", "span.bias"],
            [
                "bert.pooler.dense.weight",
                "bert.pooler.dense.bias",
                "classifier.weight",
                "classifier.bias",
            ],
        ),
    ):
        model = our_model(kind, weights.config, num_labels, seed=5)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        report = fill(model, weights)
        assert sorted(report.missing) == sorted(missing)
        assert sorted(report.unexpected) == sorted(unexpected)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]) == (name in missing), name


def test_a_model_of_another_shape_is_refused_with_each_difference(saved: Path) -> None:
    weights = read_model_directory(saved)
    config = weights.config
    wide = BertConfig(
        **{**config.to_dict(), "intermediate_size": 99, "max_position_embeddings": 500}  # type: ignore[arg-type]
    )
    model = our_model("BertModel", wide)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        fill(model, weights)
    text = str(caught.value)
    hidden, positions = config.hidden_size, config.max_position_embeddings
    expected = f"({positions}, {hidden}) instead of (500, {hidden})"
    assert f"embeddings.position.weight has the shape {expected}" in text
    for name in ("up.weight", "up.bias", "down.weight"):
        assert f"feed_forward.{name} has the shape" in text
    assert "\n" not in text
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    deep = {**config.to_dict(), "num_hidden_layers": config.num_hidden_layers + 2}
    with pytest.raises(ModelError, match=r"lack tensors: layers\.\d-\d\.attention\.qkv\.weight"):
        fill(our_model("BertModel", BertConfig(**deep)), weights)  # type: ignore[arg-type]


def test_a_configuration_that_lies_about_the_weights_is_refused(saved: Path) -> None:
    config = some_config(1)
    for changes, message in (
        ({"num_hidden_layers": config.num_hidden_layers + 1}, r"num_hidden_layers is \d"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ({"max_position_embeddings": 512}, r"position_embeddings.weight has the shape .* \(512,"),
        ({"vocab_size": 10**30}, "word_embeddings.weight has the shape"),
        ({"intermediate_size": 77}, r"encoder.layer.*intermediate.dense.bias .* \(77,\)"),
        ({"num_attention_heads": 7}, "not divisible by num_attention_heads 7"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"id2label": {"0": 5}}, "id2label"),
        ({"id2label": {"0": "a", "1": "b"}}, "id2label names 2 classes, the classifier has 3"),
    ):
        before = (saved / "config.json").read_text()
        change_config(saved, **changes)
        assert_refused(saved, message)
        (saved / "config.json").write_text(before)
    assert read_model_directory(saved).config == config


def test_a_directory_that_lacks_something_is_refused(saved: Path) -> None:
    vocabulary = (saved / "vocab.txt").read_text()
    (saved / "vocab.txt").write_text(vocabulary + "one\nmore\n")
    assert_refused(saved, "they do not belong together")
    (saved / "vocab.txt").unlink()
    assert read_model_directory(saved).vocabulary_path == saved / "tokenizer.json"
    (saved / "tokenizer.json").unlink()
    assert_refused(saved, "it is not the standard vocabulary")
    (saved / "vocab.txt").write_text(vocabulary)
    (saved / "config.json").write_text("{")
    assert_refused(saved, "not JSON")
    (saved / "config.json").unlink()
    assert_refused(saved, "has weights but no config.json or bert_config.json")
    (saved / "model.safetensors").unlink()
    assert_refused(saved, "no weights there")


def change_weights(directory: Path, change: Callable[[State], object]) -> None:
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")


def test_faulty_tensors_are_refused(saved: Path) -> None:
    words = "bert.embeddings.word_embeddings.weight"
    original = (saved / "model.safetensors").read_bytes()

    def not_finite(state: State) -> None:
        state[words][3, 1] = float("nan")

    def scalar_head(state: State) -> None:
        state["classifier.weight"] = torch.tensor(1.0)

    change_weights(saved, scalar_head)
    weights = read_model_directory(saved)
    with pytest.raises(ModelError, match=r"classifier.weight has the shape \(\) instead of"):
        fill(our_model("BertForSequenceClassification", weights.config), weights)
    (saved / "model.safetensors").write_bytes(original)
    cases: dict[str, Callable[[State], object]] = {
        r"missing: embeddings\.word_embeddings\.weight": lambda state: state.pop(words),
        "no layers by BERT's names": lambda state: [
            state.pop(name) for name in list(state) if ".layer." in name
        ],
        "not finite": not_finite,
        "torch.int64": lambda state: state.update({words: state[words].long()}),
        "two names of one tensor": lambda state: state.update(
            {words.removeprefix("bert."): state[words].clone()}
        ),
    }
    for message, change in cases.items():
        change_weights(saved, change)
        assert_refused(saved, message)
        (saved / "model.safetensors").write_bytes(original)


def test_tensors_without_a_place_are_listed_by_their_own_names(saved: Path) -> None:
    change_weights(saved, lambda state: state.update({"bert.extra.gamma": torch.ones(2)}))
    weights = read_model_directory(saved)
    assert weights.unconverted == ("bert.extra.gamma",)
    report = fill(our_model("BertForSequenceClassification", weights.config), weights)
    assert report.unexpected == ("bert.extra.gamma",)


def test_an_untied_decoder_is_listed_not_lost_in_silence(tmp_path: Path) -> None:
    config = some_config(2)
    state = their_state("BertForPreTraining", config)
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    directory = write_directory(tmp_path / "a", state, config, save=save_safetensors)
    assert read_model_directory(directory).unconverted == ("cls.predictions.decoder.weight",)


def test_a_vocabulary_too_large_is_not_saved(tmp_path: Path) -> None:
    config = some_config(1)
    with pytest.raises(ModelError, match="do not belong together"):
        save_model_directory(
            tmp_path / "a",
            our_model("BertModel", config),
            config=config,
            vocabulary=[*some_vocabulary(config), "more"],
            case_rules=CaseRules(do_lower_case=True),
        )
    assert not (tmp_path / "a").exists()


def test_saving_changes_nothing_and_is_repeatable(saved: Path, tmp_path: Path) -> None:
    config = some_config(1)
    files = sorted(file.name for file in saved.iterdir())
    assert files == [
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    save_model_directory(
        tmp_path / "again",
        our_model("BertForSequenceClassification", config),
        config=config,
        vocabulary=some_vocabulary(config),
        case_rules=CaseRules(do_lower_case=False),
        labels=["no", "maybe", "yes"],
    )
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes(), name
