"""What `bench` prints and writes of its measurements."""

import os
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from demo_bert import __version__
from demo_bert.commands.measuring.blocks import PARTS, Measured
from demo_bert.commands.measuring.huggingface import FORMS, Form
from demo_bert.commands.measuring.own import OwnSide
from demo_bert.commands.measuring.peak import MOST_REPEATS, Peak
from demo_bert.report import wording

_COLUMNS = 80
_SHOWN_PARTS = (*PARTS, "other")
_ROUNDED = "no bfloat16 units here: products of rounded operands, and the peak, are float32's"
RULE = (
    "the first {warm_up} steps are left out; the device is waited for at the end of each block of"
    " steps; medians of {repeats} blocks; a step is all from the examples on the host to the"
    " updated weights, with events written and the check for values that are not finite; model"
    " FLOPs: matrix products on real tokens, forward times 3 (model/flops.py); peak: the best of"
    " up to {most} products, at most {most_s:g} s a shape, of 2048^3, 4096^3 and the model's own"
    " shapes, before, between and after"
)
"""How it was measured, for people."""


@dataclass(frozen=True)
class Row:
    """A work and what was measured of it."""

    own: OwnSide
    measured: Measured

    @property
    def label(self) -> str:
        """How the tables name it."""
        work = self.own.work
        kept = "" if work.dropout is None else f" p={work.dropout:g}"
        return f"{work.task}{kept}"

    @property
    def mean_length(self) -> float:
        """Tokens of the drawn examples, on average."""
        return statistics.fmean(self.own.lengths)


def lines_of(rows: Sequence[Row], peak: Peak, *, facts: Mapping[str, Any]) -> list[str]:
    """The tables.

    Args:
        rows: What was measured.
        peak: The machine's.
        facts: As `facts_of` gives them.

    Returns:
        Lines of at most 80 columns.
    """
    first = rows[0].own
    sheet = first.backend.peak_flops(first.dtype)
    shape = " x ".join(map(str, peak.shape))
    lines = [
        f"{facts['model']} in {facts['dtype']} on {facts['device_model']}, {facts['threads']}"
        f" threads, {wording.count(facts['world_size'], 'worker')}",
        f"peak  {_flops(peak.flops_per_s)}/s a worker, by a product of {shape}"
        + (f"; data sheet {_flops(sheet)}/s" if sheet else ""),
        *([_ROUNDED] if facts["products"] == "rounded" else []),
        "",
        f"{'':11}{'examples/s':>11}{'tokens/s':>11}{'model FLOP/s':>13}{'of peak':>9}"
        f"{'step':>10}{'memory':>9}",
    ]
    for row in rows:
        found = row.measured
        memory = "unknown" if found.memory_bytes is None else wording.size(found.memory_bytes)
        lines.append(
            f"{row.label:11}{wording.rate(found.median('examples')):>11}"
            f"{wording.rate(found.median('tokens')):>11}{_flops(found.median('flops')):>13}"
            f"{_utilisation(row, peak, facts):>9.2f}{_time(found.step_s):>10}{memory:>9}"
        )
    lines += ["", f"{'of a step':11}" + "".join(f"{part:>11}" for part in _shortened())]
    for row in rows:
        parts = row.measured.parts()
        whole = sum(parts.values()) or 1.0
        shares = "".join(f"{f'{100 * parts[part] / whole:.1f} %':>11}" for part in _SHOWN_PARTS)
        lines.append(f"{row.label:11}{shares}")
    rule = textwrap.wrap(f"rule: {facts['rule']}", _COLUMNS)
    return [*lines, *_against(rows, peak, facts), *_examples(rows), "", *rule]


def record_of(rows: Sequence[Row], peak: Peak, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same as plain values, and each single measurement.

    Args:
        rows: What was measured.
        peak: The machine's.
        facts: As `facts_of` gives them.

    Returns:
        The content of the JSON file.
    """
    first = rows[0].own
    return {
        "schema_version": 1,
        "command": "bench",
        **facts,
        "peak": {
            "flops_per_s": peak.flops_per_s,
            "shape": list(peak.shape),
            "data_sheet_flops_per_s": first.backend.peak_flops(first.dtype),
            "measured": [
                {"when": when, "shape": list(shape), "flops_per_s": rate}
                for when, shape, rate in peak.seen
            ],
        },
        "rows": [_row_record(row, peak, facts) for row in rows],
    }


def facts_of(own: OwnSide, *, world_size: int, repeats: int, peak: Peak, warm_up: int) -> Any:
    """What holds for all rows.

    Args:
        own: Any of the sides.
        world_size: Workers.
        repeats: Blocks of each.
        peak: The machine's.
        warm_up: Steps that are left out.

    Returns:
        Plain values.
    """
    hardware = own.backend.describe()
    return {
        "model": own.work.model,
        "dtype": own.work.dtype,
        "products": own.backend.product_mode(own.dtype),
        "device_model": hardware["model"],
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "torch": torch.__version__,
        "demo_bert": __version__,
        "seed": own.work.seed,
        "load": os.getloadavg()[0],
        "repeats": repeats,
        "rule": RULE.format(
            warm_up=warm_up, repeats=repeats, most=MOST_REPEATS, most_s=peak.most_s
        ),
    }


def _row_record(row: Row, peak: Peak, facts: Mapping[str, Any]) -> dict[str, Any]:
    work, found = row.own.work, row.measured
    config = row.own.config
    return {
        "task": work.task,
        "batch_size": work.batch_size,
        "micro_batch_size": row.own.micro_batch_size,
        "flags": list(work.extra),
        "max_seq_length": work.max_seq_length,
        "dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob,
        "optimizer": row.own.optimizer,
        "examples": {
            "kind": "drawn",
            "count": len(row.own.lengths),
            "mean_tokens": row.mean_length,
            "longest_tokens": max(row.own.lengths),
        },
        "steps_of_a_block": found.steps,
        "examples_per_s": found.median("examples"),
        "real_tokens_per_s": found.median("tokens"),
        "model_flops_per_s": found.median("flops"),
        "model_flops_utilisation": _utilisation(row, peak, facts),
        "step_s": found.step_s,
        "parts_s": found.parts(),
        "peak_memory_bytes": found.memory_bytes,
        "blocks": [
            {name: getattr(block, name) for name in ("seconds", "examples", "tokens", "flops")}
            for block in found.own
        ],
        "against": [_peer_record(row, form, peak) for form in FORMS if found.of(form)],
    }


def _peer_record(row: Row, form: Form, peak: Peak) -> dict[str, Any]:
    pairs = row.measured.of(form)
    ratios = [pair.ratio for pair in pairs]
    return {
        "peer": "transformers",
        "form": form,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ratios": ratios,
        "examples_per_s": _peer_rate(row, form, "examples"),
        "real_tokens_per_s": _peer_rate(row, form, "tokens"),
        "model_flops_utilisation": _peer_rate(row, form, "flops") / peak.flops_per_s,
        "seconds": [[pair.own.seconds, pair.peer.seconds] for pair in pairs],
    }


def _against(rows: Sequence[Row], peak: Peak, facts: Mapping[str, Any]) -> list[str]:
    if not any(row.measured.pairings for row in rows):
        return []
    peer = facts["peer"]
    lines = ["", f"against transformers {peer['version']} in {peer['dtype']}, {peer['optimizer']}"]
    lines.append(
        f"{'':11}{'ratio':>9}{'smallest':>10}{'largest':>10}{'examples/s':>13}{'of peak':>9}"
    )
    for form, words in FORMS.items():
        lines.append(f"  {words.format(length='the longest allowed')}")
        for row in rows:
            found = _peer_record(row, form, peak)
            lines.append(
                f"{row.label:11}{found['ratio']:>8.2f}x{found['ratio_min']:>9.2f}x"
                f"{found['ratio_max']:>9.2f}x{wording.rate(found['examples_per_s']):>13}"
                f"{found['model_flops_utilisation']:>9.2f}"
            )
    return lines


def _examples(rows: Sequence[Row]) -> list[str]:
    lines = ["", "drawn examples with the lengths of the tasks:"]
    for row in rows:
        work, config = row.own.work, row.own.config
        lines.append(
            f"  {row.label}: {work.batch_size} a micro-step, at most {work.max_seq_length} tokens,"
            f" {row.mean_length:.0f} on average"
        )
        lines.append(
            f"    dropout {config.hidden_dropout_prob:g} and"
            f" {config.attention_probs_dropout_prob:g}, {row.own.optimizer},"
            f" {wording.count(row.measured.steps, 'step')} a block"
            + "".join(f", {flag}" for flag in work.extra if flag.startswith("--"))
        )
        if row.own.micro_batch_size != work.batch_size:
            lines.append(
                f"    {work.batch_size} did not fit in memory: in micro-steps of"
                f" {row.own.micro_batch_size}"
            )
    return lines


def _utilisation(row: Row, peak: Peak, facts: Mapping[str, Any]) -> float:
    return row.measured.median("flops") / facts["world_size"] / peak.flops_per_s


def _peer_rate(row: Row, form: Form, name: str) -> float:
    pairs = row.measured.of(form)
    return statistics.median(getattr(pair.peer, name) / pair.peer.seconds for pair in pairs)


def _shortened() -> list[str]:
    return ["commun." if part == "communication" else part for part in _SHOWN_PARTS]


def _flops(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:.3g} {unit}FLOP"
    return f"{value / 1e6:.3g} MFLOP"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
