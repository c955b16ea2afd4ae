"""Weights of others become ours and the other way round, with the same outputs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from demo_bert.files import sha256_of
from demo_bert.model.bert import Bert
from demo_bert.model.convert import (
    fill,
    read_model_directory,
    save_model_directory,
)
from demo_bert.model.layout import encoder_shapes
from demo_bert.model.vocabulary import CaseRules, build_tokenizer
from model import tf_writer
from model.converted import (
    KINDS_WITH_PRETRAINING,
    SHARED,
    State,
    assert_same_outputs,
    google_state,
    our_model,
    read_into,
    save_classifier,
    save_safetensors,
    some_config,
    some_vocabulary,
    their_model,
    their_state,
    write_directory,
)

transformers = pytest.importorskip("transformers", reason="needs the dev requirement transformers")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "saved")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS_WITH_PRETRAINING)
def test_what_transformers_saved_gives_the_same_outputs(
    tmp_path: Path, kind: str, seed: int
) -> None:
    config = some_config(seed)
    theirs = their_model(kind, config, seed=seed)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(some_vocabulary(config)))
    ours, weights = read_into(tmp_path, kind)
    assert weights.config == config
    assert weights.unconverted == ()
    has_classes = kind == "BertForSequenceClassification"
    assert weights.labels == (("LABEL_0", "LABEL_1", "LABEL_2") if has_classes else None)
    assert_same_outputs(kind, ours, theirs, config)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS_WITH_PRETRAINING)
def test_what_we_saved_gives_the_same_outputs_in_transformers(
    tmp_path: Path, kind: str, seed: int
) -> None:
    config = some_config(seed)
    ours = our_model(kind, config, seed=seed)
    labels = ["a", "b", "c"] if kind == "BertForSequenceClassification" else None
    save_model_directory(
        tmp_path,
        ours,
        config=config,
        vocabulary=some_vocabulary(config),
        case_rules=CaseRules(do_lower_case=True),
        labels=labels,
    )
    loader = {
        "BertModel": transformers.AutoModel,
        "BertForSequenceClassification": transformers.AutoModelForSequenceClassification,
        "BertForQuestionAnswering": transformers.AutoModelForQuestionAnswering,
        "BertForPreTraining": transformers.BertForPreTraining,
    }[kind]
    theirs, info = loader.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(theirs).__name__ == kind
    if labels:
        assert theirs.config.id2label == dict(enumerate(labels))
        assert theirs.config.problem_type == "single_label_classification"
    assert_same_outputs(kind, ours, theirs.eval(), config)
    again, weights = read_into(tmp_path, kind)
    assert weights.config == config
    assert weights.labels == (tuple(labels) if labels else None)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name


def test_a_saved_tokenizer_gives_the_same_ids_in_transformers(saved: Path) -> None:
    weights = read_model_directory(saved)
    assert weights.vocabulary_path == saved / "vocab.txt"
    assert not weights.do_lower_case
    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    ours = build_tokenizer(some_vocabulary(some_config(1)), do_lower_case=False)
    for pair in (("w1 W1 w2!", "w3 [MASK]"), ("x", "w0w1")):
        assert theirs(*pair)["input_ids"] == ours.encode(*pair).ids
        assert theirs(*pair)["token_type_ids"] == ours.encode(*pair).type_ids


def old_names(state: State) -> State:
    pairs = ((".LayerNorm.weight", ".LayerNorm.gamma"), (".LayerNorm.bias", ".LayerNorm.beta"))
    renamed: State = {}
    for name, tensor in state.items():
        for new, old in pairs:
            name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def in_parts(state: State, directory: Path) -> None:
    names = sorted(state)
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: state[name].contiguous() for name in part}, directory / file)
    places = {name: file for file, part in parts.items() for name in part}
    index = json.dumps({"metadata": {}, "weight_map": places})
    (directory / "model.safetensors.index.json").write_text(index)


def with_buffers(state: State, directory: Path) -> None:
    position_ids = torch.arange(12)[None]
    save_safetensors({**state, "bert.embeddings.position_ids": position_ids}, directory)


VARIANTS: dict[str, Callable[[State, Path], None]] = {
    "safetensors": save_safetensors,
    "another name": lambda state, path: save_safetensors(state, path, "model.fp16.safetensors"),
    "in parts": in_parts,
    "pickle": lambda state, path: torch.save(state, path / "pytorch_model.bin"),
    "old pickle": lambda state, path: torch.save(
        state, path / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
    "old names": lambda state, path: save_safetensors(old_names(state), path),
    "buffers": with_buffers,
    "tied decoder": lambda state, path: save_safetensors(
        {
            **state,
            "cls.predictions.decoder.weight": state["bert.embeddings.word_embeddings.weight"] + 0,
            "cls.predictions.decoder.bias": state["cls.predictions.bias"] + 0,
        },
        path,
    ),
    "decoder alone": lambda state, path: save_safetensors(
        {
            "cls.predictions.decoder.bias" if name == "cls.predictions.bias" else name: tensor
            for name, tensor in state.items()
        },
        path,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_of_a_directory_gives_the_same_weights(tmp_path: Path, variant: str) -> None:
    config = some_config(2)
    tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    state = their_state("BertForPreTraining", config)
    state = {name: tensor for name, tensor in state.items() if name not in tied}
    plain = write_directory(tmp_path / "plain", state, config, save=save_safetensors)
    other = write_directory(tmp_path / "other", state, config, save=VARIANTS[variant])
    expected, _ = read_into(plain, "BertForPreTraining")
    found, weights = read_into(other, "BertForPreTraining")
    assert weights.unconverted == ()
    for name, digest in weights.sha256.items():
        assert digest == sha256_of(other / name)
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_become_float32_without_loss(tmp_path: Path, dtype: torch.dtype) -> None:
    config = some_config(3)
    state = {n: tensor.to(dtype) for n, tensor in their_state("BertModel", config).items()}
    directory = write_directory(tmp_path / "a", state, config, save=save_safetensors)
    weights = read_model_directory(directory)
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.float32}
    words = state["embeddings.word_embeddings.weight"]
    assert torch.equal(weights.tensors["embeddings.word.weight"], words.float())


@pytest.mark.parametrize("kind", KINDS_WITH_PRETRAINING)
def test_a_google_checkpoint_gives_the_same_outputs_with_tanh_gelu(
    tmp_path: Path, kind: str
) -> None:
    config = some_config(4)
    theirs = their_model(kind, config)
    theirs.config.hidden_act = "gelu_new"
    theirs = type(theirs)(theirs.config).eval()
    state: State = theirs.state_dict()
    if kind == "BertModel":
        state = {f"bert.{name}": tensor for name, tensor in state.items()}
    variables = google_state(state)
    for name in list(variables):
        variables[f"{name}/adam_m"] = variables[f"{name}/adam_v"] = variables[name]
    variables["global_step"] = np.array(7, np.int64)
    tf_writer.write_checkpoint(tmp_path / "bert_model.ckpt", variables, num_shards=2)
    google = {**config.to_dict(), "hidden_act": "gelu"}
    del google["layer_norm_eps"], google["pad_token_id"]
    theirs_eps = config.layer_norm_eps
    (tmp_path / "bert_config.json").write_text(json.dumps(google | {"layer_norm_eps": theirs_eps}))
    (tmp_path / "vocab.txt").write_text("\n".join(some_vocabulary(config)))
    for path in (tmp_path, tmp_path / "bert_model.ckpt", tmp_path / "bert_model.ckpt.index"):
        ours, weights = read_into(path, kind)
        assert weights.source_format == "tensorflow"
        assert weights.config.hidden_act == "gelu_new"
        assert weights.unconverted == ()
        assert_same_outputs(kind, ours, theirs, weights.config)
    assert set(weights.sha256) == {
        "bert_model.ckpt.index",
        *(f"bert_model.ckpt.data-0000{number}-of-00002" for number in (0, 1)),
    }


def test_the_real_google_checkpoint_equals_its_conversion(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("the real checkpoint is not here")
    weights = read_model_directory(SHARED / "bleurt-tiny" / "tf")
    assert weights.unconverted == ("dense/bias", "dense/kernel")
    assert (weights.vocabulary_path, weights.do_lower_case) == (None, True)
    assert weights.config.hidden_act == "gelu_new"
    model = Bert(weights.config)
    assert fill(model, weights).missing == ()
    save_model_directory(
        tmp_path,
        model,
        config=weights.config,
        vocabulary=some_vocabulary(weights.config),
        case_rules=weights.case_rules,
    )
    saved = load_file(tmp_path / "model.safetensors")
    converted = load_file(SHARED / "bleurt-tiny" / "model.safetensors")
    assert saved.keys() == converted.keys()
    assert all(torch.equal(saved[name], converted[name]) for name in saved)


def test_gte_small_is_read_from_fp16_and_has_no_pooler() -> None:
    if not SHARED.is_dir():
        pytest.skip("the real weights are not here")
    weights = read_model_directory(SHARED / "gte-small")
    assert weights.labels is None
    assert list(weights.sha256) == ["model.fp16.safetensors"]
    assert weights.unconverted == ()
    assert weights.tensors.keys() == encoder_shapes(weights.config).keys()
    report = fill(Bert(weights.config), weights)
    assert report.missing == ("pooler.dense.weight", "pooler.dense.bias")


@pytest.mark.parametrize("seed", range(5))
def test_the_table_of_shapes_is_the_models(seed: int) -> None:
    config = some_config(seed)
    state = Bert(config, with_pooler=False).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert encoder_shapes(config) == shapes
