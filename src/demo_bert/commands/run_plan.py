"""The numbers of a fine-tuning run, worked out once from settings, recipe, model and data."""

import math
from dataclasses import dataclass

from demo_bert.errors import UsageError
from demo_bert.optim.scaling import scaled_rate
from demo_bert.settings import TrainingSettings
from demo_bert.tasks.task import Recipe

_FEW_STEPS = 100


@dataclass(frozen=True)
class RunPlan:
    """What the loop and the log need to know.

    Attributes:
        micro_batch_size: Examples of a micro-step of one worker.
        global_batch_size: Examples of a step over all workers.
        num_steps: Updates in all.
        steps_per_epoch: Updates after which each example was seen once; a fraction.
        epochs: Passes over the data.
        warmup_steps: Updates of the warm-up.
        learning_rate: The peak rate.
        rate_reason: Where the rate comes from, for the log.
        max_seq_length: Longest example, in tokens.
        warnings: Lines for the log.
    """

    micro_batch_size: int
    global_batch_size: int
    num_steps: int
    steps_per_epoch: float
    epochs: float
    warmup_steps: int
    learning_rate: float
    rate_reason: str
    max_seq_length: int
    warnings: tuple[str, ...]

    def is_epoch_end(self, step: int) -> bool:
        """Whether an epoch's last example is consumed by that update, or the run ends.

        Args:
            step: Updates done.

        Returns:
            True at each step that completes one more whole epoch, and at the last step.
        """
        before, now = (math.floor(s / self.steps_per_epoch + 1e-9) for s in (step - 1, step))
        return now > before or step == self.num_steps


def longest_example(settings: TrainingSettings, recipe: Recipe, *, max_positions: int) -> int:
    """The longest row, in tokens.

    Args:
        settings: As resolved; None where the recipe decides.
        recipe: The task's.
        max_positions: The longest row that the model can take.

    Returns:
        The length.

    Raises:
        UsageError: It is above the model's.
    """
    length = settings.max_seq_length[0] if settings.max_seq_length else recipe.max_seq_length
    if length > max_positions:
        raise UsageError(
            f"-s/--max-seq-length {length}: the model takes at most {max_positions} tokens"
        )
    return length


def plan_run(
    settings: TrainingSettings,
    recipe: Recipe,
    *,
    hidden_size: int,
    max_positions: int,
    num_examples: int,
    num_workers: int,
) -> RunPlan:
    """Works out the numbers.

    Args:
        settings: As resolved; None where the recipe decides.
        recipe: The task's.
        hidden_size: Of the model.
        max_positions: The longest example that the model can take.
        num_examples: Model rows of the training split.
        num_workers: Workers on all hosts.

    Returns:
        The plan.

    Raises:
        UsageError: The sequence length is above the model's.
    """
    length = longest_example(settings, recipe, max_positions=max_positions)
    micro = settings.batch_size[0] if settings.batch_size else recipe.batch_size[settings.dtype]
    batch = settings.global_batch_size[0] if settings.global_batch_size else micro * num_workers
    micro = min(micro, batch)
    per_epoch = num_examples / batch
    if settings.iters:
        steps = settings.iters[0]
        epochs = steps / per_epoch
    else:
        epochs = recipe.epochs if settings.epochs is None else settings.epochs
        steps = max(1, math.ceil(epochs * per_epoch - 1e-9))
    base, cap = recipe.base_rate(hidden_size)
    choice = scaled_rate(
        base,
        rule=settings.lr_scaling,
        reference_batch=recipe.reference_batch,
        global_batch=batch,
        num_workers=num_workers,
        cap=cap,
    )
    rate, reason = choice.rate, choice.reason
    is_raised = choice.is_raised
    if settings.learning_rate:
        rate, reason, is_raised = settings.learning_rate[0], "as given", False
    share = recipe.raised_warmup_fraction if is_raised else recipe.warmup_fraction
    warmup = min(settings.warmup[0], steps) if settings.warmup else round(share * steps)
    warnings = []
    if steps < _FEW_STEPS:
        warnings.append(
            f"{steps} steps in all are few for fine-tuning; a smaller --batch-size or"
            " more --epochs gives more"
        )
    return RunPlan(
        micro_batch_size=micro,
        global_batch_size=batch,
        num_steps=steps,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        warmup_steps=warmup,
        learning_rate=rate,
        rate_reason=reason,
        max_seq_length=length,
        warnings=tuple(warnings),
    )
