"""The settings of each command as typed values, built once and passed to the command.

What a field means, its unit and its range stand in its row of the table, under the same name. None
means that nobody set it and the task's recipe, or the command, decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from demo_bert.choices import Duration


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of `pretraining` and `finetuning`.

    A tuple of numbers has one for each phase; in finetuning it has one.
    """

    dtype: str
    model: str
    task: str
    init_checkpoint: str
    recipe: str | None
    dataset_path: tuple[str, ...] | None
    columns: Mapping[str, str] | None = None
    sample: bool | None
    batch_size: tuple[int, ...] | None
    global_batch_size: tuple[int, ...] | None
    max_seq_length: tuple[int, ...] | None
    epochs: float | None
    iters: tuple[int, ...] | None
    time_budget: Duration | None = None
    warmup: tuple[int, ...] | None
    phases: tuple[int, ...] | None = None
    fast_perf_only: bool = False
    learning_rate: tuple[float, ...] | None
    lr_scaling: str
    optimizer: str | None
    schedule: str | None
    weight_decay: float | None
    clip_norm: float | None
    dropout: float | None
    attention_dropout: float | None
    objectives: tuple[str, ...] | None = None
    whole_word_masking: bool = False
    on_nonfinite: str | None
    seed: int
    seeds: int | None
    output_dir: str | None
    new: bool
    resume: int | str
    """"auto", "never" or a step."""
    save_every: Duration
    keep: int
    keep_every: Duration | None
    eval_every: Duration | None
    log_every: Duration | None
    max_time: Duration | None
    track: tuple[str, ...] | None
    config: str | None
    device: str
    compile: str
    checkpoint_activations: bool
    reproducible: bool
    workers: int | str | None
    """A number, "auto" (-v alone), or None: one worker in this process."""
    max_restarts: int
    min_hosts: int | str
    """A number or "all"."""
    timeout: Duration
    shard_optimizer: bool
    grad_dtype: str
    hosts: tuple[str, ...] | None
    network_interface: str | None
    ssh_port: int | None
    map_by: str | None
    map_by_pe: int | None
    mpirun_command: str | None
    remote_dir: str | None
    data_root: str | None = None
    gradient_as_bucket_view: bool
    profile_steps: tuple[int, int] | None
    feature_cache: float = 4.0
    """In GB."""
    log_level: str


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of `evaluate`."""

    model: str
    task: str
    dataset_path: tuple[str, ...] | None
    columns: Mapping[str, str] | None
    sample: bool | None
    batch_size: int | None
    max_seq_length: int | None
    dtype: str | None
    device: str
    output_dir: str | None
    feature_cache: float
    config: str | None
    log_level: str


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Settings of `predict`."""

    model: str | None
    text: str | None
    text_b: str | None
    question: str | None
    context_file: str | None
    input: str | None
    output: str | None
    batch_size: int | None
    dtype: str | None
    device: str
    config: str | None
    log_level: str


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Settings of `report`."""

    runs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """Settings of `prepare`."""

    action: str | None
    """None: make a store."""
    stores: tuple[str, ...] | None
    wikipedia: tuple[str, ...] | None
    books: tuple[str, ...] | None
    text: tuple[str, ...] | None
    jsonl: tuple[str, ...] | None
    parquet: tuple[str, ...] | None
    output_dir: str | None
    vocab: str | None
    cased: bool
    language: str
    dedupe: str
    dry_run: bool
    size: int
    extend: str | None
    examples: int
    max_seq_length: int | None
    seed: int
    max_time: Duration | None
    workers: int | str | None
    """A number, "auto" (-v alone), or None: as many as there are cores."""
    hosts: tuple[str, ...] | None
    network_interface: str | None
    ssh_port: int | None
    map_by: str | None
    map_by_pe: int | None
    mpirun_command: str | None
    remote_dir: str | None
    config: str | None
    log_level: str


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Settings of `bench`."""

    model: str
    task: str
    against: str | None
    dtype: str
    batch_size: int | None
    max_seq_length: int | None
    iters: int | None
    repeats: int | None
    dropout: float | None
    attention_dropout: float | None
    seed: int
    device: str
    compile: str
    checkpoint_activations: bool
    workers: int | str | None
    """A number, "auto" (-v alone), or None: one worker in this process."""
    output_dir: str | None
    config: str | None
    log_level: str


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """Settings of `doctor`."""

    setup_hosts: bool
    device: str
    workers: int | str | None
    timeout: Duration
    hosts: tuple[str, ...] | None
    network_interface: str | None
    ssh_port: int | None
    map_by: str | None
    map_by_pe: int | None
    mpirun_command: str | None
    remote_dir: str | None
    config: str | None
    log_level: str


@dataclass(frozen=True, kw_only=True)
class OtherSettings:
    """Settings by name: of `pipeline`, which hands them on, and of what is not here yet."""

    values: Mapping[str, object]


Settings = (
    TrainingSettings
    | EvaluateSettings
    | PredictSettings
    | PrepareSettings
    | ReportSettings
    | BenchSettings
    | DoctorSettings
    | OtherSettings
)

SETTINGS_OF: Mapping[str, type[Settings]] = {
    "pretraining": TrainingSettings,
    "finetuning": TrainingSettings,
    "evaluate": EvaluateSettings,
    "predict": PredictSettings,
    "prepare": PrepareSettings,
    "report": ReportSettings,
    "bench": BenchSettings,
    "doctor": DoctorSettings,
}
"""Command -> its settings; commands that are not here have OtherSettings."""
