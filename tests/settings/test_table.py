import ast
import dataclasses
from pathlib import Path

import pytest

import demo_bert.settings
from demo_bert.commands import COMMANDS
from demo_bert.settings.option import GROUPS
from demo_bert.settings.table import OPTIONS, arities, options_of
from demo_bert.settings.typed import SETTINGS_OF

# The command line is a promise: a flag may be added here, none may go or change its name.
TRAINING_FLAGS = """
    -d --dtype -m --model -t --task --test-set --init-checkpoint --recipe
    --dataset-path --sample --no-sample
    -b --batch-size --global-batch-size -s --max-seq-length -e --epochs -i --iters -w --warmup
    --learning-rate --lr-scaling --optimizer --schedule --weight-decay --clip-norm
    --dropout --attention-dropout --on-nonfinite --seed --seeds
    -o --output-dir --new --resume --save-every --keep --keep-every --eval-every --log-every
    --max-time --track --config
    --device --compile --checkpoint-activations --reproducible --no-reproducible
    -v --workers --use-horovod --max-restarts --min-hosts --timeout --shard-optimizer --grad-dtype
"""
PHASE_FLAGS = "--phases -fpo --fast-perf-only --objectives --whole-word-masking"
SOURCE_FLAGS = """
    --wikipedia --books --text --jsonl --parquet --vocab --cased --language --dedupe --dry-run
"""
STAGE_FLAGS = """
    --finetuning-recipe --finetuning-dataset-path --finetuning-sample --finetuning-no-sample
    --finetuning-columns --finetuning-batch-size --finetuning-global-batch-size
    --finetuning-max-seq-length --finetuning-epochs --finetuning-iters --finetuning-warmup
    --finetuning-learning-rate --finetuning-lr-scaling --finetuning-optimizer
    --finetuning-schedule --finetuning-weight-decay --finetuning-clip-norm --finetuning-dropout
    --finetuning-attention-dropout --finetuning-on-nonfinite --finetuning-seed
"""
FLAGS = {
    "finetuning": f"{TRAINING_FLAGS} --columns --feature-cache",
    "pretraining": f"{TRAINING_FLAGS} {PHASE_FLAGS} --time-budget",
    "pipeline": f"{TRAINING_FLAGS} {PHASE_FLAGS} {SOURCE_FLAGS} {STAGE_FLAGS}",
    "plan": f"{TRAINING_FLAGS} {PHASE_FLAGS} --columns",
    "evaluate": """
        -t --task --test-set --dataset-path --sample --no-sample --columns -b --batch-size
        -s --max-seq-length -d --dtype --device -o --output-dir --config --feature-cache
    """,
    "predict": """
        --text --text-b --question --context-file --input -o --output -b --batch-size -d --dtype
        --device --config
    """,
    "report": "",
    "prepare": f"""
        {SOURCE_FLAGS} -o --output-dir -v --workers --use-horovod --seed --max-time --config
        -s --max-seq-length --size --extend --examples
    """,
    "serve": "--host --port -b --batch-size -d --dtype --device --config",
    "export": "--format -o --output-dir --config",
    "bench": """
        -m --model -t --task --test-set --against -d --dtype -b --batch-size -s --max-seq-length
        -i --iters --steps --repeats --dropout --attention-dropout --seed --device --compile
        --checkpoint-activations -v --workers --use-horovod -o --output-dir --config
    """,
    "doctor": "--setup-hosts --device --timeout -v --workers --use-horovod --config",
}
POSITIONAL = {
    "evaluate": "MODEL",
    "predict": "[MODEL]",
    "report": "RUN...",
    "prepare": "[ACTION] [STORE...]",
    "serve": "[MODEL]",
    "export": "MODEL",
    "plan": "COMMAND",
}
VARIABLES_OF_THE_ORIGINAL = {
    "MULTI_HLS_IPS": "hosts",
    "NUM_WORKERS_PER_HLS": "workers",
    "MPI_TPC_INCLUDE": "network_interface",
    "MPI_TCP_INCLUDE": "network_interface",
    "SSH_PORT": "ssh_port",
    "DOCKER_SSHD_PORT": "ssh_port",
    "MPI_MAP_BY": "map_by",
    "MPI_MAP_BY_PE": "map_by_pe",
    "MPIRUN_CMD": "mpirun_command",
    "INPUT_FILES_PREFIX": "data_root",
    "OUTPUT_DIR": "output_dir",
    "LOG_LEVEL_ALL": "log_level",
    "HABANA_USE_PREALLOC_BUFFER_FOR_ALLREDUCE": "gradient_as_bucket_view",
    "HABANA_SYNAPSE_LOGGER": "profile_steps",
}
NOT_SHAPING = """
    output_dir new resume save_every keep keep_every eval_every log_every max_time track config
    device compile checkpoint_activations workers max_restarts min_hosts timeout shard_optimizer
    hosts network_interface ssh_port map_by map_by_pe mpirun_command remote_dir
    gradient_as_bucket_view profile_steps log_level feature_cache
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_are_frozen(command):
    flags = [flag for option in options_of(command) for flag in option.all_flags]
    assert sorted(flags) == sorted(FLAGS[command].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_arguments_are_frozen(command):
    places = [option.metavar for option in options_of(command) if option.group == "positional"]
    assert " ".join(places) == POSITIONAL.get(command, "")


def test_the_variables_of_the_original_are_frozen():
    found = {variable: option.name for option in OPTIONS for variable in option.aliases}
    assert found == VARIABLES_OF_THE_ORIGINAL


def test_the_settings_that_do_not_shape_the_result_are_frozen():
    found = [option.name for option in options_of("finetuning") if not option.shapes_result]
    assert sorted(found) == sorted(NOT_SHAPING.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_and_a_flag_mean_one_thing_in_a_command(command):
    options = options_of(command)
    names = [option.name for option in options]
    flags = [flag for option in options for flag in option.all_flags]
    assert len(set(names)) == len(names)
    assert len(set(flags)) == len(flags)


def test_a_flag_takes_as_many_words_in_every_command():
    words = {"one": "one", "repeatable": "one"}
    for option in OPTIONS:
        for flag in option.all_flags:
            seen = arities()[flag]
            assert words.get(seen, seen) == words.get(option.arity, option.arity), flag


def test_rows_are_well_formed():
    for option in OPTIONS:
        assert set(option.commands) <= set(COMMANDS), option.name
        assert option.group in GROUPS, option.name
        assert option.help.endswith((".", ":")), option.name
        assert option.help[:1].isupper() or option.choices or option.group, option.name
        assert "_" not in option.flags, option.name
        assert option.metavar or option.choices or option.arity == "flag", option.name
        assert bool(option.off_flag) <= (option.arity == "flag"), option.name


def test_a_default_is_a_value_that_could_be_typed():
    for option in OPTIONS:
        if option.default is not None and option.arity in ("one", "optional-number"):
            assert option.read((str(option.default),)) == option.default, option.name


@pytest.mark.parametrize("command", SETTINGS_OF)
def test_the_typed_settings_have_the_fields_of_the_table(command):
    fields = {field.name: field for field in dataclasses.fields(SETTINGS_OF[command])}
    names = {option.name for option in options_of(command)}
    assert names <= fields.keys()
    # What only another command of the same class has, has a default.
    for name in fields.keys() - names:
        assert fields[name].default is not dataclasses.MISSING


def test_every_public_name_is_there_and_known_to_the_type_checker():
    source = Path(demo_bert.settings.__file__).read_text(encoding="utf-8")
    imported = {
        alias.name: node.module.rpartition(".")[2]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("demo_bert.settings.")
        for alias in node.names
    }
    assert imported == demo_bert.settings.PUBLIC
    for name in imported:
        assert getattr(demo_bert.settings, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = demo_bert.settings.nothing_like_it
