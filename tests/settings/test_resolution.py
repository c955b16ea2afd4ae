import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.choices import Duration
from demo_bert.errors import RunDirectoryError, UsageError
from demo_bert.settings.argv import flags_of
from demo_bert.settings.origin import Origin
from demo_bert.settings.resolution import resolve, run_dir_of, with_defaults
from demo_bert.settings.typed import OtherSettings, TrainingSettings

TASKS = {"tasks": ("mrpc", "classification"), "planned_tasks": ("squad", "cola")}
MRPC = "-d bf16 -m tiny -t mrpc "


def resolved(command, text, environ=None, **options):
    return resolve(command, flags_of(text.split(), command), environ or {}, **TASKS, **options)


def refused(command, text, environ=None, error=UsageError, **options):
    with pytest.raises(error) as caught:
        resolved(command, text, environ, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_settings_are_typed_and_none_where_the_recipe_decides():
    found, origins = resolved("finetuning", MRPC + "-b 64 --save-every 100 --max-time 1h30m -v 2")
    assert isinstance(found, TrainingSettings)
    assert found.batch_size == (64,)
    assert found.save_every == Duration(steps=100)
    assert found.max_time == Duration(seconds=5400)
    assert found.workers == 2
    assert (found.epochs, found.learning_rate, found.output_dir) == (None, None, None)
    assert (found.seed, found.lr_scaling, found.init_checkpoint) == (42, "sqrt", "published")
    assert origins["batch_size"] == Origin("flag", "-b")
    assert origins["seed"] == Origin("default")


def test_pretraining_starts_from_random_weights_and_the_first_task():
    found, _ = resolved("pretraining", "-d bf16 -m large -b 64 8 -fpo")
    assert (found.task, found.init_checkpoint) == ("bookswiki", "random")
    assert (found.batch_size, found.fast_perf_only) == ((64, 8), True)


def test_evaluation_and_prediction_have_one_batch_size():
    assert resolved("evaluate", "base -t mrpc -b 8")[0].batch_size == 8
    assert resolved("predict", "base --text x -b 8")[0].batch_size == 8


def test_a_command_that_is_not_delivered_has_its_settings_by_name():
    found, _ = resolved("serve", "base --port 9")
    assert isinstance(found, OtherSettings)
    assert found.values["port"] == 9


@given(st.sets(st.sampled_from(["flag", "environment", "file"])))
@settings(deadline=None)
def test_the_highest_place_sets_the_value(tmp_path_factory, places):
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_text("batch_size = 3\n" if "file" in places else "", encoding="utf-8")
    text = MRPC + f"--config {path}" + (" -b 1" if "flag" in places else "")
    environ = {"DEMO_BERT_BATCH_SIZE": "2"} if "environment" in places else {}
    found, origins = resolved("finetuning", text, environ)
    expected = [
        ("flag", (1,), "-b"),
        ("environment", (2,), "DEMO_BERT_BATCH_SIZE"),
        ("file", (3,), f"{path}: batch_size"),
    ]
    for source, value, where in expected:
        if source in places:
            assert found.batch_size == value
            assert origins["batch_size"] == Origin(source, where)
            return
    assert found.batch_size is None


def test_the_settings_file_may_come_from_the_environment(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('dtype = "fp32"\nmodel = "mini"\ntask = "mrpc"\n', encoding="utf-8")
    found, _ = resolved("finetuning", "", {"DEMO_BERT_CONFIG": str(path)})
    assert (found.dtype, found.model, found.config) == ("fp32", "mini", str(path))


def test_a_wrong_value_in_a_file_is_told_with_file_and_name(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("batch_size = 0\n", encoding="utf-8")
    told = refused("finetuning", MRPC + f"--config {path}")
    assert f"{path}: batch_size: needs a whole number of at least 1, got '0'" in told


def test_a_wrong_value_in_the_environment_is_told_with_its_variable():
    told = refused("finetuning", MRPC, {"NUM_WORKERS_PER_HLS": "x", "DEMO_BERT_WORKERS": "many"})
    assert "DEMO_BERT_WORKERS: needs a whole number of at least 1, got 'many'" in told


def test_all_problems_are_told_in_one_line():
    told = refused("finetuning", "-d bf15 -b 0 --dropout 1", problems=["unknown option --x"])
    for part in ("unknown option --x", "-d: needs", "-b: needs", "--dropout: needs", "-t/--task"):
        assert part in told
    assert "-d/--dtype is required" not in told


def test_dtype_model_and_task_are_required():
    told = refused("finetuning", "")
    assert "-d/--dtype is required: bf16|fp32" in told
    assert "-m/--model is required: tiny, mini" in told
    assert "-t/--task is required (mrpc, classification), or --dataset-path" in told


def test_own_files_are_classified_without_a_task(tmp_path):
    found, origins = resolved("finetuning", f"-d bf16 -m tiny --dataset-path {tmp_path}")
    assert found.task == "classification"
    assert origins["task"].source == "default"


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("mrcp", "-t: unknown task 'mrcp' (did you mean 'mrpc'?); there are mrpc, classification"),
        ("squad", "-t squad: not here yet; there are mrpc, classification"),
        ("cola", "-t cola: not here yet"),
    ],
)
def test_a_task_that_is_not_here_is_told(task, told):
    assert told in refused("finetuning", f"-d bf16 -m tiny -t {task}")
    assert told in refused("evaluate", f"tiny -t {task}")


def test_epochs_and_steps_exclude_each_other_in_one_place():
    assert "-e and -i exclude each other" in refused("finetuning", MRPC + "-e 3 -i 10")


def test_between_places_the_higher_of_epochs_and_steps_wins():
    found, origins = resolved("finetuning", MRPC + "-i 10", {"DEMO_BERT_EPOCHS": "3"})
    assert (found.epochs, found.iters) == (None, (10,))
    assert origins["epochs"] == Origin("default")


def test_recipe_values_fill_what_nobody_set():
    start = resolved("finetuning", MRPC + "-b 16")
    found, origins = with_defaults(
        *start, {"batch_size": (64,), "epochs": 3.0, "max_seq_length": (128,)}, where="mrpc"
    )
    assert (found.batch_size, found.epochs, found.max_seq_length) == ((16,), 3.0, (128,))
    assert origins["batch_size"] == Origin("flag", "-b")
    assert origins["epochs"] == Origin("recipe", "mrpc")
    assert start[0].epochs is None


def test_epochs_of_a_recipe_give_way_to_steps():
    found, _ = with_defaults(*resolved("finetuning", MRPC + "-i 10"), {"epochs": 3.0})
    assert found.epochs is None


@pytest.mark.parametrize(
    ("text", "expected", "where"),
    [("", (64, 8), ""), ("-b 32", (32, 8), "-b, then recipe"), ("-b 32 4", (32, 4), "-b")],
)
def test_one_value_sets_the_first_phase_and_the_second_keeps_its_default(text, expected, where):
    start = resolved("pretraining", f"-d bf16 -m tiny {text}")
    found, origins = with_defaults(*start, {"batch_size": (64, 8)})
    assert found.batch_size == expected
    assert origins["batch_size"].where == where


def test_more_values_than_phases_are_refused():
    start = resolved("pretraining", "-d bf16 -m tiny -b 32 4")
    with pytest.raises(UsageError, match=r"-b takes 1 value here .* got 32 4"):
        with_defaults(*start, {"batch_size": (32,)})


RECORDED = {
    "command": "finetuning",
    "dtype": "bf16",
    "model": "tiny",
    "task": "mrpc",
    "batch_size": [32],
    "epochs": 3.0,
    "iters": None,
    "seed": 7,
    "columns": {"text": "a"},
    "keep": 5,
}


def test_a_run_that_goes_on_keeps_what_shapes_its_result():
    found, origins = resolved("finetuning", "-o out", recorded=RECORDED)
    assert (found.dtype, found.model, found.task, found.seed) == ("bf16", "tiny", "mrpc", 7)
    assert (found.batch_size, found.columns) == ((32,), {"text": "a"})
    assert origins["dtype"] == Origin("run", "out/run.json")
    assert found.keep == 2


def test_the_same_settings_again_are_no_difference():
    found, _ = resolved("finetuning", "-o out -d bf16 -b 32 -e 3 --keep 9", recorded=RECORDED)
    assert found.keep == 9


def test_other_settings_are_refused_with_each_difference():
    told = refused("finetuning", "-o out -d fp32 -b 16", recorded=RECORDED, error=RunDirectoryError)
    assert "dtype is fp32, was bf16" in told
    assert "batch_size is 16, was 32" in told
    assert "-o" in told and "--new" in told


def test_another_command_on_the_directory_is_refused():
    told = refused("pretraining", "-o out", recorded=RECORDED, error=RunDirectoryError)
    assert "the command is pretraining, was finetuning" in told


@pytest.mark.parametrize("text", ["--new", "--resume never"])
def test_a_new_run_takes_nothing_from_the_one_that_is_there(text):
    assert "-d/--dtype is required" in refused("finetuning", f"-o out {text}", recorded=RECORDED)


def test_a_scored_run_brings_its_task_and_nothing_else():
    found, origins = resolved("evaluate", "tiny", recorded=RECORDED)
    assert (found.task, found.batch_size) == ("mrpc", None)
    assert origins["task"].source == "run"
    assert resolved("evaluate", "tiny -t classification", recorded=RECORDED)[0].task == (
        "classification"
    )


def test_the_run_directory_is_found_wherever_it_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('output_dir = "c"\n', encoding="utf-8")
    flags = flags_of(["-o", "a"], "finetuning")
    assert str(run_dir_of("finetuning", flags, {})) == "a"
    assert str(run_dir_of("finetuning", {}, {"OUTPUT_DIR": "b"})) == "b"
    assert str(run_dir_of("finetuning", {}, {"DEMO_BERT_CONFIG": str(path)})) == "c"
    assert run_dir_of("finetuning", {}, {"DEMO_BERT_CONFIG": "none.toml"}) is None
    assert str(run_dir_of("evaluate", flags_of(["a"], "evaluate"), {})) == "a"


def test_secrets_never_reach_a_message():
    told = refused("finetuning", MRPC + "--init-checkpoint https://me:pw@host/x/y")
    assert "pw" not in told
    assert "https://***@host/x/y" in told
