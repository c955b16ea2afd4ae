r"""Pre-training beside a plain `transformers` BertForPreTraining loop, on the same examples.

    python benchmarks/pretraining_against_transformers.py losses -m tiny --steps 50
    python benchmarks/pretraining_against_transformers.py speed -m base -d bf16 -b 16 --rounds 3
    python benchmarks/pretraining_against_transformers.py speed -m base -d bf16 -b 8 --length 512 \
        --fill 0.5
    python benchmarks/pretraining_against_transformers.py curves -m tiny -d bf16 --steps 200 \
        --output curves.svg

`losses`: the same starting weights, dropout 0, AdamW, the same batches; prints the largest relative
difference of the two losses over the steps.

`speed`: the model's own dropout; both sides in turn in one process, `--pool` steps each in a round,
over the same examples. Ratios are of examples per second. `padded-*` is the peer as people run it:
padded to the longest example allowed, its head over all positions. `best-*` is its best: the
round's examples sorted by length, padded to the longest of the batch, head on masked tokens alone.

`curves`: dropout on, three seeds of either side, each seed with its own starting weights (the same
for both sides) and its own dropout, all on the same examples; a step's loss is smoothed, and the
gap between the means of both sides is set against the largest gap between two seeds of the peer.

Examples come from --store, else from the embedded text. With `--fill X` the documents are cut so
that examples fill about that share of the longest one, as text of short documents does.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo_bert.commands.held_out import loss_of
from demo_bert.corpus.store import open_store
from demo_bert.data import sample_text
from demo_bert.data.loader import MicroBatch
from demo_bert.data.masking import pieces_of
from demo_bert.data.order import places_at
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import PairSource, ShardOfTokens, joined
from demo_bert.data.pretraining import Examples, pretraining_batches
from demo_bert.data.sample_text import MemoryShard
from demo_bert.distributed import World
from demo_bert.hardware import Dtype, select
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.heads import PreTrainer
from demo_bert.model.linear import round_products
from demo_bert.model.sizes import SIZES
from demo_bert.model.vocabulary import (
    STANDARD_VOCABULARY,
    CaseRules,
    build_tokenizer,
    read_vocabulary,
)
from demo_bert.optim import Schedule, make_optimizer, make_schedule
from demo_bert.report.series import Point, smoothed
from demo_bert.report.svg import Chart, Series, figure
from demo_bert.training import Actions, train

ORDER_SEED = 42
PARTS = ("mlm_loss", "nsp_loss")
_SMOOTHED_STEPS = 20
_NUM_SEEDS = 3
_SHORTER = 0.91
_COLOURS = ("#0b66c3", "#c3410b")
_WITHOUT_DECAY = ("bias", "norm.weight")
Steps = Callable[[int, int], list[float]]
"""First step and the one after the last -> the loss of each."""


def main() -> None:
    """Compares and prints."""
    options = _options()
    torch.set_num_threads(options.threads)
    vocabulary = read_vocabulary(STANDARD_VOCABULARY)
    examples = _examples(options, vocabulary)
    numbers: dict[str, Any] = dict(SIZES[options.model].config)
    if options.what == "losses":
        numbers |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**numbers)
    {"losses": _losses, "speed": _speed, "curves": _curves}[options.what](
        options, config, examples, vocabulary
    )


def _losses(
    options: argparse.Namespace, config: BertConfig, examples: Examples, vocabulary: list[str]
) -> None:
    """The same steps on both sides, without dropout."""
    peer = f"best-{options.dtype}"
    ours, theirs = _both(options, config, examples, vocabulary, peer=peer, seed=ORDER_SEED)
    pairs = list(zip(ours(0, options.steps), theirs(0, options.steps), strict=True))
    gaps = [abs(a - b) / abs(b) for a, b in pairs]
    _say(
        peer=peer,
        steps=len(gaps),
        first=pairs[0],
        last=pairs[-1],
        largest_relative_gap=max(gaps),
        at_step=1 + gaps.index(max(gaps)),
    )


def _speed(
    options: argparse.Namespace, config: BertConfig, examples: Examples, vocabulary: list[str]
) -> None:
    """Rounds of both sides in turn."""
    rows = np.arange(min(len(examples), 1000))
    lengths = examples.pairs(np.zeros(len(rows), np.int64), rows).num_tokens
    _say(
        model=options.model,
        dtype=options.dtype,
        batch=options.batch_size,
        length=options.length,
        mean_fill=round(float(lengths.mean()) / options.length, 3),
        threads=options.threads,
    )
    num_examples = options.pool * options.batch_size
    for peer in options.peers or (f"padded-{options.dtype}", f"best-{options.dtype}"):
        ours, theirs = _both(options, config, examples, vocabulary, peer=peer, seed=ORDER_SEED)
        ours(0, 1)
        theirs(0, 1)
        pairs: list[tuple[float, float]] = []
        for number in range(options.rounds):
            first, last = 1 + number * options.pool, 1 + (number + 1) * options.pool
            sides = (ours, theirs) if number % 2 == 0 else (theirs, ours)
            seconds = [_timed(side, first, last) for side in sides]
            pairs.append((seconds[0], seconds[1]) if number % 2 == 0 else (seconds[1], seconds[0]))
        ratios = [b / a for a, b in pairs]
        _say(
            peer=peer,
            ratio=round(statistics.median(ratios), 3),
            ratio_min=round(min(ratios), 3),
            ratio_max=round(max(ratios), 3),
            rounds=len(ratios),
            ours_examples_per_s=round(num_examples / statistics.median(a for a, _ in pairs), 2),
            peer_examples_per_s=round(num_examples / statistics.median(b for _, b in pairs), 2),
            load=round(os.getloadavg()[0], 2),
        )


def _curves(
    options: argparse.Namespace, config: BertConfig, examples: Examples, vocabulary: list[str]
) -> None:
    """Three seeds of either side with dropout."""
    peer = f"best-{options.dtype}"
    found: dict[str, list[np.ndarray]] = {"ours": [], "peer": []}
    for seed in range(_NUM_SEEDS):
        sides = _both(options, config, examples, vocabulary, peer=peer, seed=seed)
        for name, side in zip(found, sides, strict=True):
            losses = side(0, options.steps)
            curve = smoothed(list(enumerate(losses, 1)), window=_SMOOTHED_STEPS)
            found[name].append(np.array([loss for _, loss in curve]))
            _say(side=name, seed=seed, last=round(float(curve[-1][1]), 4))
    ours, theirs = np.stack(found["ours"]), np.stack(found["peer"])  # (seeds, steps)
    gaps = np.abs(ours.mean(0) - theirs.mean(0))
    spread = (theirs.max(0) - theirs.min(0)).max()
    _say(
        steps=options.steps,
        largest_gap_of_means=round(float(gaps.max()), 4),
        at_step=1 + int(gaps.argmax()),
        largest_gap_between_seeds_of_the_peer=round(float(spread), 4),
        is_within=bool(gaps.max() < spread),
    )
    if options.output:
        options.output.write_text(_plot(found, options), encoding="utf-8")


def _both(
    options: argparse.Namespace,
    config: BertConfig,
    examples: Examples,
    vocabulary: list[str],
    *,
    peer: str,
    seed: int,
) -> tuple[Steps, Steps]:
    """Both sides, with the same starting weights."""
    model = PreTrainer(config)
    initialise(model, initializer_range=config.initializer_range, seed=seed)
    schedule = make_schedule("constant", num_steps=1, warmup_steps=0)
    if options.what == "curves":
        schedule = make_schedule(
            "linear", num_steps=options.steps, warmup_steps=max(1, options.steps // 10)
        )
    with tempfile.TemporaryDirectory() as directory:
        save_model_directory(
            Path(directory),
            model,
            config=config,
            vocabulary=vocabulary,
            case_rules=CaseRules(do_lower_case=True),
        )
        theirs = _theirs(peer, Path(directory), examples, options, schedule=schedule, seed=seed)
    return _ours(model, examples, options, schedule=schedule, seed=seed), theirs


def _examples(options: argparse.Namespace, vocabulary: list[str]) -> Examples:
    if options.store:
        shards: Sequence[ShardOfTokens] = open_store(options.store).shards
    else:
        tokenizer = build_tokenizer(vocabulary, do_lower_case=True)
        shards = [sample_text.shard_of_text(sample_text.sample_documents(), tokenizer)]
    if options.fill is not None:
        shards = [_cut(shard, options.fill * options.length) for shard in shards[:1]]
    source = PairSource(shards, max_seq_length=options.length, seed=ORDER_SEED)
    return Examples(source, pieces_of(vocabulary), options.length)


def _cut(shard: ShardOfTokens, mean_tokens: float) -> MemoryShard:
    """The sentences of a shard in shorter documents, of half to one and a half times the mean.

    A document ends with a sentence, and a tenth of all pairs is shorter; `_SHORTER` makes up for
    both, as far as the fill that is printed says.
    """
    drawn = np.random.default_rng(ORDER_SEED)
    before = np.concatenate([[0], shard.sentence_ends]).astype(np.int64)
    ends: list[int] = []
    begin, target = 0, 0.0
    for sentence in range(1, len(before)):
        if before[sentence] - begin >= target:
            ends.append(sentence)
            begin, target = int(before[sentence]), drawn.uniform(0.5, 1.5) * mean_tokens * _SHORTER
    return MemoryShard(
        ids=shard.ids,
        sentence_ends=shard.sentence_ends,
        document_ends=np.array(ends, np.uint32),
        is_held_out=np.zeros(len(ends), bool),
    )


def _batches(examples: Examples, first: int, last: int, size: int) -> Iterator[MicroBatch]:
    return pretraining_batches(
        examples,
        seed=ORDER_SEED,
        first_step=first,
        num_steps=last,
        global_batch_size=size,
        micro_batch_size=size,
    )


def _sorted_batches(examples: Examples, first: int, last: int, size: int) -> Iterator[Batch]:
    """The same examples, sorted by length before they are dealt to steps."""
    epochs, rows = places_at(
        first * size, (last - first) * size, num_rows=len(examples), seed=ORDER_SEED
    )
    pairs = examples.pairs(epochs, rows)
    order = np.argsort(pairs.num_tokens, kind="stable")
    for begin in range(0, len(order), size):
        some = order[begin : begin + size]
        yield examples.batch(joined([pairs[int(place) : int(place) + 1] for place in some]))


def _ours(
    model: PreTrainer,
    examples: Examples,
    options: argparse.Namespace,
    *,
    schedule: Schedule,
    seed: int,
) -> Steps:
    backend = select("cpu")
    backend.prepare()
    dtype: Dtype = options.dtype
    round_products(model, backend.product_mode(dtype) == "rounded")
    optimizer = make_optimizer("adamw", dict(model.named_parameters()), weight_decay=0.01)

    def steps(first: int, last: int) -> list[float]:
        losses: list[float] = []

        def emit(event: str, **fields: Any) -> None:
            if event == "step":
                losses.append(fields["loss"])

        train(
            model,
            optimizer,
            batches=_batches(examples, first, last, options.batch_size),
            num_steps=last,
            loss_sum=lambda model, batch: loss_of(model, batch, parts=PARTS),
            schedule=schedule,
            peak_rate=options.learning_rate,
            clip_norm=1.0,
            dtype=dtype,
            seed=seed,
            backend=backend,
            world=World(),
            actions=Actions(
                emit=emit,
                evaluate=lambda step: None,
                save=lambda step: None,
                is_evaluation_due=lambda step: False,
                is_save_due=lambda step: False,
                stop_reason=lambda: None,
            ),
            parts=PARTS,
        )
        return losses

    return steps


def _theirs(
    peer: str,
    directory: Path,
    examples: Examples,
    options: argparse.Namespace,
    *,
    schedule: Schedule,
    seed: int,
) -> Steps:
    from transformers import BertForPreTraining

    torch.manual_seed(seed)
    model: Any = BertForPreTraining.from_pretrained(str(directory)).train()
    decaying = [p for n, p in model.named_parameters() if not n.lower().endswith(_WITHOUT_DECAY)]
    rest = [p for n, p in model.named_parameters() if n.lower().endswith(_WITHOUT_DECAY)]
    groups = [{"params": decaying, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, eps=1e-6, fused=True)
    is_best, is_bf16 = peer.startswith("best"), peer.endswith("bf16")

    def batches(first: int, last: int) -> Iterator[Batch]:
        if is_best and options.what == "speed":
            yield from _sorted_batches(examples, first, last, options.batch_size)
            return
        for micro in _batches(examples, first, last, options.batch_size):
            assert micro.batch is not None
            yield micro.batch

    def steps(first: int, last: int) -> list[float]:
        losses: list[float] = []
        for number, batch in enumerate(batches(first, last), first):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * schedule(number)
            inputs = _padded(batch, batch.max_seqlen if is_best else options.length)
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                loss = _masked_only(model, inputs) if is_best else model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.item()))
        return losses

    return steps


def _masked_only(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same loss with the head over masked tokens alone."""
    encoded = {k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    outputs = model.bert(**encoded)
    chosen = inputs["labels"] != -100
    words = model.cls.predictions(outputs.last_hidden_state[chosen])
    pairs = model.cls.seq_relationship(outputs.pooler_output)
    return torch.nn.functional.cross_entropy(
        words.float(), inputs["labels"][chosen]
    ) + torch.nn.functional.cross_entropy(pairs.float(), inputs["next_sentence_label"])


def _padded(batch: Batch, length: int) -> dict[str, torch.Tensor]:
    """The flat batch as rows."""
    bounds = batch.cu_seqlens.numpy().astype(np.int64)
    sizes = np.diff(bounds)
    flat = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes) * length) + batch.position_ids
    rows = (len(sizes), length)
    ids, types, mask = (torch.zeros(rows[0] * length, dtype=torch.int64) for _ in range(3))
    labels = torch.full((rows[0] * length,), -100)
    ids[flat], types[flat], mask[flat] = batch.input_ids, batch.token_type_ids, 1
    assert batch.masked_tokens is not None and batch.masked_labels is not None
    labels[flat[batch.masked_tokens]] = batch.masked_labels
    return {
        "input_ids": ids.view(rows),
        "attention_mask": mask.view(rows),
        "token_type_ids": types.view(rows),
        "labels": labels.view(rows),
        "next_sentence_label": batch.labels,
    }


def _plot(found: dict[str, list[np.ndarray]], options: argparse.Namespace) -> str:
    """All curves in one picture, as SVG by itself."""
    series = [
        Series(f"{name}, seed {seed}", _points(curve), colour=number)
        for number, (name, curves) in enumerate(found.items())
        for seed, curve in enumerate(curves)
    ]
    drawn = figure(Chart(title="loss", series=series))
    (picture,) = re.findall(r"(<svg viewBox=\"0 0 460.*?</svg>)", drawn, re.DOTALL)
    rules = "text{font:11px sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#333}"
    rules += ".line{fill:none;stroke-width:1.2}"
    rules += "".join(f".c{number}{{stroke:{colour}}}" for number, colour in enumerate(_COLOURS))
    words = f"{options.model}, {options.dtype}, mean over {_SMOOTHED_STEPS} steps, three seeds each"
    lines = [("demo_bert", _COLOURS[0]), ("transformers", _COLOURS[1]), (words, "#333")]
    legend = "".join(
        f'<text x="448" y="{26 + 15 * number}" text-anchor="end" style="fill:{colour}">'
        f"{text}</text>"
        for number, (text, colour) in enumerate(lines)
    )
    head = '<svg xmlns="http://www.w3.org/2000/svg" '
    style = f"<style>{rules}</style>"
    opened = picture.replace("<svg ", head, 1).replace(">", f">{style}", 1)
    return opened.replace("</svg>", f"{legend}</svg>") + "\n"


def _points(curve: np.ndarray) -> list[Point]:
    return [(float(step), float(loss)) for step, loss in enumerate(curve, 1)]


def _timed(side: Steps, first: int, last: int) -> float:
    started = time.perf_counter()
    side(first, last)
    return time.perf_counter() - started


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("losses", "speed", "curves"))
    parser.add_argument("--store", type=Path)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("-d", "--dtype", default="fp32", choices=("bf16", "fp32"))
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("-s", "--length", type=int, default=128)
    parser.add_argument("--fill", type=float)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=50, help="of losses and curves")
    parser.add_argument("--rounds", type=int, default=5, help="of speed")
    parser.add_argument("--pool", type=int, default=4, help="steps of a round of speed")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peers", nargs="+", help="padded-bf16 best-bf16 padded-fp32 best-fp32")
    parser.add_argument("--output", type=Path, help="SVG of curves")
    return parser.parse_args()


if __name__ == "__main__":
    main()
