"""WordPiece vocabularies, and the tokenizer that is made of one."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.errors import DataError, ModelError
from demo_bert.files import read_text, write_text
from demo_bert.model.json_object import read_json_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
STANDARD_VOCABULARY = Path(__file__).with_name("bert-base-uncased-vocab.txt")
"""Google's uncased English vocabulary, which most published BERTs share."""
STANDARD_VOCAB_SIZE = 30522

_NAMES = ("vocab.txt", "tokenizer.json")
_TOKENIZER_CLASSES = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "PreTrainedTokenizer",
    "TokenizersBackend",
)
_CASE_SETTINGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_UPPER_CASE = re.compile(r"(##)?[A-Z]")


@dataclasses.dataclass(frozen=True)
class CaseRules:
    """What a tokenizer does to text before it looks for words."""

    do_lower_case: bool
    """Whether text is put into lower case."""
    strip_accents: bool | None = None
    """Whether accents are removed; None means as `do_lower_case`."""
    tokenize_chinese_chars: bool = True
    """Whether each Chinese character is a word of its own."""


def read_vocabulary(path: Path) -> list[str]:
    """The entries of a vocabulary; an entry's place is its id.

    Args:
        path: A vocab.txt (one entry per line, UTF-8, lines end in a line feed), or a
            tokenizer.json of the `tokenizers` library that holds a WordPiece vocabulary.

    Returns:
        The entries in the order of their ids.

    Raises:
        ModelError: The file is missing or empty, is not UTF-8 (the position is named), has an
            entry twice, or lacks one of BERT's special tokens.
    """
    entries = _from_json(path) if path.suffix == ".json" else _from_lines(path)
    if not entries:
        raise ModelError(f"vocabulary {path}: is empty; one entry per line is needed")
    first_places: dict[str, int] = {}
    for place, entry in enumerate(entries):
        if not entry:
            raise ModelError(f"vocabulary {path}: entry {place} (line {place + 1}) is empty")
        first = first_places.setdefault(entry, place)
        if first != place:
            raise ModelError(
                f"vocabulary {path}: {entry!r} stands there twice, as entries {first} and {place}"
                f" (lines {first + 1} and {place + 1}); ids must be unique"
            )
    lacking = [token for token in SPECIAL_TOKENS if token not in first_places]
    if lacking:
        raise ModelError(
            f"vocabulary {path}: has no {', '.join(lacking)}; a BERT vocabulary has all of"
            f" {', '.join(SPECIAL_TOKENS)}"
        )
    return entries


_MOST_SPARE_ROWS = 255


def check_vocabulary(vocabulary: Sequence[str], vocab_size: int) -> None:
    """Refuses a vocabulary whose ids the word embeddings do not have.

    Args:
        vocabulary: The entries.
        vocab_size: Rows of the word embeddings. Some more rows than entries are allowed: published
            models fill them up to a multiple of 8, 64 or 128.

    Raises:
        ModelError: The vocabulary is larger, or smaller by more than that.
    """
    if not vocab_size - _MOST_SPARE_ROWS <= len(vocabulary) <= vocab_size:
        raise ModelError(
            f"the vocabulary has {len(vocabulary)} entries, the model's vocab_size is {vocab_size};"
            " they do not belong together: take the vocabulary that came with the weights"
        )


def find_vocabulary(directory: Path, vocab_size: int) -> Path | None:
    """The vocabulary beside a model's weights.

    Args:
        directory: Where the weights lie.
        vocab_size: Rows of the word embeddings.

    Returns:
        vocab.txt, else tokenizer.json, or None: the size is the standard vocabulary's, which is
        meant then.

    Raises:
        ModelError: There is none, and the size is another one.
    """
    for name in _NAMES:
        if (directory / name).is_file():
            return directory / name
    if vocab_size == STANDARD_VOCAB_SIZE:
        return None
    raise ModelError(
        f"{directory}: has no {' or '.join(_NAMES)}; with vocab_size {vocab_size} it is not"
        f" the standard vocabulary ({STANDARD_VOCAB_SIZE} entries): put the model's own there"
    )


def read_case_rules(directory: Path, vocabulary: Sequence[str]) -> CaseRules:
    """What a model's tokenizer does to text, as the files beside its weights say.

    Args:
        directory: Where tokenizer_config.json and tokenizer.json lie, if there are any; the first
            one wins, as in `transformers`.
        vocabulary: The entries; they tell the case where no file does.

    Returns:
        The rules.

    Raises:
        ModelError: A file is damaged, or says that the tokenizer is none of BERT's.
    """
    settings: dict[str, object] = {}
    if (directory / "tokenizer.json").is_file():
        normalizer = read_json_object(directory / "tokenizer.json").get("normalizer")
        if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
            settings["do_lower_case"] = normalizer.get("lowercase")
            settings["strip_accents"] = normalizer.get("strip_accents")
            settings["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars")
    path = directory / "tokenizer_config.json"
    if path.is_file():
        content = read_json_object(path)
        kind = str(content.get("tokenizer_class") or "BertTokenizer")
        if kind.removesuffix("Fast") not in _TOKENIZER_CLASSES:
            raise ModelError(f"{path}: tokenizer_class is {kind}; only BERT's WordPiece is known")
        settings |= {name: content[name] for name in _CASE_SETTINGS if name in content}
    for name, value in settings.items():
        if value is not None and not isinstance(value, bool):
            raise ModelError(
                f"{directory}: the tokenizer's {name} is {value!r}; true, false or null is needed"
            )
    lower, accents, chinese = (settings.get(name) for name in _CASE_SETTINGS)
    return CaseRules(
        do_lower_case=is_lower_case(vocabulary) if lower is None else bool(lower),
        strip_accents=None if accents is None else bool(accents),
        tokenize_chinese_chars=chinese is not False,
    )


def is_lower_case(vocabulary: Sequence[str]) -> bool:
    """Whether a vocabulary was made from text in lower case, where no file says so.

    Args:
        vocabulary: The entries.

    Returns:
        False where more than one entry in a hundred begins with A to Z (in Google's cased
        vocabularies every fourth or so does; in the uncased ones none).

    Example:
        >>> is_lower_case(["[PAD]", "the", "##s"]), is_lower_case(["[PAD]", "The", "the", "##s"])
        (True, False)
    """
    return 100 * sum(bool(_UPPER_CASE.match(entry)) for entry in vocabulary) <= len(vocabulary)


def build_tokenizer(
    vocabulary: Sequence[str],
    *,
    do_lower_case: bool,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> "Tokenizer":
    """BERT's tokenizer: cleaning, splitting at spaces and punctuation, WordPiece.

    Args:
        vocabulary: The entries, an entry's place being its id; BERT's special tokens among them.
        do_lower_case: As in `CaseRules`, like the next two.
        strip_accents: None means as `do_lower_case`.
        tokenize_chinese_chars: Whether each Chinese character is a word of its own.

    Returns:
        A tokenizer without truncation and padding; `encode(a, b)` gives
        `[CLS] a [SEP] b [SEP]` with type ids 0 and 1.

    Source:
        Google's tokenization.py; the longest word is 100 characters as in Hugging Face's
        tokenizers (200 in Google's: a word of 101 to 200 characters is [UNK] here).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    ids = {entry: place for place, entry in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return tokenizer


def save_tokenizer(
    directory: Path, vocabulary: Sequence[str], *, case_rules: CaseRules, max_length_tokens: int
) -> None:
    """Saves vocab.txt, tokenizer.json and the two files that `transformers` reads beside them.

    Args:
        directory: The destination.
        vocabulary: The entries in the order of their ids.
        case_rules: What is done to text.
        max_length_tokens: The longest example that the model takes.

    Raises:
        DiskError: A file cannot be written.
    """
    special = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
    settings = {
        "tokenizer_class": "BertTokenizer",
        **dataclasses.asdict(case_rules),
        "model_max_length": max_length_tokens,
        **special,
    }
    tokenizer = build_tokenizer(vocabulary, **dataclasses.asdict(case_rules))
    write_text(directory / "vocab.txt", "".join(f"{entry}\n" for entry in vocabulary))
    write_text(directory / "tokenizer.json", tokenizer.to_str(pretty=True))
    write_text(directory / "special_tokens_map.json", json.dumps(special, indent=2) + "\n")
    write_text(directory / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")


def _from_lines(path: Path) -> list[str]:
    """Entries of a vocab.txt; Unicode's other line separators may be entries of their own."""
    try:
        lines = read_text(path).split("\n")
    except DataError as error:
        raise ModelError(f"vocabulary {error}") from error
    lines = [line.removesuffix("\r") for line in lines]
    return lines[:-1] if lines[-1] == "" else lines


def _from_json(path: Path) -> list[str]:
    content = read_json_object(path)
    model, added = content.get("model"), content.get("added_tokens")
    if not isinstance(model, dict):
        raise ModelError(f"vocabulary {path}: not a tokenizer.json with a vocabulary")
    kind = model.get("type", "WordPiece")
    if kind != "WordPiece":
        raise ModelError(f"vocabulary {path}: a {kind} tokenizer; BERT's is WordPiece")
    try:
        ids = dict(model["vocab"])
        for token in added if isinstance(added, list) else ():
            ids[token["content"]] = token["id"]
        entries = {number: entry for entry, number in ids.items()}
        return [entries[number] for number in range(len(ids))]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"vocabulary {path}: its ids are not whole numbers from 0 on, each of one entry"
        ) from error
