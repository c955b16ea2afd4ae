import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.errors import UsageError
from demo_bert.settings import layers
from demo_bert.settings.argv import Given
from demo_bert.settings.origin import Origin
from demo_bert.settings.table import options_of

OPTIONS = {option.name: option for option in options_of("finetuning")}


def find(name, *, flags=None, environ=None, file=None):
    return layers.find(
        OPTIONS[name], flags or {}, environ or {}, file=file or {}, file_name="run.toml"
    )


def written(tmp_path, text, name="run.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(tmp_path, text, name="run.toml", command="finetuning"):
    path = written(tmp_path, text, name)
    with pytest.raises(UsageError) as caught:
        layers.read_file(path, command)
    assert "\n" not in str(caught.value)
    assert path in str(caught.value)
    return str(caught.value)


@given(
    st.sampled_from(sorted(set(OPTIONS) - {"config"})),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None)
def test_a_flag_wins_over_the_environment_and_that_over_the_file(name, flag, variable, file):
    option = OPTIONS[name]
    found = find(
        name,
        flags={name: Given("--flag", ("1",))} if flag else {},
        environ={option.variable: "2"} if variable else {},
        file={name: ("3",)} if file else {},
    )
    if flag:
        assert found == (("1",), Origin("flag", "--flag"))
    elif variable:
        assert found == (("2",), Origin("environment", option.variable))
    elif file:
        assert found == (("3",), Origin("file", f"run.toml: {name}"))
    else:
        assert found is None


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.aliases])
def test_a_variable_of_the_original_works_and_ours_wins_over_it(name):
    option = OPTIONS[name]
    flags = {name: Given("-v", ("auto",))} if name == "workers" else {}
    for alias in option.aliases:
        assert find(name, flags=flags, environ={alias: "7"})[1] == Origin("environment", alias)
        both = {alias: "7", option.variable: "8"}
        assert find(name, flags=flags, environ=both)[0] == ("8",)


def test_an_empty_variable_counts_as_unset():
    assert find("hosts", environ={"MULTI_HLS_IPS": "", "DEMO_BERT_HOSTS": ""}) is None


def test_a_bare_v_leaves_the_number_to_the_environment():
    bare = {"workers": Given("-v", ("auto",))}
    assert find("workers", flags=bare, environ={"NUM_WORKERS_PER_HLS": "4"})[0] == ("4",)
    assert find("workers", flags=bare)[0] == ("auto",)
    assert find("workers", flags=bare, file={"workers": ("3",)})[0] == ("auto",)


def test_a_number_after_v_wins_over_the_environment():
    given_flags = {"workers": Given("-v", ("2",))}
    assert find("workers", flags=given_flags, environ={"NUM_WORKERS_PER_HLS": "4"})[0] == ("2",)


def test_the_number_of_workers_alone_asks_for_none():
    assert find("workers", environ={"NUM_WORKERS_PER_HLS": "4"}) is None
    assert find("workers", environ={"DEMO_BERT_WORKERS": "4"})[0] == ("4",)


def test_paths_in_a_variable_are_separated_as_in_path():
    found = find("dataset_path", environ={"DEMO_BERT_DATASET_PATH": f"a{os.pathsep}b"})
    assert found[0] == ("a", "b")


@pytest.mark.parametrize(
    ("text", "found"), [("range", "10:20"), ("5:7", "5:7"), ("False", None), ("0", None)]
)
def test_the_originals_profiler_switch_stands_for_a_range_of_steps(text, found):
    result = find("profile_steps", environ={"HABANA_SYNAPSE_LOGGER": text})
    assert result == (found and ((found,), Origin("environment", "HABANA_SYNAPSE_LOGGER")))


def test_a_toml_file_gives_what_flags_would(tmp_path):
    path = written(
        tmp_path,
        """
        batch-size = 32
        epochs = 2.5
        learning_rate = 2e-5
        model = "tiny"
        dataset_path = ["a.tsv", "b.tsv"]
        columns = {text = "q1", label = "same"}
        sample = false
        save_every = "10m"
        [pretraining]
        batch_size = [64, 8]
        """,
    )
    assert layers.read_file(path, "finetuning") == {
        "batch_size": ("32",),
        "epochs": ("2.5",),
        "learning_rate": ("2e-05",),
        "model": ("tiny",),
        "dataset_path": ("a.tsv", "b.tsv"),
        "columns": ("text=q1,label=same",),
        "sample": ("false",),
        "save_every": ("10m",),
    }


def test_a_table_of_the_command_wins_over_the_top_of_the_file(tmp_path):
    path = written(tmp_path, "batch_size = 8\n[pretraining]\nbatch_size = [64, 8]\n")
    assert layers.read_file(path, "pretraining")["batch_size"] == ("64,8",)
    assert layers.read_file(path, "finetuning")["batch_size"] == ("8",)


def test_a_yaml_file_gives_the_same(tmp_path):
    path = written(tmp_path, "batch_size: 32\ncompile: off\niters: [5]\n", "run.yaml")
    assert layers.read_file(path, "finetuning") == {
        "batch_size": ("32",),
        "compile": ("false",),
        "iters": ("5",),
    }
    assert layers.read_file(written(tmp_path, "", "empty.yml"), "finetuning") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batch_sise = 1", "unknown setting 'batch_sise' (did you mean 'batch_size'?)"),
        ("objectives = 'mlm'", "objectives is an option of pretraining"),
        ("config = 'x'", "unknown setting 'config'"),
        ("epochs = ", "no valid TOML"),
        ("epochs = 1979-05-27", "epochs: needs a number, a text"),
        ("epochs = []", "epochs: needs a number, a text"),
        ("[finetunning]\nepochs = 1", "unknown setting 'finetunning'"),
    ],
)
def test_a_wrong_settings_file_is_told_in_one_line(tmp_path, text, told):
    assert told in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"), [("a: [", "no valid YAML"), ("- a\n- b", "needs settings as name: value")]
)
def test_a_wrong_yaml_file_is_told_in_one_line(tmp_path, text, told):
    assert told in refused(tmp_path, text, "run.yml")


def test_yaml_can_run_no_code(tmp_path):
    mark = tmp_path / "mark"
    text = f"model: !!python/object/apply:os.mkdir ['{mark}']"
    assert "no valid YAML" in refused(tmp_path, text, "run.yaml")
    assert not mark.exists()


def test_a_settings_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        layers.read_file(str(tmp_path / "none.toml"), "finetuning")
    with pytest.raises(UsageError, match="directory"):
        layers.read_file(str(tmp_path), "finetuning")
    (tmp_path / "bad.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(UsageError, match="not UTF-8 at byte 9"):
        layers.read_file(str(tmp_path / "bad.toml"), "finetuning")
