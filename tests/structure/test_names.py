"""The tables of names agree with what there is."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch

from demo_bert.cli import main
from demo_bert.commands import COMMANDS
from demo_bert.hardware import BACKENDS
from demo_bert.hardware.backend import Backend
from demo_bert.model.bert import Bert, BertConfig
from demo_bert.model.sizes import SIZES
from demo_bert.optim import OPTIMIZERS, SCHEDULES, make_optimizer
from demo_bert.settings.table import options_of
from demo_bert.tasks import PLANNED, TASKS, load_task
from demo_bert.tasks.task import Task
from structure.source import ROOT, SOURCE

# Layers, hidden size, heads, parameters of encoder and pooler: Devlin et al. 2019 and Turc et al.
# 2019, with Google's vocabulary of 30522 pieces; the model card of all-MiniLM-L6-v2.
PUBLISHED = {
    "tiny": (2, 128, 2, 4_385_920),
    "mini": (4, 256, 4, 11_170_560),
    "small": (4, 512, 8, 28_763_648),
    "medium": (8, 512, 8, 41_373_184),
    "base": (12, 768, 12, 109_482_240),
    "large": (24, 1024, 16, 335_141_888),
    "minilm": (6, 384, 12, 22_713_216),
}


def public(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_the_table_of_tasks_has_every_task() -> None:
    for name in TASKS:
        task = load_task(name)
        assert task.name == name
        assert {n for n in public(Task) if not hasattr(task, n)} == set()
    shared = {"__init__", "task", "mrpc_files"}
    others = {path.stem for path in (SOURCE / "tasks").glob("*.py")} - shared
    assert {f"demo_bert.tasks.{name}" for name in others} == set(TASKS.values())
    assert not set(TASKS) & set(PLANNED)


def test_every_tasks_recipe_names_what_there_is() -> None:
    for name in TASKS:
        recipe = load_task(name).recipe
        assert recipe.optimizer in OPTIMIZERS
        assert recipe.schedule in SCHEDULES
        assert set(recipe.batch_size) == {"bf16", "fp32"}
        assert recipe.source


def test_the_tables_of_optimizers_and_schedules_have_every_file() -> None:
    modules = {path.stem for path in (SOURCE / "optim").glob("*.py")}
    shared = {"__init__", "groups", "kernel", "scaling", "schedule", "sharded"}
    made = {type(make_optimizer(name, {}, weight_decay=0.0)).__module__ for name in OPTIMIZERS}
    assert made == {f"demo_bert.optim.{name}" for name in modules - shared}
    schedules = import_module("demo_bert.optim.schedule")
    functions = {
        name.replace("_", "-"): function
        for name, function in inspect.getmembers(schedules, inspect.isfunction)
        if function.__module__ == schedules.__name__ and not name.startswith(("_", "make"))
    }
    assert functions == SCHEDULES


def test_the_table_of_backends_has_every_backend() -> None:
    modules = {path.stem for path in (SOURCE / "hardware").glob("*.py")}
    assert set(BACKENDS) == modules - {"__init__", "backend"}
    for name, backend in BACKENDS.items():
        made = backend(0)
        assert made.name == name
        assert {n for n in public(Backend) if not hasattr(made, n)} == set()


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_size_is_the_published_one(size: str) -> None:
    config = BertConfig(**SIZES[size].config)  # type: ignore[arg-type]
    layers, hidden, heads, num_parameters = PUBLISHED[size]
    assert (config.num_hidden_layers, config.hidden_size) == (layers, hidden)
    assert (config.num_attention_heads, config.intermediate_size) == (heads, 4 * hidden)
    assert (config.vocab_size, config.max_position_embeddings) == (30522, 512)
    assert (config.type_vocab_size, config.layer_norm_eps) == (2, 1e-12)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.1)
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in Bert(config).parameters())
    assert counted == num_parameters


def test_the_table_of_sizes_has_every_size() -> None:
    assert set(SIZES) == set(PUBLISHED)


def test_the_table_of_commands_has_every_command() -> None:
    delivered = {name for name, command in COMMANDS.items() if command.is_delivered}
    for name, command in COMMANDS.items():
        assert command.module == f"demo_bert.commands.{name}"
        assert (SOURCE / "commands" / f"{name}.py").exists() == (name in delivered), name
        assert options_of(name)
    for name in delivered:
        parameters = inspect.signature(import_module(COMMANDS[name].module).run).parameters
        assert list(parameters) == ["settings", "origins", "argv"]


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if f" {name} " not in text] == []


def test_the_documents_name_every_command_that_is_there() -> None:
    documents = [*ROOT.glob("README.md"), *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(Path(path).read_text(encoding="utf-8") for path in documents)
    delivered = [name for name, command in COMMANDS.items() if command.is_delivered]
    assert [name for name in delivered if f"demo_bert {name}" not in text] == []


def test_the_public_names_are_those_of_the_package() -> None:
    package = import_module("demo_bert")
    assert [name for name in getattr(package, "__all__", []) if not hasattr(package, name)] == []
    assert package.__version__
