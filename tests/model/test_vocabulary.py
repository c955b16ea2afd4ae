"""Vocabularies are read strictly, and the tokenizer made of one is BERT's."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from demo_bert.errors import ModelError
from demo_bert.files import sha256_of
from demo_bert.model.vocabulary import (
    SPECIAL_TOKENS,
    STANDARD_VOCAB_SIZE,
    STANDARD_VOCABULARY,
    CaseRules,
    build_tokenizer,
    check_vocabulary,
    find_vocabulary,
    is_lower_case,
    read_case_rules,
    read_vocabulary,
    save_tokenizer,
)

Encoded = Mapping[str, list[int]]
CAFE = "caf\u00e9"
VOCABULARY = [
    *SPECIAL_TOKENS,
    *("the", "cat", "##s", "The", "cafe", CAFE, "\u4e2d", "\u56fd", "!", "\u2028"),
]


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def test_the_standard_vocabulary_is_googles() -> None:
    vocabulary = read_vocabulary(STANDARD_VOCABULARY)
    assert len(vocabulary) == STANDARD_VOCAB_SIZE
    assert [vocabulary.index(token) for token in SPECIAL_TOKENS] == [0, 100, 101, 102, 103]
    digest = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
    assert sha256_of(STANDARD_VOCABULARY) == digest
    assert is_lower_case(vocabulary)


def test_an_entrys_line_is_its_id(tmp_path: Path) -> None:
    assert read_vocabulary(write_lines(tmp_path / "vocab.txt", *VOCABULARY)) == VOCABULARY
    windows = write_lines(tmp_path / "vocab.txt", *(f"{entry}\r" for entry in VOCABULARY))
    assert read_vocabulary(windows) == VOCABULARY
    (tmp_path / "vocab.txt").write_text("\ufeff" + "\n".join(VOCABULARY), encoding="utf-8")
    assert read_vocabulary(tmp_path / "vocab.txt") == VOCABULARY


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "entry 0"),
        ("\n".join([*VOCABULARY, "", "dog"]).encode(), f"line {len(VOCABULARY) + 1}"),
        ("\n".join([*VOCABULARY, "cat"]).encode(), "'cat' stands there twice, as entries 6 and 15"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe", r"has no \[MASK\]"),
        (b"one\ntwo\n", r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        (b"[PAD]\n\xff\xfe\n", r"not UTF-8 at byte 6 \(line 2"),
    ],
)
def test_a_faulty_vocabulary_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_vocabulary(tmp_path / "vocab.txt")


def test_a_missing_vocabulary_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "vocab.txt"):
        with pytest.raises(ModelError, match="vocabulary"):
            read_vocabulary(path)


def test_the_vocabulary_of_a_tokenizer_json_is_read(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(VOCABULARY, do_lower_case=True)
    tokenizer.add_tokens(["covid"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_vocabulary(tmp_path / "tokenizer.json") == [*VOCABULARY, "covid"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ("{}", "not a tokenizer.json"),
        ('{"model": {"type": "Unigram", "vocab": []}}', "a Unigram tokenizer"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": 1}}}', "ids"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 0}}}', "ids"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": "0"}}}', "ids"),
        ('{"model": {"type": "WordPiece", "vocab": 7}}', "ids"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": 0}}, "added_tokens": [1]}', "ids"),
        ('{"model": {"type": "WordPiece"}}', "ids"),
        ('{"model": {"type": "WordPiece", "vocab": {}}}', "is empty"),
    ],
)
def test_a_faulty_tokenizer_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_vocabulary(tmp_path / "tokenizer.json")


def test_the_vocabulary_beside_the_weights_is_found(tmp_path: Path) -> None:
    assert find_vocabulary(tmp_path, STANDARD_VOCAB_SIZE) is None
    with pytest.raises(ModelError, match=r"no vocab\.txt or tokenizer\.json; with vocab_size 77"):
        find_vocabulary(tmp_path, 77)
    (tmp_path / "tokenizer.json").touch()
    assert find_vocabulary(tmp_path, 77) == tmp_path / "tokenizer.json"
    (tmp_path / "vocab.txt").touch()
    assert find_vocabulary(tmp_path, 77) == tmp_path / "vocab.txt"


def test_a_vocabulary_larger_than_the_embeddings_is_refused() -> None:
    check_vocabulary(VOCABULARY, len(VOCABULARY))
    check_vocabulary(VOCABULARY, len(VOCABULARY) + 5)
    check_vocabulary(VOCABULARY, len(VOCABULARY) + 255)
    with pytest.raises(ModelError, match="do not belong together"):
        check_vocabulary(VOCABULARY, len(VOCABULARY) + 1526)  # cased entries, uncased weights
    with pytest.raises(ModelError, match=r"15 entries, the model's vocab_size is 14"):
        check_vocabulary(VOCABULARY, len(VOCABULARY) - 1)


def test_case_rules_come_from_the_files_and_else_from_the_entries(tmp_path: Path) -> None:
    cased = [*SPECIAL_TOKENS, "The", "Cat"]
    assert read_case_rules(tmp_path, VOCABULARY[:8]) == CaseRules(do_lower_case=True)
    assert read_case_rules(tmp_path, cased) == CaseRules(do_lower_case=False)
    tokenizer = build_tokenizer(
        VOCABULARY, do_lower_case=True, strip_accents=False, tokenize_chinese_chars=False
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    from_tokenizer = CaseRules(True, strip_accents=False, tokenize_chinese_chars=False)
    assert read_case_rules(tmp_path, cased) == from_tokenizer
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_case_rules(tmp_path, VOCABULARY) == CaseRules(False, False, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"do_lower_case": "yes"}', "do_lower_case is 'yes'"),
        ('{"tokenizer_class": "XLMRobertaTokenizer"}', "tokenizer_class is XLMRobertaTokenizer"),
        ("?", "not JSON"),
    ],
)
def test_faulty_case_rules_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_case_rules(tmp_path, VOCABULARY)


def test_pairs_are_framed_as_bert_has_them() -> None:
    tokenizer = build_tokenizer(VOCABULARY, do_lower_case=True)
    encoding = tokenizer.encode("The CATS", f"{CAFE}!")
    assert encoding.tokens == ["[CLS]", "the", "cat", "##s", "[SEP]", "cafe", "!", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 0, 1, 1, 1]
    assert tokenizer.encode("\u4e2d\u56fd x [MASK]", add_special_tokens=False).tokens == [
        "\u4e2d",
        "\u56fd",
        "[UNK]",
        "[MASK]",
    ]


def test_case_rules_are_obeyed() -> None:
    def tokens(**rules: bool) -> list[str]:
        return build_tokenizer(VOCABULARY, **rules).encode(f"The {CAFE}").tokens[1:-1]

    assert tokens(do_lower_case=True) == ["the", "cafe"]
    assert tokens(do_lower_case=False) == ["The", CAFE]
    assert tokens(do_lower_case=False, strip_accents=True) == ["The", "cafe"]
    assert tokens(do_lower_case=True, strip_accents=False) == ["the", CAFE]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(
        directory,
        read_vocabulary(STANDARD_VOCABULARY),
        case_rules=CaseRules(do_lower_case=request.param),
        max_length_tokens=77,
    )
    (directory / "config.json").write_text('{"model_type": "bert"}')
    return directory


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=60), other=st.text(min_size=1, max_size=30))
def test_transformers_reads_a_saved_tokenizer_and_gives_the_same_ids(
    ours: Tokenizer, theirs: Callable[[str, str], Encoded], text: str, other: str
) -> None:
    encoding = ours.encode(text, other)
    expected = theirs(text, other)
    assert expected["input_ids"] == encoding.ids
    assert expected["token_type_ids"] == encoding.type_ids


@pytest.fixture(scope="module")
def ours(saved: Path) -> Tokenizer:
    rules = json.loads((saved / "tokenizer_config.json").read_text())
    vocabulary = read_vocabulary(saved / "vocab.txt")
    return build_tokenizer(vocabulary, do_lower_case=rules["do_lower_case"])


@pytest.fixture(scope="module")
def theirs(saved: Path) -> Callable[[str, str], Encoded]:
    transformers = pytest.importorskip("transformers", reason="needs the dev requirement")
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    assert tokenizer.model_max_length == 77
    assert tokenizer.mask_token_id == 103
    return tokenizer


def test_a_saved_vocabulary_comes_back(tmp_path: Path) -> None:
    rules = CaseRules(False, strip_accents=True, tokenize_chinese_chars=False)
    save_tokenizer(tmp_path, VOCABULARY, case_rules=rules, max_length_tokens=5)
    assert read_vocabulary(tmp_path / "vocab.txt") == VOCABULARY
    assert read_vocabulary(tmp_path / "tokenizer.json") == VOCABULARY
    assert read_case_rules(tmp_path, VOCABULARY) == rules
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_case_rules(tmp_path, VOCABULARY) == rules
