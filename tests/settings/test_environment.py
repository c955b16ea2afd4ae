import pytest

from demo_bert.settings.argv import flags_of
from demo_bert.settings.environment import OF_THE_ORIGINAL, environment_warning
from demo_bert.settings.recorded import values_of
from demo_bert.settings.resolution import resolve
from demo_bert.settings.table import OPTIONS


def warning(environ, text="-d bf16 -m tiny -t mrpc"):
    found, origins = resolve("finetuning", flags_of(text.split(), "finetuning"), environ)
    return environment_warning("finetuning", values_of(found), origins, environ=environ)


def test_without_such_variables_there_is_no_warning():
    assert warning({"PATH": "/bin", "DEMO_BERT_SEED": "7", "DEMO_BERT_CACHE": "/tmp"}) is None


def test_unknown_variables_of_ours_are_named_with_the_near_one():
    found = warning({"DEMO_BERT_BATCHSIZE": "7", "DEMO_BERT_XYZZY": "1"})
    assert "DEMO_BERT_BATCHSIZE (did you mean DEMO_BERT_BATCH_SIZE?)" in found
    assert "DEMO_BERT_XYZZY (no such setting)" in found


@pytest.mark.parametrize("name", OF_THE_ORIGINAL)
def test_variables_of_the_original_without_effect_are_named(name):
    assert name in warning({name: "1"})


def test_there_is_one_line_for_all():
    found = warning({"DEMO_BERT_A": "1", "TF_BF16_CONVERSION": "1", "MULTI_HLS_IPS": "a"})
    assert "\n" not in found
    assert found.count(",") == 2


def test_hosts_without_v_have_no_effect():
    environ = {"MULTI_HLS_IPS": "10.0.0.1", "NUM_WORKERS_PER_HLS": "4"}
    found = warning(environ)
    assert "MULTI_HLS_IPS (no workers without -v)" in found
    assert "NUM_WORKERS_PER_HLS (no workers without -v)" in found
    assert warning(environ, "-d bf16 -m tiny -t mrpc -v") is None


def test_of_two_variables_for_one_setting_the_overruled_is_named():
    environ = {"MPI_TPC_INCLUDE": "eno1", "MPI_TCP_INCLUDE": "eno2"}
    assert "MPI_TCP_INCLUDE (MPI_TPC_INCLUDE counts)" in warning(environ)
    assert warning(environ | {"MPI_TCP_INCLUDE": "eno1"}) is None


def test_values_are_never_shown():
    assert "abcdef" not in warning({"DEMO_BERT_HF_TOKEN": "abcdef", "TF_BF16_CONVERSION": "abcdef"})


def test_no_variable_is_both_used_and_without_effect():
    used = {variable for option in OPTIONS for variable in option.aliases}
    assert not used & set(OF_THE_ORIGINAL)
