"""What is pre-trained on: a token store, or the embedded text where there is none."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.commands.pretraining_plan import Phase
from demo_bert.commands.starting_weights import StartingWeights
from demo_bert.commands.store_vocabulary import vocabulary_of
from demo_bert.corpus.store import TokenStore, open_store, vocabulary_sha256
from demo_bert.data import sample_text
from demo_bert.data.masking import pieces_of
from demo_bert.data.pairs import PairSource, ShardOfTokens, Split
from demo_bert.data.pretraining import Examples
from demo_bert.errors import DataError, UsageError
from demo_bert.model.extension import extend_weights, is_extension
from demo_bert.model.vocabulary import CaseRules, build_tokenizer
from demo_bert.seeds import derive
from demo_bert.settings import TrainingSettings

_LOG = logging.getLogger(__name__)
_OVERFIT_PAIRS = 64
_COUNTED_TOKENS = 5_000_000


@dataclass(frozen=True)
class PretrainingData:
    """Text as tokens, and what run.json says of it."""

    shards: Sequence[ShardOfTokens]
    vocabulary: list[str]
    case_rules: CaseRules
    record: dict[str, Any]
    is_learnt_by_heart: bool
    """Whether the same 64 pairs are trained and scored, with the same masks throughout."""
    whole_words: bool

    @cached_property
    def held_out_has_pairs(self) -> bool:
        """Whether next sentence can be scored: second segments come from another document."""
        return sum(int(shard.is_held_out.sum()) for shard in self.shards) > 1

    def examples(self, phase: Phase, *, seed: int, split: Split = "train") -> Examples:
        """The examples of a phase; without random pairs where there is one document to score.

        Args:
            phase: Its length and objectives.
            seed: The run's.
            split: Which documents.

        Returns:
            The examples.

        Raises:
            DataError: There are too few documents.
        """
        with_random = "nsp_loss" in phase.parts
        if split == "held_out" and "mlm_loss" in phase.parts:
            with_random = with_random and self.held_out_has_pairs
        source = PairSource(
            self.shards,
            max_seq_length=phase.max_seq_length,
            seed=derive(seed, "phase", phase.number),
            split=split,
            with_random=with_random,
        )
        return Examples(
            source,
            pieces_of(self.vocabulary),
            phase.max_seq_length,
            is_masked="mlm_loss" in phase.parts,
            whole_words=self.whole_words,
            draws_once=self.is_learnt_by_heart,
            num_rows=_OVERFIT_PAIRS if self.is_learnt_by_heart else None,
        )

    def unigram_counts(self) -> np.ndarray:
        """How often each piece occurs in documents for training.

        Returns:
            (V,) int64, over at most about 5 million tokens.
        """
        counts = np.zeros(len(self.vocabulary), np.int64)
        most = _COUNTED_TOKENS // len(self.shards)
        for shard in self.shards:
            last = shard.document_ends.astype(np.int64)
            ends = shard.sentence_ends[last[last > 0] - 1].astype(np.int64)
            sizes = np.diff(ends, prepend=0)
            is_training = np.repeat(~shard.is_held_out[last > 0], sizes)[:most]
            counts += np.bincount(shard.ids[:most][is_training], minlength=len(counts))
        return counts


def load_data(
    settings: TrainingSettings, start: StartingWeights, *, announce: Callable[[str], None]
) -> tuple[PretrainingData, StartingWeights]:
    """Finds the text, and gives random weights the vocabulary that it was prepared with.

    Args:
        settings: As resolved.
        start: What the weights start from.
        announce: Told what is read.

    Returns:
        The data, and the start.

    Raises:
        DataError: The store is missing or damaged, or of another vocabulary than the model's.
        UsageError: The text has to be named.
    """
    if settings.task == "overfit":
        if settings.dataset_path:
            raise UsageError(
                "--dataset-path: -t overfit learns the embedded text; use -t text for your own"
            )
        return _sample(settings, start), start
    if settings.dataset_path:
        if len(settings.dataset_path) > 1:
            raise UsageError(
                "--dataset-path takes one token store here;"
                " put several together with demo_bert prepare merge"
            )
        return _stored(Path(settings.dataset_path[0]), settings, start, announce=announce)
    if settings.task == "text":
        raise UsageError("-t text: no data; give --dataset-path STORE (made by demo_bert prepare)")
    if settings.sample is False:
        raise UsageError(
            "-t bookswiki: no data; give --dataset-path STORE (made by demo_bert prepare)"
        )
    announce(
        "data: no token store was named (--dataset-path STORE), and none is fetched yet: the"
        " embedded text stands in, and the steps are cut to fit it"
    )
    return _sample(settings, start), start


def scored_rows(examples: Examples, *, most: int) -> np.ndarray:
    """The rows that an evaluation scores, the same ones each time.

    Args:
        examples: Held out, or learnt by heart.
        most: How many, at most.

    Returns:
        (N,) int64, spread over all of them.
    """
    count = min(len(examples), most)
    return np.linspace(0, len(examples) - 1, count).astype(np.int64)


def batches_of(
    examples: Examples, rows: np.ndarray, *, size: int, rank: int, world_size: int
) -> Iterator[Any]:
    """A worker's batches of chosen rows of the first epoch.

    Args:
        examples: Of a phase.
        rows: (N,) int64.
        size: Examples of a batch.
        rank: This worker.
        world_size: Workers in all.

    Yields:
        Flat batches, on the host.
    """
    for begin in range(rank * size, len(rows), size * world_size):
        some = rows[begin : begin + size]
        yield examples.batch(examples.pairs(np.zeros(len(some), np.int64), some))


def _sample(settings: TrainingSettings, start: StartingWeights) -> PretrainingData:
    tokenizer = build_tokenizer(start.vocabulary, **vars(start.case_rules))
    shard = sample_text.shard_of_text(sample_text.sample_documents(), tokenizer)
    is_overfit = settings.task == "overfit"
    record = _record([shard], sample_text.NAME, sample_text.LICENCE, sample_text.SOURCE)
    record["sample"] = not is_overfit
    return PretrainingData(
        shards=[shard],
        vocabulary=start.vocabulary,
        case_rules=start.case_rules,
        record=record,
        is_learnt_by_heart=is_overfit,
        whole_words=settings.whole_word_masking,
    )


def _stored(
    path: Path,
    settings: TrainingSettings,
    start: StartingWeights,
    *,
    announce: Callable[[str], None],
) -> tuple[PretrainingData, StartingWeights]:
    store = open_store(path)
    vocabulary = vocabulary_of(store)
    if store.vocabulary_sha256 != vocabulary_sha256(start.vocabulary):
        start = _with_vocabulary(start, vocabulary, store, announce=announce)
    record = _record(store.shards, str(path), "the user's own", str(path))
    record["files"] = [
        {"path": str(shard.path), "sha256": shard.entry.sha256, "size_bytes": shard.num_bytes}
        for shard in store.shards
    ]
    data = PretrainingData(
        shards=store.shards,
        vocabulary=vocabulary,
        case_rules=start.case_rules,
        record=record,
        is_learnt_by_heart=False,
        whole_words=settings.whole_word_masking,
    )
    return data, start


def _with_vocabulary(
    start: StartingWeights,
    vocabulary: list[str],
    store: TokenStore,
    *,
    announce: Callable[[str], None],
) -> StartingWeights:
    """The start with the store's vocabulary, where that can be."""
    old = start.vocabulary
    if start.weights is None:
        # Random weights have no vocabulary of their own: the store's is theirs.
        return dataclasses.replace(
            start,
            config=dataclasses.replace(start.config, vocab_size=len(vocabulary)),
            vocabulary=vocabulary,
            case_rules=_case_rules(store, start.case_rules),
        )
    if not is_extension(old, vocabulary):
        raise DataError(
            f"{store.path}: was prepared with another vocabulary ({len(vocabulary)} entries) than"
            f" that of {start.record['name']} ({len(old)}), nor does it begin with all of that;"
            " prepare it again with --vocab of that model, or with one made by prepare vocab"
            " --extend"
        )
    announce(
        f"vocabulary: {len(vocabulary) - len(old):,} entries are new to {start.record['name']};"
        " each starts from the mean of its old pieces"
    )
    weights = extend_weights(start.weights, old=old, new=vocabulary)
    size = weights.config.vocab_size
    config = dataclasses.replace(start.config, vocab_size=size)
    return dataclasses.replace(start, config=config, weights=weights, vocabulary=vocabulary)


def _case_rules(store: TokenStore, otherwise: CaseRules) -> CaseRules:
    """The store's rules for text, as far as its manifest has them."""
    facts = store.manifest["vocabulary"]
    known = {field.name for field in dataclasses.fields(CaseRules)}
    return dataclasses.replace(
        otherwise, **{name: value for name, value in facts.items() if name in known}
    )


def _record(
    shards: Sequence[ShardOfTokens], name: str, licence: str, source: str
) -> dict[str, Any]:
    held_out = sum(int(np.count_nonzero(shard.is_held_out)) for shard in shards)
    documents = sum(len(shard.document_ends) for shard in shards)
    return {
        "name": name,
        "sample": False,
        "is_pair": True,
        "licence": licence,
        "source": source,
        "files": [],
        "counts": {
            "tokens": sum(len(shard.ids) for shard in shards),
            "sentences": sum(len(shard.sentence_ends) for shard in shards),
            "documents": documents,
            "held_out_documents": held_out,
        },
    }
