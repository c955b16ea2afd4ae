r"""`predict [MODEL]`: answers one input, or a file of them.

    demo_bert predict runs/mine --text "It rains." --text-b "It is wet."
    demo_bert predict runs/mine --input pairs.tsv -o answers.tsv
    demo_bert predict runs/squad --question "Where?" --context-file passage.txt

Standard output has answers alone, all else goes to standard error. For `--text` the answer is one
line, `label<TAB>score`: the class by the name that the training data or the model's config.json
gives it, and the probability of that class in 0..1 with four digits. For `--input` (TSV or CSV with
a header, JSONL, Parquet) it is the table of predictions.tsv: a header, then `index`, `prediction`,
`label` (as far as the file has labels), `score` (six digits) for each row. `-o FILE` gets the same
instead, whole or not at all. Without MODEL the newest finished run under `runs/` answers.

Models of SQuAD answer questions from passages: see `commands/question.py`.

A run's model reads inputs as in its training: compute type, longest example, names of columns.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.commands.run_facts import RunFacts, read_run_facts
from demo_bert.data.tables import TEXT_NAMES, TextExample, examples_of, read_table
from demo_bert.errors import DataError, RunDirectoryError, UsageError
from demo_bert.files import write_text
from demo_bert.report import wording
from demo_bert.report.console import say
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import Origin, PredictSettings
from demo_bert.tasks import TASKS, load_task
from demo_bert.tasks.spans.questions import is_squad_layout

if TYPE_CHECKING:
    from demo_bert.commands.saved_model import Answers

_LOG = logging.getLogger(__name__)
_RUNS = Path("runs")
_TRAINING = ("finetuning", "pipeline")
_PLAIN_TASK = "classification"
_HIDDEN_LABEL = "-1"  # what test sets have where their labels are kept secret
_SHOWN = 8
_MEANINGS = {
    "mrpc": {"0": "the two texts do not say the same", "1": "the two texts say the same"},
}
"""What the classes of a task mean, where their names do not say it."""


def run(settings: PredictSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Answers; standard output has the answers, or the file of `-o`.

    Args:
        settings: As resolved.
        origins: Where each came from; answers do not depend on it.
        argv: The program's arguments; likewise.

    Returns:
        The exit code, 0.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    del origins, argv
    from demo_bert.commands.logs import to_standard_error

    to_standard_error(settings.log_level)
    _check(settings)
    name = settings.model or _newest_run(settings)
    facts = read_run_facts(Path(name).expanduser())
    if settings.question is not None or (settings.input and _asks_spans(settings.input, facts)):
        from demo_bert.commands.question import answer_questions

        answer_questions(settings, name, facts)
        return 0
    if _is_of_spans(facts):
        raise UsageError(
            f"{name} answers questions from passages; give --question and --context-file"
        )
    examples = _examples(settings, facts)
    if facts is not None:
        _check_pairs(examples, facts, settings=settings, name=name)
    answers = _ask(settings, name, examples)
    table = answers.scores.files["predictions.tsv"]
    content = table if settings.input else _one_line(table)
    if settings.output is not None:
        write_text(Path(settings.output), content)
        _LOG.info("%s written to %s", wording.count(len(examples), "answer"), settings.output)
    else:
        say([content.removesuffix("\n")])
    _explain(table, facts)
    return 0


def _check(settings: PredictSettings) -> None:
    """What is wrong with the command line, before anything is read."""
    texts = {"--text": settings.text, "--text-b": settings.text_b, "--question": settings.question}
    for flag, value in texts.items():
        if value is not None and not value.strip():
            raise UsageError(f"{flag}: empty; give a text")
        try:
            (value or "").encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{flag}: not UTF-8 at character {error.start}; put it into a UTF-8 file and give"
                " --input FILE"
            ) from error
    if settings.input and settings.output:
        source, target = Path(settings.input).resolve(), Path(settings.output).resolve()
        if source == target:
            raise UsageError(f"-o {settings.output}: is the input itself; name another file")


def _is_of_spans(facts: RunFacts | None) -> bool:
    """Whether a run's model answers questions from passages."""
    return facts is not None and facts.task in TASKS and load_task(facts.task).head == "span"


def _asks_spans(path: str, facts: RunFacts | None) -> bool:
    """Whether a file is one of questions: a run says so, of other models the file itself does."""
    return _is_of_spans(facts) if facts is not None else is_squad_layout(Path(path))


def _newest_run(settings: PredictSettings) -> str:
    """The finished run here that can answer and whose results were written last."""
    heads = {"classifier", "span"} if settings.input else {"classifier"}
    heads = {"span"} if settings.question is not None else heads
    places = [*_RUNS.glob("*/results.json"), *_RUNS.glob("*/seed-*/results.json")]
    finished = [path for path in places if _can_answer(path.parent, heads)]
    if not finished:
        raise UsageError(
            f"no MODEL given, and no finished run under {_RUNS}/ here; name a run directory, a"
            " Hugging Face directory or a hub name, or train one: demo_bert finetuning -d bf16"
            f" -m minilm -t {'squad' if heads == {'span'} else 'mrpc'}"
        )
    newest = max(finished, key=lambda path: path.stat().st_mtime_ns).parent
    _LOG.info("model: %s, the newest finished run here", newest)
    return str(newest)


def _can_answer(directory: Path, heads: set[str]) -> bool:
    try:
        results = RunDirectory(directory).results() or {}
    except RunDirectoryError:
        return False
    return (
        results.get("status") == "complete"
        and results.get("command") in _TRAINING
        and results.get("task") in TASKS
        and load_task(results["task"]).head in heads
        and (directory / "model" / "config.json").is_file()
    )


def _examples(settings: PredictSettings, facts: RunFacts | None) -> list[TextExample]:
    """The inputs; columns are those of the run's data where the file has them."""
    if settings.input is None:
        assert settings.text is not None  # `settings.checks`: one of both is given
        return [TextExample(0, settings.text, settings.text_b, None)]
    table = read_table(Path(settings.input))
    named = facts.columns if facts else {}
    columns = {role: column for role, column in named.items() if column in table.columns}
    if "text" not in columns and not set(TEXT_NAMES) & set(table.columns):
        raise DataError(
            f"{settings.input}: no column for the text; its columns are"
            f" {', '.join(map(repr, table.columns[:_SHOWN]))}; call it text, and the second text of"
            " a pair text_b"
        )
    return examples_of(table, columns=columns, require_label=False)


def _check_pairs(
    examples: Sequence[TextExample], facts: RunFacts, *, settings: PredictSettings, name: str
) -> None:
    """Refuses one text for a model of pairs, and the reverse, where the run says which it is."""
    is_pair = examples[0].text_b is not None
    if facts.is_pair is None or facts.is_pair == is_pair:
        return
    if facts.is_pair and settings.input:
        raise DataError(
            f"{settings.input}: has no second text, and {name} was trained on pairs"
            f" ({facts.task}); call its column text_b or sentence2"
        )
    if facts.is_pair:
        raise UsageError(
            f"{name} was trained on pairs of texts ({facts.task}); give the second one with"
            " --text-b"
        )
    given = f"{settings.input} has a second one" if settings.input else "leave --text-b out"
    raise UsageError(f"{name} was trained on single texts ({facts.task}); {given}")


def _ask(settings: PredictSettings, name: str, examples: Sequence[TextExample]) -> "Answers":
    """Reads the model and asks it."""
    from demo_bert.commands.classes import match_classes
    from demo_bert.commands.saved_model import answer, read_saved_model
    from demo_bert.hardware import select

    backend = select(settings.device)
    backend.prepare()
    saved = read_saved_model(name, announce=_LOG.info)
    task = saved.run.task if saved.run and saved.run.task in TASKS else _PLAIN_TASK
    length = saved.max_seq_length(None)
    answers = answer(
        saved,
        load_task(task),
        _with_known_labels(examples, saved.labels),
        classes=match_classes(saved, saved.labels, task=task),
        dtype=saved.dtype(settings.dtype),
        backend=backend,
        max_seq_length=length,
        batch_size=settings.batch_size,
    )
    if answers.cut and settings.input is None:
        _LOG.warning(
            "the input has %d tokens, and %s reads %d: the rest was cut off",
            answers.cut[0][1],
            name,
            length,
        )
    elif answers.cut:
        places = ", ".join(str(place) for place, _ in answers.cut[:_SHOWN])
        more = len(answers.cut) - _SHOWN
        _LOG.warning(
            "%d of %s longer than the %d tokens that %s reads: the rest was cut off (index %s%s)",
            len(answers.cut),
            wording.count(len(examples), "input"),
            length,
            name,
            places,
            f" and {more} more" if more > 0 else "",
        )
    return answers


def _with_known_labels(examples: Sequence[TextExample], labels: Sequence[str]) -> list[TextExample]:
    """The examples without labels that are no classes of the model."""
    others = {example.label for example in examples} - {None, *labels}
    told = sorted(str(label) for label in others - {_HIDDEN_LABEL})
    if told:
        shown = ", ".join(map(repr, told[:_SHOWN])) + (", ..." if len(told) > _SHOWN else "")
        _LOG.warning("labels %s are left out: the model's classes are %s", shown, ", ".join(labels))
    return [replace(one, label=None) if one.label in others else one for one in examples]


def _one_line(table: str) -> str:
    """`label<TAB>score` of the only row."""
    _, prediction, _, score = table.split("\n")[1].split("\t")
    return f"{prediction}\t{float(score):.4f}\n"


def _explain(table: str, facts: RunFacts | None) -> None:
    """Says what the answers mean: classes whose names do not tell, a run on the stand-in."""
    meanings = _MEANINGS.get(facts.task, {}) if facts else {}
    answered = {line.split("\t")[1] for line in table.split("\n")[1:-1]}
    for label, meaning in meanings.items():
        if label in answered:
            _LOG.info("%s: %s", label, meaning)
    if facts is not None and facts.is_sample:
        _LOG.info(
            "%s was trained on the embedded stand-in, which is not %s", facts.path, facts.task
        )
