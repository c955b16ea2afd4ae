"""Questions on passages, read from the official SQuAD JSON or the hub's Parquet.

What is wrong is named by its place: article, paragraph and question are counted from 1. Standard
library alone at import.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_bert.data.packed import check_is_file, reason_of, unpacked_text
from demo_bert.data.tables import TEXT_LIMIT_BYTES
from demo_bert.errors import DataError
from demo_bert.files import read_text

PACKED = (".gz", ".xz")
_MOST_MISPLACED = 0.05
_KINDS = {"dict": "an object", "list": "a list", "str": "a text", "bool": "true or false"}


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a passage.

    Attributes:
        id: Its name in predictions.
        question: What is asked.
        context: The passage.
        answers: Gold answers, as they are; () where the passage has none, or where it is not known.
        start: First character of the answer that is learnt; -1: none.
        end: The character after its last one; -1: none.
        title: Of the article.
        is_labelled: Whether the right answer is known.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    start: int = -1
    end: int = -1
    title: str = ""
    is_labelled: bool = True


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A file of questions.

    Attributes:
        path: Where it is.
        questions: In its order.
        is_v2: Whether it is of version 2.0: some questions may have no answer.
        num_answers: Answers in all.
        num_misplaced: Those that do not stand where the file says.
        num_repeated: Questions left out because they stood there before, on the same passage.
    """

    path: Path
    questions: list[Question]
    is_v2: bool
    num_answers: int
    num_misplaced: int
    num_repeated: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user."""
        found: list[str] = []
        if self.num_misplaced:
            found.append(
                f"{self.path}: {self.num_misplaced} of {self.num_answers:,} answers do not stand at"
                " their answer_start: not learnt from"
            )
        if self.num_repeated:
            found.append(f"{self.path}: {self.num_repeated} questions stood there twice: read once")
        return tuple(found)


def read_questions(path: Path, *, with_answers: bool = True) -> QuestionFile:
    """Reads a file.

    Args:
        path: JSON in the official layout (also packed, `.gz` or `.xz`), or Parquet with the hub's
            columns id, title, context, question, answers.
        with_answers: False where the questions are to be answered, not scored: then answers may be
            missing, and are not looked at.

    Returns:
        Its questions.

    Raises:
        DataError: It is missing, damaged, cut short or of another shape (the place is named); a
            passage, a question or an answer is empty; an id stands for two questions; or more than
            one answer in twenty does not stand at its answer_start.
    """
    if path.suffix.lower() == ".parquet":
        articles = _articles_of_parquet(path, with_answers=with_answers)
    else:
        articles = _list(_parsed(path), "data", place=f"{path}")
    file = _Reader(path, with_answers=with_answers).read(articles)
    if file.num_misplaced > _MOST_MISPLACED * max(1, file.num_answers):
        raise DataError(
            f"{path}: {file.num_misplaced:,} of {file.num_answers:,} answers do not stand at their"
            " answer_start, more than one in twenty; offsets count characters, from 0"
        )
    return file


def unpacked_name(path: Path) -> str:
    """A file's name in lower case, without the ending that says how it is packed.

    Args:
        path: Any path.

    Returns:
        The name.

    Example:
        >>> unpacked_name(Path("Dev.json.gz"))
        'dev.json'
    """
    name = path.name.lower()
    return next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)


def is_squad_layout(path: Path) -> bool:
    """Whether a file is JSON in the official layout, as far as its outermost part tells.

    Args:
        path: Any file.

    Returns:
        False too for what cannot be read, and for files that are not called JSON.
    """
    if not unpacked_name(path).endswith(".json"):
        return False
    try:
        content = _parsed(path)
    except DataError:
        return False
    articles = content.get("data") if isinstance(content, dict) else None
    return isinstance(articles, list) and all(
        isinstance(article, dict) and "paragraphs" in article for article in articles[:1]
    )


class _Reader:
    """Reads the articles of one file."""

    def __init__(self, path: Path, *, with_answers: bool) -> None:
        self.path, self.with_answers = path, with_answers
        self.questions: dict[str, Question] = {}
        self.num_answers = self.num_misplaced = self.num_repeated = 0
        self.is_v2 = False

    def read(self, articles: list[Any]) -> QuestionFile:
        for article_number, article in enumerate(articles, start=1):
            place = f"{self.path}: article {article_number}"
            title = article.get("title", "") if isinstance(article, dict) else ""
            for number, paragraph in enumerate(_list(article, "paragraphs", place=place), start=1):
                self._read_paragraph(
                    paragraph, title=str(title), place=f"{place}, paragraph {number}"
                )
        if not self.questions:
            raise DataError(f"{self.path}: has no questions; articles with paragraphs with qas")
        return QuestionFile(
            self.path,
            list(self.questions.values()),
            self.is_v2,
            self.num_answers,
            self.num_misplaced,
            self.num_repeated,
        )

    def _read_paragraph(self, paragraph: Any, *, title: str, place: str) -> None:
        asked = _list(paragraph, "qas", place=place)
        context = _text(paragraph, "context", place=place)
        size_bytes = len(context.encode("utf-8", "surrogatepass"))
        if size_bytes >= TEXT_LIMIT_BYTES:
            raise DataError(
                f"{place}: `context` has {size_bytes:,} bytes; less than {TEXT_LIMIT_BYTES:,} are"
                " allowed; split it"
            )
        for number, qa in enumerate(asked, start=1):
            question = self._question(qa, context, title=title, place=f"{place}, question {number}")
            former = self.questions.get(question.id)
            if former is None:
                self.questions[question.id] = question
                continue
            if (former.question, former.context) != (question.question, question.context):
                raise DataError(
                    f"{place}, question {number}: its id {question.id!r} is that of another"
                    " question; ids must be unique"
                )
            self.num_repeated += 1

    def _question(self, qa: Any, context: str, *, title: str, place: str) -> Question:
        name, text = _text(qa, "id", place=place), _text(qa, "question", place=place)
        if not self.with_answers:
            return Question(name, text, context, (), title=title, is_labelled=False)
        answers = _list(qa, "answers", place=place)
        is_impossible = qa.get("is_impossible")
        if not isinstance(is_impossible, bool | None):
            raise _wrong(place, "is_impossible", "true or false", is_impossible)
        if bool(is_impossible) and answers:
            raise DataError(f"{place}: `is_impossible` is true, and there are `answers`")
        if is_impossible is False and not answers:
            raise DataError(f"{place}: `is_impossible` is false, and `answers` is empty")
        self.is_v2 |= is_impossible is not None or not answers
        texts: list[str] = []
        start = end = -1
        for number, answer in enumerate(answers, start=1):
            there = f"{place}, answer {number}"
            texts.append(_text(answer, "text", place=there))
            begin = answer.get("answer_start")
            if not isinstance(begin, int) or isinstance(begin, bool):
                raise _wrong(there, "answer_start", "a whole number", begin)
            is_there = begin >= 0 and context.startswith(texts[-1], begin)
            self.num_answers += 1
            self.num_misplaced += not is_there
            if is_there and start < 0:
                start, end = begin, begin + len(texts[-1])
        return Question(name, text, context, tuple(texts), start, end, title)


def _parsed(path: Path) -> Any:
    if path.name.lower().endswith(PACKED):
        text = unpacked_text(path)
    else:
        text = read_text(path)
    if not text or text.isspace():
        raise DataError(f"{path}: empty; JSON in the SQuAD layout is needed")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(text.rstrip()) or "Unterminated" in error.msg
        what = "cut short" if is_cut else f"not JSON ({error.msg})"
        raise DataError(
            f"{path}: {what}, at line {error.lineno}, column {error.colno}; fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 3,000 brackets
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: not the SQuAD layout ({reason})") from error


def _articles_of_parquet(path: Path, *, with_answers: bool) -> list[Any]:
    """The rows of a Parquet file in the shape of the JSON, a paragraph for each run of rows."""
    from pyarrow import ArrowException, parquet

    try:
        check_is_file(path)
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    return [
        {"title": title, "paragraphs": [{"context": context, "qas": qas}]}
        for title, context, qas in _runs(rows, path, with_answers=with_answers)
    ]


def _runs(
    rows: list[dict[str, Any]], path: Path, *, with_answers: bool
) -> Iterator[tuple[Any, Any, list[Any]]]:
    wanted = ("id", "context", "question", *(["answers"] if with_answers else []))
    last: tuple[Any, Any, list[Any]] | None = None
    for number, row in enumerate(rows, start=1):
        place = f"{path}: row {number}"
        if lacking := [name for name in wanted if row.get(name) is None]:
            raise DataError(f"{place}: no `{lacking[0]}`; columns are {', '.join(wanted)}")
        qa = {"id": row["id"], "question": row["question"]}
        if with_answers:
            qa["answers"] = _answers_of_row(row, place)
        if last is None or row["context"] != last[1]:
            if last is not None:
                yield last
            last = (row.get("title") or "", row["context"], [])
        last[2].append(qa)
    if last is not None:
        yield last


def _answers_of_row(row: dict[str, Any], place: str) -> list[dict[str, Any]]:
    texts = _list(row["answers"], "text", place=place)
    starts = _list(row["answers"], "answer_start", place=place)
    if len(texts) != len(starts):
        raise DataError(f"{place}: {len(texts)} answers and {len(starts)} answer_starts")
    pairs = zip(texts, starts, strict=True)
    return [{"text": text, "answer_start": start} for text, start in pairs]


def _list(owner: Any, name: str, *, place: str) -> list[Any]:
    if not isinstance(owner, dict):
        raise DataError(f"{place}: must be an object with `{name}`, found {_kind(owner)}")
    if not isinstance(owner.get(name), list):
        raise _wrong(place, name, "a list", owner.get(name))
    return owner[name]


def _text(owner: Any, name: str, *, place: str) -> str:
    if not isinstance(owner, dict):
        raise DataError(f"{place}: must be an object with `{name}`, found {_kind(owner)}")
    value = owner.get(name)
    if not isinstance(value, str):
        raise _wrong(place, name, "a text", value)
    if not value or value.isspace():
        raise DataError(f"{place}: `{name}` is empty; a text is needed")
    return value


def _wrong(place: str, name: str, wanted: str, found: object) -> DataError:
    told = "it is missing" if found is None else f"found {_kind(found)}"
    return DataError(f"{place}, `{name}`: must be {wanted}, {told}")


def _kind(value: object) -> str:
    return _KINDS.get(type(value).__name__, "nothing" if value is None else "a number")
