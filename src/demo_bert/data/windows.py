"""Questions and passages -> windows: rows `[CLS] question [SEP] part of the passage [SEP]`.

A passage that does not fit is seen through several windows, each beginning `doc_stride` tokens
after the one before. Each passage is tokenised once, in parallel; rows are put together when they
are asked for, from arrays that can be mapped from disk.

Shapes: P passages, Q questions, W windows, n tokens of a passage.

Source:
    `run_squad.py` of the published code (`convert_examples_to_features`); tokens of the answer are
    found by character offsets instead of by words.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from demo_bert.data.packing import Example
from demo_bert.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_VERSION = "1"  # of the arrays' meaning; a new one makes all kept arrays strangers
_AT_ONCE = 512
_SURROGATES = re.compile("[\ud800-\udfff]")
_BESIDE_PASSAGE = 3  # [CLS] and two [SEP]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the windows need it.

    Attributes:
        name: For messages.
        question: Its text.
        passage: Number of its passage.
        start: First character of the answer in the passage; -1 where there is none.
        end: The character after its last one.
    """

    name: str
    question: str
    passage: int
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True)
class WindowShape:
    """How passages are cut.

    Attributes:
        max_seq_length: Longest row, in tokens.
        doc_stride: Tokens from the begin of a window to that of the next.
        max_query_length: Longest question, in tokens; what is longer is cut.
    """

    max_seq_length: int
    doc_stride: int = 128
    max_query_length: int = 64


class Windows(Sequence[Example]):
    """Rows made of arrays; a row's label is (start, end), places in the row, (0, 0) for none.

    Args:
        arrays: From `make_windows`.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._rows = arrays["rows"]  # (W, 6): question, passage, first, count, start, end
        self._ids, self._bounds = arrays["passage_ids"], arrays["passage_bounds"]
        self._query_ids, self._query_bounds = arrays["question_ids"], arrays["question_bounds"]
        self._cls, self._sep = (arrays["special"][place : place + 1] for place in (0, 1))

    def __len__(self) -> int:
        """W."""
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        """A row, or several."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        question, passage, first, count, start, end = self._rows[place].tolist()
        query = self._query_ids[self._query_bounds[question] : self._query_bounds[question + 1]]
        begin = self._bounds[passage] + first
        part = self._ids[begin : begin + count]
        ids = np.concatenate([self._cls, query, self._sep, part, self._sep]).astype(np.int32)
        return Example(ids, len(query) + 2, (start, end))

    def __iter__(self) -> Iterator[Example]:
        """All rows."""
        return (self[place] for place in range(len(self)))

    @property
    def num_questions(self) -> int:
        """Q."""
        return len(self._query_bounds) - 1

    def of_question(self, question: int) -> slice:
        """The windows of a question.

        Args:
            question: Its number.

        Returns:
            Their places.
        """
        bounds = np.searchsorted(self._rows[:, 0], [question, question + 1])
        return slice(int(bounds[0]), int(bounds[1]))

    def parts(self, windows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Which tokens of the passage windows show.

        Args:
            windows: From `of_question`.

        Returns:
            First token and number of tokens, (W,) each.
        """
        return self._rows[windows, 2], self._rows[windows, 3]

    def shift(self, question: int) -> int:
        """Where the passage begins in the rows of a question.

        Args:
            question: Its number.

        Returns:
            The place of its first token.
        """
        return int(self._query_bounds[question + 1] - self._query_bounds[question]) + 2

    def offsets(self, windows: slice) -> np.ndarray:
        """Where the tokens of a passage stand in its text.

        Args:
            windows: Of a question, from `of_question`.

        Returns:
            (n, 2), first character and the one after the last.
        """
        passage = int(self._rows[windows.start, 1])
        begin, end = self._bounds[passage], self._bounds[passage + 1]
        return self._arrays["passage_offsets"][begin:end]


def windows_key(
    passages: Sequence[str],
    asked: Sequence[Asked],
    *,
    tokenizer: "Tokenizer",
    shape: WindowShape,
) -> str:
    """What windows are made of, as a hash.

    Args:
        passages: The texts.
        asked: The questions.
        tokenizer: Vocabulary and case rules count.
        shape: How passages are cut.

    Returns:
        64 hexadecimal digits: equal where the windows are.
    """
    _plain(tokenizer)
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)

    for part in (_VERSION, repr(shape), tokenizer.to_str(), str(len(passages)), *passages):
        add(part)
    for one in asked:
        add(f"{one.passage} {one.start} {one.end}")
        add(one.question)
    return digest.hexdigest()


def make_windows(
    passages: Sequence[str],
    asked: Sequence[Asked],
    *,
    tokenizer: "Tokenizer",
    shape: WindowShape,
) -> dict[str, np.ndarray]:
    """The arrays that `Windows` reads.

    Args:
        passages: The texts.
        asked: The questions, in the order that their windows get.
        tokenizer: The model's.
        shape: How passages are cut.

    Returns:
        Arrays by name.

    Raises:
        UsageError: A question leaves no room for the passage.
    """
    _plain(tokenizer)
    ids, offsets, bounds = _encoded(passages, tokenizer)
    query_ids, query_bounds = _queries([one.question for one in asked], tokenizer, shape=shape)
    rows = _rows(asked, offsets, bounds, query_bounds=query_bounds, shape=shape)
    special = [tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")]
    return {
        "rows": rows,
        "passage_ids": ids,
        "passage_offsets": offsets,
        "passage_bounds": bounds,
        "question_ids": query_ids,
        "question_bounds": query_bounds,
        "special": np.array(special, dtype=np.int32),
    }


def _rows(
    asked: Sequence[Asked],
    offsets: np.ndarray,
    bounds: np.ndarray,
    *,
    query_bounds: np.ndarray,
    shape: WindowShape,
) -> np.ndarray:
    """(W, 6): question, passage, first token shown, how many, start and end of the answer."""
    queries = np.diff(query_bounds)  # (Q,)
    room = _room(asked, queries, shape=shape)  # (Q,)
    passage = np.array([one.passage for one in asked], dtype=np.int64)  # (Q,)
    tokens = np.diff(bounds)[passage]  # (Q,)
    step = np.minimum(room, shape.doc_stride)
    num = 1 + np.maximum(0, -(-(tokens - room) // step))  # (Q,) windows of each question
    question = np.repeat(np.arange(len(asked)), num)  # (W,)
    number = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)  # of its question
    first = number * step[question]
    count = np.minimum(room[question], tokens[question] - first)
    answer = _answer_tokens(asked, offsets, bounds)[question]  # (W, 2)
    is_inside = (answer[:, 0] >= first) & (answer[:, 1] < first + count)
    places = answer + (queries[question] + 2 - first)[:, None]
    labels = np.where((is_inside & (answer[:, 0] >= 0))[:, None], places, 0)  # (W, 2)
    return np.column_stack([question, passage[question], first, count, labels]).astype(np.int32)


def _room(asked: Sequence[Asked], queries: np.ndarray, *, shape: WindowShape) -> np.ndarray:
    """How many tokens of the passage fit beside each question.

    Raises:
        UsageError: None do.
    """
    room = shape.max_seq_length - queries - _BESIDE_PASSAGE
    if len(asked) and room.min() < 1:
        place = int(room.argmin())
        needed = int(queries[place]) + _BESIDE_PASSAGE + 1
        raise UsageError(
            f"{asked[place].name}: the question has {queries[place]} tokens, which leaves no room"
            f" for the passage; -s/--max-seq-length must be at least {needed}, it is"
            f" {shape.max_seq_length}"
        )
    return room


def _plain(tokenizer: "Tokenizer") -> None:
    """Undoes what other users of the tokenizer may have set."""
    tokenizer.no_truncation()
    tokenizer.no_padding()


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which are no characters; lengths stay."""
    return _SURROGATES.sub("\ufffd", text)


def _encoded(
    texts: Sequence[str], tokenizer: "Tokenizer"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, offsets (n, 2) and where each text's tokens begin."""
    ids: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    offsets: list[np.ndarray] = [np.zeros((0, 2), dtype=np.int32)]
    lengths = [0]
    for begin in range(0, len(texts), _AT_ONCE):
        part = [_clean(text) for text in texts[begin : begin + _AT_ONCE]]
        for encoded in tokenizer.encode_batch(part, add_special_tokens=False):
            ids.append(np.array(encoded.ids, dtype=np.int32))
            offsets.append(np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2))
            lengths.append(len(ids[-1]))
    return np.concatenate(ids), np.concatenate(offsets), np.cumsum(lengths)


def _queries(
    questions: Sequence[str], tokenizer: "Tokenizer", *, shape: WindowShape
) -> tuple[np.ndarray, np.ndarray]:
    """Ids, cut to the longest question, and where each question's begin."""
    ids: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    lengths = [0]
    for begin in range(0, len(questions), _AT_ONCE):
        part = [_clean(text) for text in questions[begin : begin + _AT_ONCE]]
        for encoded in tokenizer.encode_batch_fast(part, add_special_tokens=False):
            ids.append(np.array(encoded.ids[: shape.max_query_length], dtype=np.int32))
            lengths.append(len(ids[-1]))
    return np.concatenate(ids), np.cumsum(lengths)


def _answer_tokens(asked: Sequence[Asked], offsets: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(Q, 2): first and last token of each answer in its passage; -1 where there is none."""
    found = np.full((len(asked), 2), -1, dtype=np.int64)
    for place, one in enumerate(asked):
        if one.start >= 0:
            part = offsets[bounds[one.passage] : bounds[one.passage + 1]]
            first = np.searchsorted(part[:, 1], one.start, side="right")
            last = np.searchsorted(part[:, 0], one.end, side="left") - 1
            if first <= last:
                found[place] = first, last
    return found
