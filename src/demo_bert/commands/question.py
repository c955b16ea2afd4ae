r"""`predict --question`: an answer from a passage of any length, with its score and its place.

    demo_bert predict runs/squad --question "Where?" --context-file passage.txt
    demo_bert predict runs/squad --input dev-v1.1.json > predictions.json

The answer is one line, `answer<TAB>score<TAB>start-end`: characters of the passage, cut out as they
are but for line ends, tabs and other control characters, each of which is shown as a space; its
probability among the n-best in 0..1; and its place, counted in characters from 0, the end not
included. A model of SQuAD 2.0 may find no answer: then the first and the last field are empty.
`--input` takes the official JSON, with answers or without, and gives predictions.json. `-o FILE`
gets the same instead of standard output.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from demo_bert.commands.run_facts import RunFacts
from demo_bert.errors import DataError
from demo_bert.files import read_text, write_text
from demo_bert.report import wording
from demo_bert.report.console import say
from demo_bert.settings import PredictSettings
from demo_bert.tasks import load_task
from demo_bert.tasks.spans.answers import NUM_BEST
from demo_bert.tasks.spans.questions import Question, read_questions

if TYPE_CHECKING:
    from demo_bert.commands.saved_model import Answers
    from demo_bert.tasks.spans.task import SpanTask

_LOG = logging.getLogger(__name__)
_PLAIN_TASK = "squad"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def answer_questions(settings: PredictSettings, name: str, facts: RunFacts | None) -> None:
    """Answers one question or a file of them.

    Args:
        settings: With `question` and `context_file`, or with `input`.
        name: The model's.
        facts: What its run says; None where it is no run.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    asked = _asked(settings)
    task = cast("SpanTask", load_task(facts.task if facts else _PLAIN_TASK))
    answers = _ask(settings, name, asked, task=task)
    if settings.input:
        content = answers.scores.files["predictions.json"]
    else:
        content = _line(answers, asked, task=task)
    if settings.output is not None:
        write_text(Path(settings.output), content)
        _LOG.info("%s written to %s", wording.count(len(asked), "answer"), settings.output)
    else:
        say([content.removesuffix("\n")])
    if facts is not None and facts.is_sample:
        _LOG.info("%s was trained on the embedded sample, a few hundred questions", facts.path)


def _asked(settings: PredictSettings) -> list[Question]:
    if settings.input:
        return read_questions(Path(settings.input), with_answers=False).questions
    assert settings.question is not None and settings.context_file is not None
    context = read_text(Path(settings.context_file))
    if not context.strip():
        raise DataError(f"{settings.context_file}: empty; the passage is needed")
    return [Question("question", settings.question, context, (), is_labelled=False)]


def _ask(
    settings: PredictSettings, name: str, asked: list[Question], *, task: "SpanTask"
) -> "Answers":
    from demo_bert.commands.classes import Classes
    from demo_bert.commands.saved_model import answer, read_saved_model
    from demo_bert.data.windows import WindowShape
    from demo_bert.hardware import select

    backend = select(settings.device)
    backend.prepare()
    saved = read_saved_model(name, announce=_LOG.info, head="span")
    answers = answer(
        saved,
        task,
        asked,
        classes=Classes((), ()),
        dtype=saved.dtype(settings.dtype),
        backend=backend,
        max_seq_length=saved.max_seq_length(None, usual=task.recipe.max_seq_length),
        batch_size=settings.batch_size,
    )
    longest = WindowShape(0).max_query_length
    if settings.question is not None:
        num_tokens = len(saved.tokenizer.encode(settings.question, add_special_tokens=False).ids)
        if num_tokens > longest:
            _LOG.warning(
                "the question has %d tokens, and the first %d are read", num_tokens, longest
            )
    return answers


def _line(answers: "Answers", asked: list[Question], *, task: "SpanTask") -> str:
    """`answer<TAB>score<TAB>start-end`."""
    (found,) = task.answers(asked, rows=answers.rows, logits=answers.logits)
    chosen = found.chosen(threshold=task.threshold)
    if not chosen.text:
        if task.threshold is None:
            _LOG.warning("no part of this passage is among the model's %d best places", NUM_BEST)
        else:
            _LOG.info("no answer in this passage (odds of none: %.4f)", found.null_odds)
        return f"\t{chosen.probability:.4f}\t\n"
    shown = _CONTROL.sub(" ", chosen.text)
    return f"{shown}\t{chosen.probability:.4f}\t{chosen.start}-{chosen.end}\n"
