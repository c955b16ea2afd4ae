"""`evaluate MODEL`: scores a saved model on the validation split of a task, or on your own file.

    demo_bert evaluate runs/mine                                  # the data that it was trained on
    demo_bert evaluate runs/mine --dataset-path held_out.tsv      # all rows of a file
    demo_bert evaluate owner/model -t mrpc -o scored              # a model of others

Of a run directory, the task, the compute type, the data with its columns and the longest example
are those of the run, unless options say otherwise; its score is then the run's own, to the last
bit. A single file is scored as a whole. Where it has no labels there is no score; `-o` gets the
predictions. `-o DIR` gets predictions.tsv (of SQuAD predictions.json, nbest.json and, for 2.0,
null_odds.json) and results.json (`command` is "evaluate", `split` says what was scored).
"""

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_bert.clock import command_start
from demo_bert.data.tables import examples_of, file_facts, read_table
from demo_bert.downloads import cache_directory
from demo_bert.errors import DataError, RunDirectoryError, UsageError
from demo_bert.files import write_text
from demo_bert.report import wording
from demo_bert.report.console import say
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import EvaluateSettings, Origin
from demo_bert.tasks import load_task
from demo_bert.tasks.task import DataRequest, Task, TaskData

if TYPE_CHECKING:
    from demo_bert.commands.saved_model import Answers, SavedModel
    from demo_bert.hardware import Backend

COMMAND = "evaluate"

_LOG = logging.getLogger(__name__)
_PREDICTIONS = "predictions.tsv"
_FILES = (_PREDICTIONS, "predictions.json", "nbest.json", "null_odds.json")
_RESULTS = "results.json"
_HIDDEN_LABEL = "-1"  # what test sets have where their labels are kept secret


@dataclass(frozen=True)
class _Scored:
    """What was done, for those who tell of it."""

    settings: EvaluateSettings
    saved: "SavedModel"
    data: TaskData
    split: str
    answers: "Answers"
    dtype: str
    max_seq_length: int
    device: str
    seconds: float
    """Of the model's work alone."""

    @property
    def examples(self) -> Sequence[Any]:
        return self.data.splits[self.split]


def run(settings: EvaluateSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Scores a model; standard output has the score, `-o` gets the files.

    Args:
        settings: As resolved.
        origins: Where each came from; the score does not depend on it.
        argv: The program's arguments; likewise.

    Returns:
        The exit code, 0.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    del origins, argv
    from demo_bert.commands.logs import to_standard_error
    from demo_bert.commands.saved_model import read_saved_model
    from demo_bert.hardware import select

    to_standard_error(settings.log_level)
    directory = _output_directory(settings.output_dir)
    if settings.sample and settings.dataset_path:
        raise UsageError("--sample and --dataset-path exclude each other")
    task = load_task(settings.task)
    backend = select(settings.device)
    backend.prepare()
    saved = read_saved_model(settings.model, announce=_LOG.info, head=task.head)
    data = _data(settings, saved, task=task)
    split = "validation" if "validation" in data.splits else "test"
    unlabelled = sum(not task.is_labelled(example) for example in data.splits[split])
    if unlabelled and directory is None:
        raise UsageError(
            f"{data.name}: {unlabelled:,} of {len(data.splits[split]):,} examples have no label, so"
            " there is no score; give -o DIR for the predictions"
        )
    scored = _score(settings, saved, task=task, data=data, split=split, backend=backend)
    if directory is not None:
        for name, content in scored.answers.scores.files.items():
            write_text(directory / name, content)
        results = _results(scored, wall_s=time.time() - command_start())
        RunDirectory(directory).write_results(results)
    say(_lines(scored, directory))
    return 0


def _output_directory(name: str | None) -> Path | None:
    """The directory of `-o`; one that holds anything but an earlier evaluation is refused."""
    if name is None:
        return None
    directory = Path(name)
    try:
        earlier = RunDirectory(directory).results()
    except RunDirectoryError:
        earlier = None
    is_ours = earlier is not None and earlier.get("command") == COMMAND
    others = () if is_ours else (_RESULTS, *_FILES)
    found = [file for file in ("run.json", *others) if (directory / file).exists()]
    if found:
        raise RunDirectoryError(
            f"-o {directory}: has {', '.join(found)} of something else, which is never"
            " overwritten; give another directory"
        )
    return directory


def _data(settings: EvaluateSettings, saved: "SavedModel", *, task: Task) -> TaskData:
    """What is scored: what the user names, else what the run was trained on."""
    run = saved.run if saved.run and saved.run.task == task.name else None
    sample = settings.sample
    paths = tuple(map(Path, settings.dataset_path or ()))
    request = DataRequest(
        paths=paths,
        columns=settings.columns or (run.columns if run else {}),
        sample=sample,
        labels=saved.labels,
    )
    is_of_run = run is not None and not paths and sample is not True
    if run is not None and is_of_run:
        gone = [path for path in run.dataset_path if not path.exists()]
        if gone:
            raise DataError(
                f"{gone[0]}: {saved.name} was trained on it, and it is not there; name the data"
                " with --dataset-path"
            )
        # As while training: of a single file, the tenth that was held out.
        sample = run.is_sample or None if sample is None else sample
        request = replace(request, paths=run.dataset_path, sample=sample, labels=None)
    file = _unlabelled_file(request) if task.head == "classifier" else None
    data = file or task.load(request, _LOG.info)
    if run is not None:
        _warn_of_data(data, saved, is_of_run=is_of_run)
    return data


def _unlabelled_file(request: DataRequest) -> TaskData | None:
    """A single file, named to be scored, that has no labels; None for all else."""
    if request.labels is None or len(request.paths) != 1 or not request.paths[0].is_file():
        return None
    (path,) = request.paths
    examples = examples_of(read_table(path), columns=request.columns, require_label=False)
    if any(example.label not in (None, _HIDDEN_LABEL) for example in examples):
        return None
    return TaskData(
        name=str(path),
        splits={"test": [replace(example, label=None) for example in examples]},
        labels=request.labels,
        source=str(path),
        licence="the user's own",
        files=file_facts([path]),
        notes=(f"read: {path}",),
    )


def _warn_of_data(data: TaskData, saved: "SavedModel", *, is_of_run: bool) -> None:
    """Says where a score means something else than it seems to."""
    run = saved.run
    assert run is not None
    hashes = {str(file["sha256"]) for file in data.files}
    if is_of_run and hashes != run.sha256:
        _LOG.warning("the data has changed since %s was trained on it", saved.name)
    if is_of_run or len(data.splits) != 1 or not hashes <= run.sha256:
        return
    (split,) = data.splits.values()
    train, held_out = run.counts.get("train", 0), run.counts.get("validation", 0)
    if len(split) in (train, train + held_out):
        _LOG.warning(
            "%s was trained on this file: its score says little about other texts", saved.name
        )


def _score(
    settings: EvaluateSettings,
    saved: "SavedModel",
    *,
    task: Task,
    data: TaskData,
    split: str,
    backend: "Backend",
) -> _Scored:
    """Asks the model for all examples of the split."""
    from demo_bert.commands.classes import match_classes
    from demo_bert.commands.saved_model import answer
    from demo_bert.data.array_cache import ArrayCache

    dtype = saved.dtype(settings.dtype)
    length = saved.max_seq_length(settings.max_seq_length, usual=task.recipe.max_seq_length)
    classes = match_classes(saved, data.labels, task=task.name)
    _LOG.info("data: %s (%s)", data.name, wording.count(len(data.splits[split]), "example"))
    for note in data.notes:
        _LOG.info("data: %s", note)
    started = time.perf_counter()
    answers = answer(
        saved,
        task,
        data.splits[split],
        classes=classes,
        dtype=dtype,
        backend=backend,
        max_seq_length=length,
        batch_size=settings.batch_size,
        cache=ArrayCache(cache_directory() / "windows", round(1e9 * settings.feature_cache)),
    )
    seconds = time.perf_counter() - started
    if answers.cut:
        cut = wording.count(len(answers.cut), "example")
        _LOG.info("%s longer than %d tokens: the rest was not read", cut, length)
    return _Scored(
        settings=settings,
        saved=saved,
        data=data,
        split=split,
        answers=answers,
        dtype=dtype,
        max_seq_length=length,
        device=backend.name,
        seconds=seconds,
    )


def _results(scored: _Scored, *, wall_s: float) -> dict[str, Any]:
    """The content of results.json: the contract's fields, as far as they apply."""
    data, scores = scored.data, scored.answers.scores
    event = {key: scores.event[key] for key in ("confusion", "labels") if key in scores.event}
    return {
        "schema_version": 1,
        "status": "complete",
        "command": COMMAND,
        "task": scored.settings.task,
        "model": scored.settings.model,
        "dtype": scored.dtype,
        "device": scored.device,
        "world_size": 1,
        "hosts": [platform.node()],
        "max_seq_length": scored.max_seq_length,
        "weights_sha256": dict(scored.saved.weights.sha256),
        "split": scored.split,
        "metrics": dict(scores.metrics),
        "loss": scores.loss if scores.metrics else None,
        **event,
        "throughput": {
            "examples_per_s": len(scored.examples) / scored.seconds,
            "real_tokens_per_s": scored.answers.num_tokens / scored.seconds,
            "model_flops_utilisation": None,
        },
        "wall_s": wall_s,
        "data": {
            "name": data.name,
            "sample": data.is_sample,
            "licence": data.licence,
            "source": data.source,
            "files": [dict(file) for file in data.files],
            "counts": {scored.split: len(scored.examples)},
        },
    }


def _lines(scored: _Scored, directory: Path | None) -> list[str]:
    """What a person sees."""
    data, scores, task = scored.data, scored.answers.scores, scored.settings.task
    words = [
        f"{wording.metric_name(key)} {wording.score(value)}"
        for key, value in scores.metrics.items()
    ]
    lines = [f"{scored.settings.model} on {task}: {'  '.join(words) or 'no score, no labels'}"]
    lines.append(
        f"{wording.count(len(scored.examples), 'example')} ({scored.split} of {data.name}) in"
        f" {wording.duration(scored.seconds)}  ({scored.dtype} on {scored.device})"
    )
    table = scores.files.get(_PREDICTIONS, "")
    chosen = {line.split("\t")[1] for line in table.split("\n")[1:-1]}
    if len(chosen) == 1 and len(scored.examples) > 1:
        lines.append(f"one class only: every answer is {chosen.pop()}")
    if directory is not None:
        lines.append(f"results {directory / _RESULTS}")
        lines += [f"answers {directory / name}" for name in scores.files]
    if data.is_sample:
        lines.append(
            f"sample data: the embedded stand-in took the place of {task}; this score says nothing"
            f" about {task} (--dataset-path PATH names the data)"
        )
    return lines
