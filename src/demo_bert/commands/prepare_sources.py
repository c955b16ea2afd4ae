"""From the options of `prepare` to a store's recipe: inputs, vocabulary, case rules."""

import dataclasses
import logging
import shlex
from pathlib import Path

from demo_bert.corpus import hub_text
from demo_bert.corpus.recipe import Recipe
from demo_bert.corpus.sources import OPTIONS
from demo_bert.corpus.store import id_dtype_of
from demo_bert.corpus.vocabulary_training import train
from demo_bert.corpus.workplace import Workplace
from demo_bert.errors import ModelError, UsageError
from demo_bert.files import write_text
from demo_bert.model.published import find_model
from demo_bert.model.vocabulary import (
    SPECIAL_TOKENS,
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
TRAIN = "train"
"""As `--vocab` says it: a vocabulary of the text itself."""


def inputs_of(settings: PrepareSettings) -> tuple[tuple[str, Path], ...]:
    """The sources that were given; without any, Wikipedia and books on the hub.

    Args:
        settings: As resolved.

    Returns:
        Kind and path, or name on the hub, of each.

    Raises:
        UsageError: One comes twice.
        NetworkError: The hub was needed and failed or cannot be reached.
        DataError: The hub does not have Wikipedia in this language.
    """
    found = [(kind, Path(one)) for kind in OPTIONS for one in getattr(settings, kind) or ()]
    if not found:
        noted = Workplace(Path(settings.output_dir)).hub_inputs if settings.output_dir else []
        return tuple(noted or hub_text.inputs_of(settings.language))
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
        UsageError: A source comes twice.
        DataError: A source cannot be read or has no text.
        RunDirectoryError: The store there has a vocabulary that was not trained so.
        ModelError: The vocabulary is missing or damaged, or its case is another.
        NetworkError: A model's files could not be fetched.
    """
    inputs = inputs_of(settings)
    if settings.vocab == TRAIN:
        vocabulary, case_rules, name = _trained(settings, inputs)
    else:
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
        ModelError: It is missing or damaged, or its case is another than was asked for.
        NetworkError: A model's files could not be fetched.
    """
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


def _trained(
    settings: PrepareSettings, inputs: tuple[tuple[str, Path], ...]
) -> tuple[list[str], CaseRules, str]:
    """A vocabulary of the text itself, kept beside the store until it is finished."""
    assert settings.output_dir is not None  # `settings.checks`
    rules = CaseRules(do_lower_case=not settings.cased)
    if settings.dry_run:
        _LOG.info("the forecast is made with the standard vocabulary; none is trained for it")
        return read_vocabulary(STANDARD_VOCABULARY), CaseRules(do_lower_case=True), "a stand-in"
    place = Workplace(Path(settings.output_dir))
    place.refuse_others()
    path = place.trained_vocabulary(_vocabulary_words(settings))
    if not path.is_file():
        _LOG.info("trains a vocabulary of %d entries", settings.size)
        entries = train(
            inputs,
            build_tokenizer(SPECIAL_TOKENS, **dataclasses.asdict(rules)),
            size=settings.size,
            special_tokens=SPECIAL_TOKENS,
            announce=_LOG.info,
        )
        write_text(path, "".join(f"{entry}\n" for entry in entries))
    return read_vocabulary(path), rules, "the vocabulary of this text"


def _command(settings: PrepareSettings, inputs: tuple[tuple[str, Path], ...]) -> str:
    """The command line as far as it shapes the store."""
    words = ["demo_bert", "prepare"]
    for kind, path in inputs if inputs[0][0] != "hub" else ():
        words += [f"--{kind}", str(path)]
    words += _vocabulary_words(settings)
    return shlex.join([*words, "--language", settings.language, "--dedupe", settings.dedupe])


def _vocabulary_words(settings: PrepareSettings) -> list[str]:
    words = ["--vocab", settings.vocab] if settings.vocab is not None else []
    if settings.vocab == TRAIN:
        words += ["--size", str(settings.size)]
    return [*words, "--cased"] if settings.cased else words
