"""From the options of `prepare` to a store's recipe: inputs, vocabulary, case rules."""

import dataclasses
import logging
import shlex
from pathlib import Path

from demo_bert.corpus.recipe import Recipe
from demo_bert.corpus.sources import SOURCES
from demo_bert.corpus.store import id_dtype_of
from demo_bert.errors import ModelError, UsageError
from demo_bert.model.published import find_model
from demo_bert.model.vocabulary import (
    STANDARD_VOCABULARY,
    CaseRules,
    build_tokenizer,
    find_vocabulary,
    is_lower_case,
    read_case_rules,
    read_vocabulary,
)
from demo_bert.settings import PrepareSettings

_LOG = logging.getLogger(__name__)
_TRAIN = "train"


def inputs_of(settings: PrepareSettings) -> tuple[tuple[str, Path], ...]:
    """The sources that were given.

    Args:
        settings: As resolved.

    Returns:
        Kind and path of each.

    Raises:
        UsageError: There are none, or one comes twice.
    """
    found = [(kind, Path(one)) for kind in SOURCES for one in getattr(settings, kind) or ()]
    if not found:
        raise UsageError(
            "prepare without a source (Wikipedia through the hub) is not here yet; give one or more"
            f" of {', '.join(f'--{kind}' for kind in SOURCES)}"
        )
    seen: dict[Path, str] = {}
    for kind, path in found:
        before = seen.setdefault(path.resolve(), kind)
        if list(map(Path.resolve, (one for _, one in found))).count(path.resolve()) > 1:
            raise UsageError(f"--{before} {path}: comes twice; give each source once")
    return tuple(found)


def recipe_of(settings: PrepareSettings) -> Recipe:
    """What shapes the store.

    Args:
        settings: As resolved.

    Returns:
        The recipe.

    Raises:
        UsageError: There is no source, or an option is not here yet.
        ModelError: The vocabulary is missing or damaged, or its case is another.
        NetworkError: A model's files could not be fetched.
    """
    inputs = inputs_of(settings)
    vocabulary, case_rules, name = read_named_vocabulary(settings)
    rules = dataclasses.asdict(case_rules)
    tokenizer = build_tokenizer(vocabulary, **rules)
    return Recipe(
        inputs=inputs,
        vocabulary=tuple(vocabulary),
        tokenizer=tokenizer.to_str(),
        case_rules=rules,
        vocabulary_name=name,
        id_dtype=id_dtype_of(len(vocabulary)).str,
        language=settings.language,
        dedupe=settings.dedupe,
        command=_command(settings, inputs),
    )


def read_named_vocabulary(settings: PrepareSettings) -> tuple[list[str], CaseRules, str]:
    """The vocabulary that was asked for, its case rules, and its name.

    Args:
        settings: As resolved.

    Returns:
        Entries, rules, and the name for messages.

    Raises:
        UsageError: It is to be trained, which is not here yet.
        ModelError: It is missing or damaged, or its case is another than was asked for.
        NetworkError: A model's files could not be fetched.
    """
    if settings.vocab == _TRAIN:
        raise UsageError(
            "--vocab train: is not here yet; make a vocabulary with demo_bert prepare vocab, and"
            " give its file"
        )
    if settings.vocab is None:
        path, name = STANDARD_VOCABULARY, "the standard uncased vocabulary"
    elif Path(settings.vocab).is_file():
        path, name = Path(settings.vocab), settings.vocab
    else:
        directory = find_model(settings.vocab, announce=_LOG.info)
        path = find_vocabulary(directory, 0) or STANDARD_VOCABULARY
        name = settings.vocab
    vocabulary = read_vocabulary(path)
    if path == STANDARD_VOCABULARY:
        rules = CaseRules(do_lower_case=True)
    else:
        rules = read_case_rules(path.parent, vocabulary)
    if settings.cased and (rules.do_lower_case or is_lower_case(vocabulary)):
        raise ModelError(
            f"--cased: {name} has no upper case; give a cased vocabulary with --vocab, or leave"
            " --cased out"
        )
    return vocabulary, rules, name


def _command(settings: PrepareSettings, inputs: tuple[tuple[str, Path], ...]) -> str:
    """The command line as far as it shapes the store."""
    words = ["demo_bert", "prepare"]
    for kind, path in inputs:
        words += [f"--{kind}", str(path)]
    if settings.vocab is not None:
        words += ["--vocab", settings.vocab]
    if settings.cased:
        words += ["--cased"]
    return shlex.join([*words, "--language", settings.language, "--dedupe", settings.dedupe])
