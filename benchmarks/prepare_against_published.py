"""Text to store against the published way, one core, interleaved; and bytes a token of both.

    PYTHONPATH=src python benchmarks/prepare_against_published.py FILE --rounds 3

FILE is plain text with a paragraph on a line or WikiExtractor's output, unpacked. Each round takes
other megabytes of it. The published way gets sentences that are split already, and its time ends
when the records of length 128, dupe factor 1, are made and compressed; ours has everything, from
the file to the finished store, with a cache of words that is empty at the start of each round.
Seconds are of the process's CPU, as the machine may be busy.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from demo_bert.corpus import sources
from demo_bert.corpus.document import Tally
from demo_bert.corpus.fingerprints import signatures_of
from demo_bert.corpus.making import make_store
from demo_bert.corpus.recipe import Recipe
from demo_bert.corpus.sentences import split
from demo_bert.corpus.store import id_dtype_of
from demo_bert.corpus.word_pieces import table_of
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary
from masked_records import (  # type: ignore[missing-import]  # it lies beside this file
    PythonTokenizer,
    compressed_size,
    make_records,
    read_documents,
)

VOCABULARY = read_vocabulary(STANDARD_VOCABULARY)


def main() -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours-mb", type=float, default=16)
    parser.add_argument("--published-mb", type=float, default=1)
    given = parser.parse_args()
    content = given.file.read_bytes()
    size = int(given.ours_mb * 1e6)
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(given.rounds):
            text = Path(directory) / f"text-{number}"
            text.write_bytes(content[number * size : (number + 1) * size])
            lines = _sentence_lines(text, int(given.published_mb * 1e6))
            published = _published(lines, is_both_phases=number == 0)
            ours = _ours(text, Path(directory) / f"store-{number}")
            rounds.append({**published, **ours})
    ratios = [one["ours_mb_per_s"] / one["published_mb_per_s"] for one in rounds]
    print(
        json.dumps(
            {"ratio_median": statistics.median(ratios), "ratios": ratios, "rounds": rounds},
            indent=2,
        )
    )


def _sentence_lines(text: Path, most_bytes: int) -> list[str]:
    """About so many bytes of sentences, a blank line after each document."""
    lines: list[str] = []
    size = 0
    for piece in sources.plan([("text", text)], tally=Tally()):
        for paragraphs in sources.read(piece, tally=Tally()):
            sentences = split(paragraphs, language="en").sentences
            lines += [*sentences, ""]
            size += sum(len(one.encode()) for one in sentences)
            if size >= most_bytes:
                return lines
    return lines


def _published(lines: list[str], *, is_both_phases: bool) -> dict[str, float]:
    ids = {entry: place for place, entry in enumerate(VOCABULARY)}
    num_bytes = sum(len(line.encode()) + 1 for line in lines)
    begin = time.process_time()
    documents = read_documents(lines, PythonTokenizer(VOCABULARY))
    records = make_records(documents, length=128, ids=ids, draw=random.Random(0))
    compressed_size(records, length=128)
    seconds = time.process_time() - begin
    found = {"published_mb_per_s": num_bytes / seconds / 1e6}
    if is_both_phases:
        tokens = sum(len(sentence) for document in documents for sentence in document)
        both = 0
        for length in (128, 512):
            records = [
                record
                for repeat in range(5)
                for record in make_records(
                    documents, length=length, ids=ids, draw=random.Random(repeat)
                )
            ]
            both += compressed_size(records, length=length)
        found["published_bytes_a_token"] = both / tokens
    return found


def _ours(text: Path, path: Path) -> dict[str, float]:
    table_of.cache_clear()
    signatures_of.cache_clear()
    begin = time.process_time()
    recipe = Recipe(
        inputs=(("text", text),),
        vocabulary=tuple(VOCABULARY),
        tokenizer=build_tokenizer(VOCABULARY, do_lower_case=True).to_str(),
        case_rules={},
        vocabulary_name="standard",
        id_dtype=id_dtype_of(len(VOCABULARY)).str,
        language="en",
        dedupe="near",
        command="",
    )
    store = make_store(
        path, recipe, num_workers=1, stop_reason=lambda: None, report=lambda progress: None
    )
    seconds = time.process_time() - begin
    num_bytes = sum(one.stat().st_size for one in path.iterdir() if one.suffix == ".bin")
    return {
        "ours_mb_per_s": text.stat().st_size / seconds / 1e6,
        "ours_bytes_a_token": num_bytes / store.num_tokens,
    }


if __name__ == "__main__":
    main()
