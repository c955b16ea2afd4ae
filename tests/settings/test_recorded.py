import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.errors import RunDirectoryError
from demo_bert.settings.argv import flags_of
from demo_bert.settings.recorded import (
    as_records,
    default_output_dir,
    differences,
    read_recorded,
    result_settings_digest,
    values_of,
)
from demo_bert.settings.resolution import resolve, with_defaults

MRPC = "-d bf16 -m tiny -t mrpc "


def resolved(text="", command="finetuning", **options):
    return resolve(command, flags_of((MRPC + text).split(), command), {}, **options)


def digest(text=""):
    return result_settings_digest("finetuning", resolved(text)[0])


def kept(tmp_path, found, command="finetuning"):
    """The settings of a run, written and read again."""
    record = {"command": command, "settings": as_records(command, *found)}
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return read_recorded(tmp_path)


def test_records_say_name_value_source_and_variable():
    records = {record["name"]: record for record in as_records("finetuning", *resolved("-b 8"))}
    assert records["batch_size"] == {
        "name": "batch_size",
        "value": [8],
        "source": "flag -b",
        "variable": "DEMO_BERT_BATCH_SIZE",
    }
    assert records["save_every"]["value"] == "10m"
    assert records["epochs"]["value"] is None
    assert records["seed"]["source"] == "default"


def test_what_was_kept_is_no_difference_to_itself(tmp_path):
    found = resolved("-b 8 -e 2 --columns text=a --dataset-path . --dropout 0.1 --grad-dtype bf16")
    recorded = kept(tmp_path, found)
    assert differences("finetuning", values_of(found[0]), recorded) == []


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "-b": st.integers(1, 512).map(str),
            "-e": st.floats(0.01, 50, allow_nan=False).map(repr),
            "--learning-rate": st.floats(1e-7, 1, allow_nan=False).map(repr),
            "--seed": st.integers(0, 2**40).map(str),
            "--eval-every": st.sampled_from(["100", "10m", "1h30m"]),
            "--no-sample": st.just("true"),
            "--columns": st.just("text=a,label=b"),
            "--optimizer": st.just("adamw-google"),
        },
    )
)
@settings(deadline=None)
def test_a_run_that_goes_on_has_the_settings_it_was_started_with(tmp_path_factory, flags):
    place = tmp_path_factory.mktemp("run")
    text = " ".join(f"{flag}={value}" for flag, value in flags.items()) + " --dataset-path ."
    found = with_defaults(*resolved(text), {"batch_size": (64,), "epochs": 3.0})
    recorded = kept(place, found)
    # Only what shapes the result: eval_every is asked for anew; paths have become absolute.
    again = resolve("finetuning", flags_of(["-o", str(place)], "finetuning"), {}, recorded=recorded)
    assert values_of(again[0]) == values_of(found[0]) | {
        "output_dir": str(place),
        "eval_every": None,
        "dataset_path": (os.getcwd(),),
    }


def test_paths_are_compared_as_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = resolved("--dataset-path .")
    recorded = kept(tmp_path, found)
    values = {"dataset_path": (str(tmp_path),)}
    assert differences("finetuning", values, recorded) == []
    assert differences("finetuning", {"dataset_path": ("/else",)}, recorded) == [
        f"dataset_path is /else, was {tmp_path}"
    ]


def test_only_what_shapes_the_result_is_compared():
    recorded = {"command": "finetuning", "keep": 2, "seed": 1}
    assert differences("finetuning", {"keep": 5, "seed": 2}, recorded) == ["seed is 2, was 1"]


def test_where_there_is_no_run_nothing_is_recorded(tmp_path):
    assert read_recorded(tmp_path) is None
    assert read_recorded(tmp_path / "none") is None
    (tmp_path / "file").touch()
    assert read_recorded(tmp_path / "file") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"command": "finetuning"}', b'{"command":"x","settings":[1]}']
)
def test_a_damaged_record_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"^[^\n]*run\.json: damaged[^\n]*$"):
        read_recorded(tmp_path)


def test_the_digest_is_short_and_stays():
    assert digest() == digest()
    assert len(digest()) == 8
    assert set(digest()) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "text",
    ["-b 8", "-s 64", "-e 2", "-i 5", "--seed 1", "--seeds 3", "--dropout 0", "--grad-dtype bf16"],
)
def test_what_shapes_the_result_changes_the_digest(text):
    assert digest(text) != digest()


@pytest.mark.parametrize(
    "text",
    [
        "-o x",
        "--keep 9",
        "--device cpu",
        "-v 4",
        "--save-every 5",
        "--max-time 1h",
        "--log-every 5",
    ],
)
def test_what_does_not_shape_the_result_leaves_the_digest(text):
    assert digest(text) == digest()


def test_a_recipes_value_given_by_hand_leaves_the_digest():
    recipe = {"batch_size": (64,)}
    found = [with_defaults(*resolved(text), recipe)[0] for text in ("", "-b 64")]
    assert len({result_settings_digest("finetuning", one) for one in found}) == 1


def test_the_default_directory_names_command_task_and_model():
    found = default_output_dir("finetuning", resolved()[0])
    assert found == f"runs/finetuning-mrpc-tiny-{digest()}"


def test_of_a_models_path_the_last_part_is_named():
    found, _ = resolve(
        "finetuning", flags_of("-d bf16 -m google/bert_x -t mrpc".split(), "finetuning"), {}
    )
    assert default_output_dir("finetuning", found).startswith("runs/finetuning-mrpc-bert_x-")


def test_paths_are_kept_absolute_and_names_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for model, expected in (("mine", str(tmp_path / "mine")), ("tiny", "tiny"), ("a/b", "a/b")):
        flags = flags_of(["-d", "bf16", "-m", model, "-t", "mrpc"], "finetuning")
        found = resolve("finetuning", flags, {})
        records = {record["name"]: record["value"] for record in as_records("finetuning", *found)}
        assert (records["model"], records["init_checkpoint"]) == (expected, "published")
