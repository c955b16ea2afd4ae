"""How long windows take: ours beside the published algorithm in pure Python.

    python benchmarks/squad_featurisation.py FILE.json[.xz] --questions 1000 --rounds 3

Both make the windows of the same questions (length 384, stride 128, questions of 64 tokens), in
turn; the ratio is that of the medians. The rows of both are compared first: equal ids in the same
order. Ours is timed from texts to rows in memory, without the cache.

The baseline is written from the description of the published code (`read_squad_examples`,
`convert_examples_to_features`, `tokenization.py`): passages into words character by character; each
word of each question's passage cleaned, split and cut into pieces by passes over its characters;
rows padded with mask and segments; the map to words and the maximum-context flag of every token.
As there, nothing is kept from one question to the next.
"""

import argparse
import statistics
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

from demo_bert.data.packing import Example
from demo_bert.data.windows import Asked, Windows, WindowShape, make_windows
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary
from demo_bert.tasks.spans.questions import Question, read_questions

SHAPE = WindowShape(384)
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_space(character: str) -> bool:
    """White space as the published tokenizer sees it."""
    return character in " \t\n\r" or unicodedata.category(character) == "Zs"


def is_control(character: str) -> bool:
    """Control characters, without the white space among them."""
    return character not in "\t\n\r" and unicodedata.category(character).startswith("C")


def is_sign(character: str) -> bool:
    """Punctuation: all ASCII that is neither letter, digit nor space, and Unicode's."""
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")


def is_ideograph(character: str) -> bool:
    """Signs that are words of their own."""
    code = ord(character)
    return any(low <= code <= high for low, high in IDEOGRAPHS)


def basic_tokens(text: str) -> list[str]:
    """Words and signs in lower case, accents removed; a pass over the text for each rule."""
    cleaned: list[str] = []
    for character in text:
        if ord(character) in (0, 0xFFFD) or is_control(character):
            continue
        cleaned.append(" " if is_space(character) else character)
    spaced: list[str] = []
    for character in cleaned:
        spaced += [" ", character, " "] if is_ideograph(character) else [character]
    tokens: list[str] = []
    for word in "".join(spaced).split():
        bare = [
            c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn"
        ]
        parts: list[list[str]] = []
        start_new = True
        for character in bare:
            if is_sign(character):
                parts.append([character])
                start_new = True
            else:
                if start_new:
                    parts.append([])
                start_new = False
                parts[-1].append(character)
        tokens += ["".join(part) for part in parts]
    return " ".join(tokens).split()


def word_pieces(token: str, ids: dict[str, int]) -> list[str]:
    """The longest piece first."""
    if len(token) > 100:
        return ["[UNK]"]
    pieces: list[str] = []
    start = 0
    while start < len(token):
        end = len(token)
        while start < end:
            piece = token[start:end] if start == 0 else "##" + token[start:end]
            if piece in ids:
                break
            end -= 1
        if start == end:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def tokenized(text: str, ids: dict[str, int]) -> list[str]:
    """A text in pieces."""
    return [piece for token in basic_tokens(text) for piece in word_pieces(token, ids)]


def is_max_context(spans: list[tuple[int, int]], current: int, position: int) -> bool:
    """Whether a window is the one that shows the most context around a token."""
    best_score, best = None, None
    for number, (start, length) in enumerate(spans):
        end = start + length - 1
        if position < start or position > end:
            continue
        score = min(position - start, end - position) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, number
    return current == best


def published(questions: list[Question], ids: dict[str, int]) -> list[list[int]]:
    """The windows as the published algorithm makes them; ids without the padding."""
    rows: list[list[int]] = []
    for one in questions:
        words: list[str] = []
        word_at: list[int] = []
        start_new = True
        for character in one.context:
            if character in " \t\r\n\u202f":
                start_new = True
            else:
                if start_new:
                    words.append("")
                start_new = False
                words[-1] += character
            word_at.append(len(words) - 1)
        query = tokenized(one.question, ids)[: SHAPE.max_query_length]
        pieces: list[str] = []
        word_of: list[int] = []
        for number, word in enumerate(words):
            for piece in tokenized(word, ids):
                word_of.append(number)
                pieces.append(piece)
        room = SHAPE.max_seq_length - len(query) - 3
        spans: list[tuple[int, int]] = []
        start = 0
        while start < len(pieces):
            length = min(len(pieces) - start, room)
            spans.append((start, length))
            if start + length == len(pieces):
                break
            start += min(length, SHAPE.doc_stride)
        for number, (start, length) in enumerate(spans):
            tokens, segments = ["[CLS]"], [0]
            to_word: dict[int, int] = {}
            max_context: dict[int, bool] = {}
            for piece in [*query, "[SEP]"]:
                tokens.append(piece)
                segments.append(0)
            for place in range(start, start + length):
                to_word[len(tokens)] = word_of[place]
                max_context[len(tokens)] = is_max_context(spans, number, place)
                tokens.append(pieces[place])
                segments.append(1)
            tokens.append("[SEP]")
            segments.append(1)
            input_ids = [ids[token] for token in tokens]
            mask = [1] * len(input_ids)
            while len(input_ids) < SHAPE.max_seq_length:
                input_ids.append(0)
                mask.append(0)
                segments.append(0)
            rows.append(input_ids[: len(tokens)])
    return rows


def ours(questions: list[Question], vocabulary: list[str]) -> list[Example]:
    """The windows as the program makes them, all rows put together."""
    tokenizer = build_tokenizer(vocabulary, do_lower_case=True)
    passages: dict[str, int] = {}
    asked = [
        Asked(one.id, one.question, passages.setdefault(one.context, len(passages)))
        for one in questions
    ]
    return list(Windows(make_windows(list(passages), asked, tokenizer=tokenizer, shape=SHAPE)))


def timed(make: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    make()
    return time.perf_counter() - started


def main() -> None:
    """Prints the comparison and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    questions = read_questions(arguments.file).questions[: arguments.questions]
    vocabulary = read_vocabulary(STANDARD_VOCABULARY)
    ids = {entry: place for place, entry in enumerate(vocabulary)}
    theirs = published(questions, ids)
    rows = ours(questions, vocabulary)
    equal = [row.input_ids.tolist() == other for row, other in zip(rows, theirs, strict=True)]
    print(f"{len(questions)} questions, {len(rows)} windows, {sum(equal)} of them equal")
    pairs = [
        (timed(lambda: ours(questions, vocabulary)), timed(lambda: published(questions, ids)))
        for _ in range(arguments.rounds)
    ]
    ratios = [baseline / own for own, baseline in pairs]
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    print(f"ratio {medians[1] / medians[0]:.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
