"""The numbers of a pre-training run: its phases, worked out once from settings and recipe."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from demo_bert.data.masking import most_masked
from demo_bert.errors import UsageError
from demo_bert.optim.scaling import scaled_rate
from demo_bert.settings import TrainingSettings

SHORTEST = 8
"""Tokens of the shortest example that is long enough for a pair."""
_MOST_EPOCHS = 40
_PERF_ONLY = (1600, 200)
LOSS_PARTS = {
    "mlm+nsp": ("mlm_loss", "nsp_loss"),
    "mlm": ("mlm_loss",),
    "nsp": ("nsp_loss",),
}
"""`--objectives` -> the parts of the loss."""


@dataclass(frozen=True)
class PhaseRecipe:
    """A phase's published settings."""

    batch_size: dict[str, int]
    """Examples of a micro-step, for each compute type."""
    max_seq_length: int
    """Longest example, in tokens."""
    num_steps: int
    """Updates."""
    warmup_steps: int
    """Updates of the warm-up, of `num_steps`."""
    global_batch_size: int
    """Examples of an update."""
    learning_rate: float
    """Peak rate at that batch."""


@dataclass(frozen=True)
class PretrainingRecipe:
    """The published settings of a pre-training task, used where the user gives none."""

    phases: tuple[PhaseRecipe, ...]
    optimizer: str
    schedule: str
    source: str
    weight_decay: float = 0.01
    dropout: float | None = None
    """Of hidden states and attention; None: the model's."""
    rate_batch: int | None = None
    """Examples of an update that the rates are for; None: each phase's own."""
    rate_note: str = ""
    """Why the rates are what they are, for the log."""


_BOOKSWIKI = PretrainingRecipe(
    phases=(
        PhaseRecipe({"bf16": 64, "fp32": 32}, 128, 7038, 2000, 65536, 6e-3),
        PhaseRecipe({"bf16": 8, "fp32": 8}, 512, 1563, 200, 32768, 4e-3),
    ),
    optimizer="lamb",
    schedule="polynomial",
    source="NVIDIA's BERT for PyTorch: LAMB in two phases",
)

RECIPES: dict[str, PretrainingRecipe] = {
    "bookswiki": _BOOKSWIKI,
    "text": _BOOKSWIKI,
    "overfit": PretrainingRecipe(
        phases=(PhaseRecipe({"bf16": 32, "fp32": 32}, 128, 200, 10, 32, 3e-3),),
        optimizer="adamw",
        schedule="linear",
        weight_decay=0.0,
        dropout=0.0,
        source="ours: 64 pairs learnt by heart want a high rate and no dropout (docs/numbers.md)",
    ),
}
"""`-t` -> what it is trained with."""

CONTINUED = replace(
    _BOOKSWIKI,
    phases=tuple(
        replace(phase, learning_rate=1e-4, warmup_steps=round(0.06 * phase.num_steps))
        for phase in _BOOKSWIKI.phases
    ),
    optimizer="adamw",
    schedule="linear",
    source="continued pre-training: AdamW, as Gururangan et al. 2020 adapt to a task",
    rate_batch=256,
    rate_note="weights that are trained already want a low rate and a short warm-up",
)
"""What `bookswiki` and `text` are trained with from weights that are trained already."""

SAMPLE_PHASES = tuple(
    replace(phase, num_steps=steps, warmup_steps=warmup, global_batch_size=batch)
    for phase, steps, warmup, batch in zip(
        _BOOKSWIKI.phases, (60, 20), (17, 3), (64, 16), strict=True
    )
)
"""The phases of `bookswiki` cut to what the embedded text can bear."""


_KEPT = (
    "number",
    "objectives",
    "max_seq_length",
    "global_batch_size",
    "micro_batch_size",
    "num_steps",
    "warmup_steps",
    "learning_rate",
)


@dataclass(frozen=True)
class Phase:
    """What the loop and the log need to know of a phase.

    Attributes:
        number: 1 or 2.
        objectives: A key of LOSS_PARTS.
        max_seq_length: Longest example, in tokens.
        micro_batch_size: Examples of a micro-step of one worker.
        global_batch_size: Examples of a step over all workers.
        accumulation_steps: Micro-steps of a step, on the worker that has most.
        first_step: Updates of the run before this phase.
        num_steps: Updates of this phase.
        warmup_steps: Updates of its warm-up.
        learning_rate: Its peak rate.
        rate_reason: Where the rate comes from.
    """

    number: int
    objectives: str
    max_seq_length: int
    micro_batch_size: int
    global_batch_size: int
    accumulation_steps: int
    first_step: int
    num_steps: int
    warmup_steps: int
    learning_rate: float
    rate_reason: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the loss."""
        return LOSS_PARTS[self.objectives]

    @property
    def end_step(self) -> int:
        """Updates of the run after this phase."""
        return self.first_step + self.num_steps

    def with_micro_batch(self, size: int, *, num_workers: int) -> "Phase":
        """The phase in smaller micro-steps; its steps are the same.

        Args:
            size: Examples of a micro-step.
            num_workers: Workers on all hosts.

        Returns:
            The phase.
        """
        accumulated = math.ceil(math.ceil(self.global_batch_size / size) / num_workers)
        return replace(self, micro_batch_size=size, accumulation_steps=accumulated)

    @property
    def numbers(self) -> dict[str, int | float | str]:
        """What must not change from one attempt to the next, for the run to go on exactly."""
        return {name: getattr(self, name) for name in _KEPT}

    @property
    def most_masked(self) -> int:
        """Masked tokens of an example, at most."""
        return most_masked(self.max_seq_length) if "mlm_loss" in self.parts else 0


def changed_numbers(phases: Sequence[Phase], before: Sequence[Mapping[str, object]]) -> list[str]:
    """What keeps a run from going on.

    Args:
        phases: As they are now.
        before: Their `numbers` in a checkpoint; the last phase may have become longer since.

    Returns:
        In words, what is another; empty where the run goes on.
    """
    changed = [
        f"{name} of phase {phase.number} is {value}, was {then.get(name)}"
        for phase, then in zip(phases, before, strict=False)
        for name, value in phase.numbers.items()
        if then.get(name) != value
        and not (name == "num_steps" and phase is phases[-1] and _is_more(value, then.get(name)))
    ]
    if not changed and len(before) != len(phases):
        changed = [f"{len(phases)} phases instead of {len(before)}"]
    return changed


def _is_more(value: object, before: object) -> bool:
    return isinstance(value, int) and isinstance(before, int) and value > before


def recipe_of(settings: TrainingSettings) -> PretrainingRecipe:
    """The recipe of a run.

    Args:
        settings: As resolved.

    Returns:
        That of its task; or `CONTINUED` where trained weights are trained on. The second phase
        alone is not that: it goes on from the first one as published.
    """
    is_continued = settings.init_checkpoint != "random" and settings.phases != (2,)
    if is_continued and settings.task != "overfit":
        return CONTINUED
    return RECIPES[settings.task]


def defaults_of(
    settings: TrainingSettings, *, is_sample: bool, num_workers: int
) -> tuple[dict[str, object], tuple[PhaseRecipe, ...]]:
    """What the recipe sets where nobody else did.

    Args:
        settings: As resolved.
        is_sample: Whether the embedded text stands in for a corpus.
        num_workers: Workers on all hosts.

    Returns:
        Values by name, a tuple having one for each phase; and the recipe's phases.
    """
    recipe = recipe_of(settings)
    is_cut = is_sample and settings.task != "overfit"
    phases = SAMPLE_PHASES if is_cut else recipe.phases
    batches = tuple(phase.global_batch_size for phase in phases)
    if settings.fast_perf_only:
        batches = _PERF_ONLY[: len(phases)]
    micro = tuple(phase.batch_size[settings.dtype] for phase in phases)
    if settings.task == "overfit":
        batches = ((settings.batch_size or micro)[0] * num_workers,)
    defaults: dict[str, object] = {
        "batch_size": micro,
        "global_batch_size": batches,
        "max_seq_length": tuple(phase.max_seq_length for phase in phases),
        "iters": tuple(phase.num_steps for phase in phases),
        "objectives": tuple("mlm+nsp" for _ in phases),
        "optimizer": recipe.optimizer,
        "schedule": recipe.schedule,
        "weight_decay": recipe.weight_decay,
    }
    if recipe.dropout is not None:
        defaults |= {"dropout": recipe.dropout, "attention_dropout": recipe.dropout}
    return defaults, phases


def plan_phases(
    settings: TrainingSettings,
    recipes: Sequence[PhaseRecipe],
    *,
    num_examples: Sequence[int],
    num_workers: int,
    chosen: Sequence[int] | None = None,
) -> tuple[Phase, ...]:
    """Works out the phases that run.

    Args:
        settings: With the recipe's values filled in.
        recipes: The recipe's phases.
        num_examples: Examples of an epoch, for each of them.
        num_workers: Workers on all hosts.
        chosen: Numbers of the phases; None: those of the settings, else all.

    Returns:
        The phases, in order.

    Raises:
        UsageError: A phase is asked for that there is not.
    """
    chosen = chosen or settings.phases or range(1, len(recipes) + 1)
    if max(chosen) > len(recipes):
        raise UsageError(f"--phases {max(chosen)}: -t {settings.task} has one phase")
    phases: list[Phase] = []
    for number in chosen:
        first_step = phases[-1].end_step if phases else 0
        phases.append(
            _phase(
                settings,
                recipes,
                number=number,
                first_step=first_step,
                num_examples=num_examples[number - 1],
                num_workers=num_workers,
            )
        )
    return tuple(phases)


def check_lengths(phases: Sequence[Phase], *, max_positions: int) -> None:
    """Refuses examples that the model cannot take.

    Args:
        phases: Those that run.
        max_positions: The longest example that the model can take.

    Raises:
        UsageError: An example would be longer, or too short to hold a pair.
    """
    for phase in phases:
        if not SHORTEST <= phase.max_seq_length <= max_positions:
            raise UsageError(
                f"-s/--max-seq-length {phase.max_seq_length} (phase {phase.number}): the model"
                f" takes {SHORTEST} to {max_positions} tokens"
            )


def epochs_warning(epochs: float, *, is_meant: bool) -> str | None:
    """What to say of many passes over the same text.

    Args:
        epochs: Of all phases together.
        is_meant: Whether that is the point of the run.

    Returns:
        A line; None where there is nothing to say.
    """
    if is_meant or epochs <= _MOST_EPOCHS:
        return None
    return (
        f"{epochs:,.0f} epochs over the data: beyond about {_MOST_EPOCHS} a model learns the text"
        " by heart; prepare more text, or give fewer --iters"
    )


def _phase(
    settings: TrainingSettings,
    recipes: Sequence[PhaseRecipe],
    *,
    number: int,
    first_step: int,
    num_examples: int,
    num_workers: int,
) -> Phase:
    recipe, at = recipes[number - 1], number - 1
    assert settings.batch_size and settings.global_batch_size and settings.objectives
    assert settings.max_seq_length
    batch = settings.global_batch_size[at]
    micro = min(settings.batch_size[at], batch)
    if settings.epochs is not None:
        steps = max(1, math.ceil(settings.epochs * num_examples / batch - 1e-9))
    else:
        assert settings.iters
        steps = settings.iters[at]
    whole = recipe_of(settings)
    published = whole.phases[at]
    share_of = published if whole is CONTINUED else recipe
    warmup = round(steps * share_of.warmup_steps / share_of.num_steps)
    if settings.task == "overfit":
        warmup = recipe.warmup_steps
    if settings.warmup and len(settings.warmup) > at:
        warmup = settings.warmup[at]
    choice = scaled_rate(
        published.learning_rate,
        rule=settings.lr_scaling,
        reference_batch=whole.rate_batch or published.global_batch_size,
        global_batch=batch,
        num_workers=num_workers,
        cap=None,
    )
    rate, reason = choice.rate, "; ".join(filter(None, (choice.reason, whole.rate_note)))
    if settings.learning_rate and len(settings.learning_rate) > at:
        rate, reason = settings.learning_rate[at], "as given"
    return Phase(
        number=number,
        objectives=settings.objectives[at],
        max_seq_length=settings.max_seq_length[at],
        micro_batch_size=micro,
        global_batch_size=batch,
        accumulation_steps=math.ceil(math.ceil(batch / micro) / num_workers),
        first_step=first_step,
        num_steps=steps,
        warmup_steps=min(warmup, steps),
        learning_rate=rate,
        rate_reason=reason,
    )
