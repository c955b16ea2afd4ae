"""What a run directory holds, read as far as it is there; a stopped run holds less.

All pages are made from this, never from the files themselves.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from demo_bert.errors import DataError, RunDirectoryError
from demo_bert.files import read_text
from demo_bert.report.events import Event, last_steps, read_events
from demo_bert.report.fields import finite, items, mapping, numbers, text, whole
from demo_bert.report.series import Point

_FILES = ("run.json", "results.json", "events.jsonl")
_OTHER_EVENTS = ("step", "evaluation")


@dataclass(frozen=True)
class Mistake:
    """An example that the model got wrong.

    Attributes:
        index: Its number in the split, as text.
        text: The first text.
        text_b: The second text; "" where the task has one.
        label: The gold label.
        prediction: The model's answer.
        score: The probability of that answer, in 0..1; None where it is unknown.
    """

    index: str
    text: str
    text_b: str
    label: str
    prediction: str
    score: float | None


@dataclass(frozen=True)
class AskedQuestion:
    """A question on a passage, with the model's answer.

    Attributes:
        question: What was asked.
        context: The passage, or a part of it.
        title: Of the passage's article; "" where it is unknown.
        gold: The gold answers; () where there is none.
        gold_span: First character in `context` and the one after the last; None: not there.
        answer: The model's; "" for none.
        span: Likewise.
        score: The answer's probability, in 0..1; None where it is unknown.
        is_right: Whether it is an exact match.
        is_answerable: Whether the passage has an answer.
    """

    question: str
    context: str
    title: str
    gold: tuple[str, ...]
    gold_span: tuple[int, int] | None
    answer: str
    span: tuple[int, int] | None
    score: float | None
    is_right: bool
    is_answerable: bool


@dataclass(frozen=True)
class Evaluation:
    """A model's scores on a split.

    Attributes:
        step: After which step.
        split: Of the data.
        loss: Mean over the split; None where it is unknown.
        metrics: Finite ones only.
        confusion: Counts, rows are gold labels; () where there is none.
        labels: As many as `confusion` has rows.
        mistakes: The most confident first.
        questions: Some of those that were asked, of SQuAD.
        seconds: How long it took; None where it is unknown.
    """

    step: int
    split: str
    loss: float | None
    metrics: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    seconds: float | None
    questions: tuple[AskedQuestion, ...] = ()

    def num_examples(self) -> int:
        """How many examples the confusion matrix counts.

        Returns:
            The sum of all its cells.
        """
        return sum(map(sum, self.confusion))


@dataclass(frozen=True)
class Run:
    """A run as far as it is known.

    Attributes:
        directory: Where it lies.
        about: `run.json`, above seeds that of the first one; empty where it is missing.
        results: `results.json`; empty where it is missing, as while a run goes on.
        steps: The `step` events, one for each step.
        evaluations: In the order of their steps.
        history: All other events, in the order in which they were written.
        problems: What could not be read, each in one line.
        seeds: The runs of `--seeds N`, by seed; their directory itself has no steps.
    """

    directory: Path
    about: dict[str, object] = field(default_factory=dict[str, object])
    results: dict[str, object] = field(default_factory=dict[str, object])
    steps: tuple[Event, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    history: tuple[Event, ...] = ()
    problems: tuple[str, ...] = ()
    seeds: tuple["Run", ...] = ()

    def last_evaluation(self) -> Evaluation | None:
        """The evaluation that the results are from.

        Returns:
            The one of the last step; of several splits then the first that has a confusion matrix.
        """
        if not self.evaluations:
            return None
        last = self.evaluations[-1].step
        final = [evaluation for evaluation in self.evaluations if evaluation.step == last]
        return next((evaluation for evaluation in final if evaluation.confusion), final[-1])

    def metrics(self) -> dict[str, float]:
        """The run's scores.

        Returns:
            Those of `results.json`, else of the last evaluation.
        """
        last = self.last_evaluation()
        return numbers(self.results.get("metrics")) or (last.metrics if last else {})

    def status(self) -> str:
        """How the run ended.

        Returns:
            complete, stopped, failed, or unfinished where nothing says so.
        """
        events = [*self.history, *self.steps]
        attempt = max((whole(event.get("attempt")) or 0 for event in events), default=0)
        ends = [event for event in self.history if event["event"] == "end"]
        if ends and (whole(ends[-1].get("attempt")) or 0) < attempt:
            return "unfinished"  # it was taken up again; the results are those from before
        said = text(ends[-1].get("status")) if ends else ""
        return text(self.results.get("status")) or said or "unfinished"

    def setting(self, name: str) -> str:
        """A setting's value.

        Args:
            name: As `results.json` or the settings of `run.json` have it.

        Returns:
            The value as text; "" where nobody says it.
        """
        if self.results.get(name) is not None:
            return text(self.results[name])
        for entry in items(self.about.get("settings")):
            if mapping(entry).get("name") == name:
                return text(mapping(entry).get("value"))
        return text(self.about.get(name))

    def data(self) -> dict[str, object]:
        """What was trained on.

        Returns:
            `data` of both files, `run.json` being more exact.
        """
        return mapping(self.results.get("data")) | mapping(self.about.get("data"))

    def is_sample(self) -> bool:
        """Whether the embedded sample stood in for the data.

        Returns:
            True where either file says so.
        """
        either = (mapping(source.get("data")) for source in (self.results, self.about))
        return any(data.get("sample") is True for data in either)

    def curve(self, key: str) -> list[Point]:
        """A figure of the steps, as points by step.

        Args:
            key: A field of the `step` events.

        Returns:
            (step, value); values that are not finite are NaN, steps without a value are left out.
        """
        points: list[Point] = []
        for event in self.steps:
            if event.get(key) is not None:
                value = finite(event.get(key))
                points.append((whole(event["step"]) or 0, math.nan if value is None else value))
        return points


def read_run(directory: Path) -> Run:
    """Reads a run directory.

    Args:
        directory: The run's, or one above the `seed-<s>` runs of `--seeds`.

    Returns:
        The run, with whatever is there.

    Raises:
        RunDirectoryError: The path is no directory, or holds nothing of a run.
    """
    if not directory.is_dir():
        kind = "is not a directory" if directory.exists() else "no such directory"
        raise RunDirectoryError(f"{directory}: {kind}; give the directory that -o named")
    seeds = sorted(filter(_is_run, directory.glob("seed-*")), key=_seed)
    if not seeds and not _is_run(directory):
        raise RunDirectoryError(
            f"{directory}: holds none of {', '.join(_FILES)}; give the directory that -o named"
        )
    problems: list[str] = []
    children = tuple(read_run(seed) for seed in seeds)
    events = read_events(directory / "events.jsonl")
    evaluations = [_evaluation(event) for event in events if event["event"] == "evaluation"]
    return Run(
        directory=directory,
        about=_object(directory / "run.json", problems) or (children[0].about if children else {}),
        results=_object(directory / "results.json", problems),
        steps=tuple(last_steps(events)),
        evaluations=tuple(sorted(evaluations, key=lambda evaluation: evaluation.step)),
        history=tuple(event for event in events if event["event"] not in _OTHER_EVENTS),
        problems=tuple(problems),
        seeds=children,
    )


def _is_run(directory: Path) -> bool:
    return any((directory / name).is_file() for name in _FILES)


def _seed(directory: Path) -> tuple[int, str]:
    digits = directory.name.removeprefix("seed-")
    return (int(digits) if digits.isdecimal() else 0, directory.name)


def _object(path: Path, problems: list[str]) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        value: object = json.loads(read_text(path))
    except (DataError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} could not be read ({error})")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} is not an object of JSON")
    return mapping(value)


def _evaluation(event: Event) -> Evaluation:
    confusion = _counts(items(event.get("confusion")))
    labels = [text(label) for label in items(event.get("labels"))]
    if confusion and len(labels) != len(confusion):
        labels = [str(place) for place in range(len(confusion))]
    found = [mapping(entry) for entry in items(event.get("mistakes"))]
    return Evaluation(
        step=whole(event.get("step")) or 0,
        split=text(event.get("split")) or "validation",
        loss=finite(event.get("loss")),
        metrics=numbers(event.get("metrics")),
        confusion=confusion,
        labels=tuple(labels),
        mistakes=tuple(_mistake(entry, labels) for entry in found),
        seconds=finite(event.get("seconds")),
        questions=tuple(_question(mapping(entry)) for entry in items(event.get("questions"))),
    )


def _question(entry: dict[str, object]) -> AskedQuestion:
    context = text(entry.get("context"))

    def span(name: str) -> tuple[int, int] | None:
        places = [place for place in map(whole, items(entry.get(name))) if place is not None]
        if len(places) != 2 or not 0 <= places[0] < places[1] <= len(context):
            return None
        return places[0], places[1]

    return AskedQuestion(
        question=text(entry.get("question")),
        context=context,
        title=text(entry.get("title")),
        gold=tuple(map(text, items(entry.get("gold")))),
        gold_span=span("gold_span"),
        answer=text(entry.get("answer")),
        span=span("span"),
        score=finite(entry.get("score")),
        is_right=entry.get("is_right") is True,
        is_answerable=entry.get("is_answerable") is True,
    )


def _counts(rows: Sequence[object]) -> tuple[tuple[int, ...], ...]:
    """The confusion matrix, or () where it is not a square of counts."""
    counts = [[whole(cell) for cell in items(row)] for row in rows]
    size = len(counts)
    good = [[c for c in row if c is not None and c >= 0] for row in counts]
    if any(len(row) != size for row in good) or any(len(row) != size for row in counts):
        return ()
    return tuple(map(tuple, good)) if any(map(sum, good)) else ()


def _mistake(entry: dict[str, object], labels: Sequence[str]) -> Mistake:
    def named(value: object) -> str:
        place = value if isinstance(value, int) and not isinstance(value, bool) else -1
        return labels[place] if 0 <= place < len(labels) else text(value)

    return Mistake(
        index=text(entry.get("index")),
        text=text(entry.get("text")),
        text_b=text(entry.get("text_b")),
        label=named(entry.get("label")),
        prediction=named(entry.get("prediction")),
        score=finite(entry.get("score")),
    )
