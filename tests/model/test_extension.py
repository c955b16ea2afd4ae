"""A grown vocabulary: old rows stay, new ones are the mean of their pieces."""

import torch

from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.convert import LoadedWeights, fill, read_model_directory, save_model_directory
from demo_bert.model.extension import extend_weights, is_extension
from demo_bert.model.heads import PreTrainer
from demo_bert.model.vocabulary import CaseRules

OLD = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sea", "##shore", "wind", "##y"]
NEW = [*OLD, "seashore", "windy", "quay"]


def loaded(tmp_path) -> LoadedWeights:
    config = BertConfig(
        vocab_size=len(OLD),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    model = PreTrainer(config)
    initialise(model, initializer_range=0.5, seed=1)
    with torch.no_grad():
        model.mlm.bias.copy_(torch.arange(len(OLD)))
    save_model_directory(
        tmp_path, model, config=config, vocabulary=OLD, case_rules=CaseRules(do_lower_case=True)
    )
    return read_model_directory(tmp_path)


def test_new_entries_start_from_the_mean_of_their_old_pieces(tmp_path) -> None:
    before = loaded(tmp_path)
    after = extend_weights(before, old=OLD, new=NEW)
    assert after.config.vocab_size == len(NEW)
    rows, grown = before.tensors["embeddings.word.weight"], after.tensors["embeddings.word.weight"]
    assert torch.equal(grown[: len(OLD)], rows)
    torch.testing.assert_close(grown[len(OLD)], (rows[5] + rows[6]) / 2)
    torch.testing.assert_close(grown[len(OLD) + 1], (rows[7] + rows[8]) / 2)
    assert torch.equal(grown[len(OLD) + 2], rows[1]), "of an unknown word: [UNK]"
    assert after.head["mlm.bias"][len(OLD) :].tolist() == [5.5, 7.5, 1.0]
    model = PreTrainer(after.config)
    report = fill(model, after)
    assert (report.missing, report.unexpected) == ((), ())


def test_only_a_vocabulary_with_further_entries_is_an_extension() -> None:
    assert is_extension(OLD, NEW)
    assert not is_extension(OLD, OLD)
    assert not is_extension(OLD, ["first", *OLD])
