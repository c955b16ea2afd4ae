"""Our BERT is BERT: equal to `transformers` on random shapes, forward and backward."""

import random
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.data.packing import Batch
from demo_bert.errors import ModelError
from demo_bert.model.bert import Bert, BertConfig, first_tokens, initialise
from demo_bert.model.heads import PreTrainer, SequenceClassifier, SpanPredictor

transformers = pytest.importorskip("transformers", reason="needs the dev requirement transformers")


def _config(seed: int) -> BertConfig:
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 4])
    return BertConfig(
        vocab_size=draw.randint(20, 60),
        hidden_size=heads * draw.choice([4, 8]),
        num_hidden_layers=draw.randint(1, 3),
        num_attention_heads=heads,
        intermediate_size=draw.randint(5, 40),
        hidden_act=draw.choice(["gelu", "gelu_new"]),
        max_position_embeddings=draw.randint(16, 40),
        type_vocab_size=2,
        initializer_range=0.3,
    )


def _theirs(kind: str, config: BertConfig, **more: object) -> torch.nn.Module:
    options = transformers.BertConfig(**config.to_dict(), attn_implementation="eager", **more)
    return getattr(transformers, kind)(options).eval()


def _copy(ours: torch.nn.Module, theirs: torch.nn.Module) -> dict[str, str]:
    """Copies weights by the names' meaning, written here apart from the product's converter."""
    source = dict(theirs.named_parameters())
    prefix = "bert." if any(name.startswith("bert.") for name in source) else ""
    parts = {
        "embeddings.word.weight": "embeddings.word_embeddings.weight",
        "embeddings.position.weight": "embeddings.position_embeddings.weight",
        "embeddings.token_type.weight": "embeddings.token_type_embeddings.weight",
        "embeddings.norm": "embeddings.LayerNorm",
        "attention.output": "attention.output.dense",
        "attention.norm": "attention.output.LayerNorm",
        "feed_forward.up": "intermediate.dense",
        "feed_forward.down": "output.dense",
        "feed_forward.norm": "output.LayerNorm",
        "layers.": "encoder.layer.",
        "span.": "qa_outputs.",
        "nsp.": "cls.seq_relationship.",
        "mlm.transform": "cls.predictions.transform.dense",
        "mlm.norm": "cls.predictions.transform.LayerNorm",
        "mlm.bias": "cls.predictions.bias",
    }
    names = {}
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            target = name.removeprefix("bert.")
            is_encoder = name.startswith("bert.") or prefix == ""
            for mine, other in parts.items():
                target = target.replace(mine, other)
            target = (prefix if is_encoder else "") + target
            if ".qkv." in target:
                three = [target.replace("qkv", f"self.{w}") for w in ("query", "key", "value")]
                parameter.copy_(torch.cat([source[one] for one in three]))
            else:
                parameter.copy_(source[target])
            names[name] = target
    return names


def _rows(config: BertConfig, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    lengths = [1, config.max_position_embeddings] + [
        draw.randint(1, config.max_position_embeddings) for _ in range(draw.randint(0, 4))
    ]
    # Id 0 is [PAD], whose embedding transformers freezes; it never stands in a flat batch.
    return [[draw.randrange(1, config.vocab_size) for _ in range(n)] for n in lengths]


def _flat(rows: list[list[int]]) -> Batch:
    bounds = torch.tensor([0] + [len(row) for row in rows]).cumsum(0).to(torch.int32)
    return Batch(
        input_ids=torch.tensor([piece for row in rows for piece in row]),
        position_ids=torch.cat([torch.arange(len(row)) for row in rows]),
        token_type_ids=torch.cat([(torch.arange(len(row)) * 2 >= len(row)).long() for row in rows]),
        cu_seqlens=bounds,
        max_seqlen=max(map(len, rows)),
        labels=torch.zeros(len(rows), dtype=torch.int64),
        num_examples=len(rows),
        num_tokens=int(bounds[-1]),
    )


def _padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
        types[number, : len(row)] = (torch.arange(len(row)) * 2 >= len(row)).long()
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _inputs(batch: Batch) -> tuple[torch.Tensor, ...]:
    return (
        batch.input_ids,
        batch.position_ids,
        batch.token_type_ids,
        batch.cu_seqlens,
        batch.max_seqlen,
    )


def _compare_gradients(
    ours: torch.nn.Module, theirs: torch.nn.Module, names: dict[str, str]
) -> None:
    target = {name: p.grad for name, p in theirs.named_parameters()}
    largest = max(float(g.norm()) for g in target.values() if g is not None)
    for name, parameter in ours.named_parameters():
        if ".qkv." in names[name]:
            three = [names[name].replace("qkv", f"self.{w}") for w in ("query", "key", "value")]
            expected = torch.cat([target[one] for one in three])
        else:
            expected = target[names[name]]
        distance = float((parameter.grad - expected).norm())
        assert distance <= 1e-4 * max(float(expected.norm()), 1e-3 * largest), name


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_hidden_states_and_pooled_output_are_those_of_transformers(seed: int) -> None:
    config = _config(seed)
    theirs = _theirs("BertModel", config)
    ours = Bert(config).eval()
    _copy(ours, theirs)
    rows = _rows(config, seed)
    batch = _flat(rows)
    with torch.no_grad():
        hidden = ours(*_inputs(batch))
        expected = theirs(**_padded(rows))
        for number, row in enumerate(rows):
            start = int(batch.cu_seqlens[number])
            torch.testing.assert_close(
                hidden[start : start + len(row)],
                expected.last_hidden_state[number, : len(row)],
                rtol=0,
                atol=1e-5,
            )
        firsts = first_tokens(batch.cu_seqlens, num_tokens=len(hidden))
        pooled = ours.pool(hidden[firsts])
    torch.testing.assert_close(pooled, expected.pooler_output, rtol=0, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_wanted_tokens_have_the_states_and_gradients_that_they_have_among_all(seed: int) -> None:
    config = _config(seed)
    model = Bert(config).eval()
    initialise(model, initializer_range=0.2, seed=seed)
    batch = _flat(_rows(config, seed))
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.randint(batch.num_tokens, (5,), generator=generator)  # also twice the same
    weights = torch.randn(5, config.hidden_size, generator=generator)
    found = []
    for states in (
        model(*_inputs(batch)).index_select(0, wanted),
        model(*_inputs(batch), wanted=wanted),
    ):
        model.zero_grad()
        (states * weights).sum().backward()
        found.append([states.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@settings(max_examples=14, deadline=None)
@given(seed=st.integers(0, 10_000), path=st.sampled_from(["blocks", "padded"]))
def test_the_classifier_equals_transformers_forward_and_backward(seed: int, path: str) -> None:
    config = _config(seed)
    theirs = _theirs("BertForSequenceClassification", config, num_labels=3)
    ours = SequenceClassifier(config, 3).eval()
    names = _copy(ours, theirs)
    rows = _rows(config, seed)
    labels = torch.arange(len(rows)) % 3
    with mock.patch("demo_bert.model.bert.select_path", return_value=path):
        logits = ours(*_inputs(_flat(rows)))
    expected = theirs(**_padded(rows)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    torch.nn.functional.cross_entropy(expected, labels).backward()
    _compare_gradients(ours, theirs, names)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_spans_equal_transformers_forward_and_backward(seed: int) -> None:
    config = _config(seed)
    theirs = _theirs("BertForQuestionAnswering", config)
    ours = SpanPredictor(config).eval()
    names = _copy(ours, theirs)
    rows = _rows(config, seed)
    batch = _flat(rows)
    logits = ours(*_inputs(batch))
    out = theirs(**_padded(rows))
    expected = torch.stack([out.start_logits, out.end_logits], -1)
    kept = torch.cat([expected[number, : len(row)] for number, row in enumerate(rows)])
    torch.testing.assert_close(logits, kept, rtol=0, atol=1e-5)
    weights = torch.randn(kept.shape, generator=torch.Generator().manual_seed(seed))
    (logits * weights).sum().backward()
    (kept * weights).sum().backward()
    _compare_gradients(ours, theirs, names)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_pre_training_heads_equal_transformers_forward_and_backward(seed: int) -> None:
    config = _config(seed)
    theirs = _theirs("BertForPreTraining", config)
    ours = PreTrainer(config).eval()
    names = _copy(ours, theirs)
    rows = _rows(config, seed)
    batch = _flat(rows)
    masked = [(number, len(row) // 2) for number, row in enumerate(rows)]
    places = torch.tensor([int(batch.cu_seqlens[n]) + place for n, place in masked])
    words, pairs = ours(*_inputs(batch), places)
    out = theirs(**_padded(rows))
    expected = torch.stack([out.prediction_logits[n, place] for n, place in masked])
    torch.testing.assert_close(words, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(pairs, out.seq_relationship_logits, rtol=0, atol=1e-5)
    (words.square().mean() + pairs.square().mean()).backward()
    (expected.square().mean() + out.seq_relationship_logits.square().mean()).backward()
    _compare_gradients(ours, theirs, names)


def test_random_weights_are_a_function_of_the_seed_and_cut_at_two_deviations() -> None:
    config = BertConfig(vocab_size=500, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    models = [Bert(config) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialise(model, initializer_range=0.02, seed=seed)
    first, same, other = (dict(model.named_parameters()) for model in models)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["embeddings.word.weight"], other["embeddings.word.weight"])
    words = first["embeddings.word.weight"]
    assert words.abs().max() <= 0.04
    assert (
        0.016 < float(words.detach().std()) < 0.019
    )  # 0.02 x 0.88 for a normal cut at two deviations
    assert float(first["layers.0.attention.norm.weight"].detach().min()) == 1.0
    assert float(first["layers.0.attention.qkv.bias"].detach().abs().max()) == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_attention_heads": 7}, "not divisible"),
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob"),
        ({"hidden_act": "relu"}, "relu"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(
    change: dict[str, object], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        BertConfig(**change)
