"""Weights of others become ours and the other way round, with the same outputs."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo_bert.errors import ModelError
from demo_bert.files import sha256_of
from demo_bert.model.bert import Bert, BertConfig, initialise
from demo_bert.model.convert import (
    LoadedWeights,
    fill,
    read_model_directory,
    save_model_directory,
)
from demo_bert.model.heads import PreTrainer, SequenceClassifier, SpanPredictor
from demo_bert.model.layout import encoder_shapes
from demo_bert.model.vocabulary import SPECIAL_TOKENS, CaseRules, build_tokenizer
from model import tf_writer

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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory with a sequence classifier of ours, and its configuration of seed 1."""
    config = some_config(1)
    save_model_directory(
        tmp_path / "saved",
        our_model("BertForSequenceClassification", config),
        config=config,
        vocabulary=some_vocabulary(config),
        case_rules=CaseRules(do_lower_case=False),
        labels=["no", "maybe", "yes"],
    )
    return tmp_path / "saved"


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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
