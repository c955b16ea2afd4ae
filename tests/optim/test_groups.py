"""Which parameters decay."""

from demo_bert.model.bert import BertConfig
from demo_bert.model.heads import PreTrainer, SequenceClassifier, SpanPredictor
from demo_bert.optim.groups import decays, split_by_decay

CONFIG = BertConfig(
    vocab_size=9, hidden_size=4, num_hidden_layers=2, num_attention_heads=1, intermediate_size=8
)


def test_in_our_models_what_has_one_dimension_does_not_decay() -> None:
    models = (SequenceClassifier(CONFIG, 2), SpanPredictor(CONFIG), PreTrainer(CONFIG))
    for model in models:
        for name, parameter in model.named_parameters():
            assert decays(name) == (parameter.dim() > 1), name


def test_the_two_lists_make_up_the_whole_in_its_order() -> None:
    names = ["b.weight", "b.bias", "a.norm.weight", "a.weight", "mlm.bias"]
    assert split_by_decay(iter(names)) == (
        ["b.weight", "a.weight"],
        ["b.bias", "a.norm.weight", "mlm.bias"],
    )
    assert split_by_decay([]) == ([], [])


def test_names_that_only_look_alike_decay() -> None:
    assert decays("normal.weight")
    assert decays("biased.weight")
    assert decays("unbiased")
