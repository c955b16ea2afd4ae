r"""`prepare vocab`: a WordPiece vocabulary from text.

    demo_bert prepare vocab --text notes --size 16000 -o my-vocabulary
    demo_bert prepare vocab --text notes --extend vocab.txt --size 32000 -o larger

The directory gets vocab.txt and the tokenizer's files with its case rules; give its vocab.txt to
`prepare --vocab`.
"""

import dataclasses
import logging
from pathlib import Path

from demo_bert.commands.prepare_sources import inputs_of
from demo_bert.corpus.vocabulary_training import extend, train
from demo_bert.errors import RunDirectoryError, UsageError
from demo_bert.model.vocabulary import (
    SPECIAL_TOKENS,
    CaseRules,
    build_tokenizer,
    read_case_rules,
    read_vocabulary,
    save_tokenizer,
)
from demo_bert.report.console import say
from demo_bert.settings import PrepareSettings

_LOG = logging.getLogger(__name__)
_MOST_TOKENS = 512


def run(settings: PrepareSettings) -> None:
    """Writes the vocabulary; standard output says where and how large.

    Args:
        settings: As resolved.

    Raises:
        UsageError: `-o` or a source is missing, or `--size` adds nothing.
        DataError: A source cannot be read, or holds no text.
        ModelError: The old vocabulary is missing or damaged.
        RunDirectoryError: The directory holds something already.
        DiskError: It cannot be written.
    """
    if settings.output_dir is None:
        raise UsageError("prepare vocab needs -o DIR: the directory to write")
    path = Path(settings.output_dir)
    if path.is_dir() and any(path.iterdir()):
        raise RunDirectoryError(f"-o {path}: is not empty; give an empty or new directory")
    inputs = inputs_of(settings)
    if settings.extend is None:
        rules = CaseRules(do_lower_case=not settings.cased)
        entries = train(
            inputs,
            build_tokenizer(SPECIAL_TOKENS, **dataclasses.asdict(rules)),
            size=settings.size,
            special_tokens=SPECIAL_TOKENS,
            announce=_LOG.info,
        )
    else:
        old = Path(settings.extend)
        vocabulary = read_vocabulary(old)
        if settings.size <= len(vocabulary):
            raise UsageError(
                f"--size {settings.size}: {old} has {len(vocabulary)} entries already; give a"
                " larger size"
            )
        rules = read_case_rules(old.parent, vocabulary)
        entries = extend(
            inputs,
            build_tokenizer(vocabulary, **dataclasses.asdict(rules)),
            vocabulary=vocabulary,
            size=settings.size,
            announce=_LOG.info,
        )
    save_tokenizer(path, entries, case_rules=rules, max_length_tokens=_MOST_TOKENS)
    say([f"vocabulary: {path / 'vocab.txt'}: {len(entries)} entries"])
