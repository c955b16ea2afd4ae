"""Recipes for tests: a small vocabulary that knows every letter, and text to prepare."""

import random
from collections.abc import Callable
from pathlib import Path

from demo_bert.corpus.making import Progress, make_store
from demo_bert.corpus.recipe import Recipe
from demo_bert.corpus.store import TokenStore, id_dtype_of
from demo_bert.model.vocabulary import build_tokenizer

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *"0123456789.,!?'\"-():;",
    *("the", "rain", "##ing", "##ed", "of", "and"),
]
CASE_RULES = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}


def recipe(*inputs: tuple[str, Path], dedupe: str = "near") -> Recipe:
    """A recipe for the inputs."""
    return Recipe(
        inputs=inputs,
        vocabulary=tuple(VOCABULARY),
        tokenizer=build_tokenizer(VOCABULARY, do_lower_case=True).to_str(),
        case_rules=dict(CASE_RULES),
        vocabulary_name="the test's vocabulary",
        id_dtype=id_dtype_of(len(VOCABULARY)).str,
        language="en",
        dedupe=dedupe,
        command="demo_bert prepare",
    )


def make(
    path: Path,
    wanted: Recipe,
    *,
    num_workers: int = 1,
    stop_reason: Callable[[], str | None] = lambda: None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> TokenStore:
    """Makes a store."""
    return make_store(path, wanted, num_workers=num_workers, stop_reason=stop_reason, report=report)


def prose(seed: int, num_sentences: int) -> str:
    """Sentences of random words, the same for the same seed; a paragraph on each line."""
    words = random.Random(seed)
    sentences = [
        " ".join("".join(words.choices(LETTERS, k=words.randint(2, 8))) for _ in range(9))
        for _ in range(num_sentences)
    ]
    lines = [sentences[at : at + 3] for at in range(0, num_sentences, 3)]
    return "".join(" ".join(f"{one.capitalize()}." for one in line) + "\n" for line in lines)


def write_books(directory: Path, num_books: int, *, num_sentences: int = 30) -> Path:
    """A directory of books."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(num_books):
        text = prose(number, num_sentences)
        (directory / f"book-{number:03d}.txt").write_text(text, encoding="utf-8")
    return directory


def files_of(path: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        one.relative_to(path).as_posix(): one.read_bytes()
        for one in sorted(path.rglob("*"))
        if one.is_file()
    }


def decoded(store: TokenStore) -> list[list[str]]:
    """Documents as sentences of joined pieces."""
    found = []
    for shard in store.shards:
        ids, ends = shard.ids.tolist(), [0, *shard.sentence_ends.tolist()]
        sentences = [
            " ".join(VOCABULARY[one] for one in ids[a:b]).replace(" ##", "")
            for a, b in zip(ends, ends[1:], strict=False)
        ]
        limits = [0, *shard.document_ends.tolist()]
        found += [sentences[a:b] for a, b in zip(limits, limits[1:], strict=False)]
    return found
