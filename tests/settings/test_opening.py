from demo_bert.settings.argv import flags_of
from demo_bert.settings.opening import opening_table
from demo_bert.settings.resolution import resolve
from demo_bert.settings.table import options_of

MRPC = "-d bf16 -m tiny -t mrpc "


def table(text="", environ=None, command="finetuning"):
    found = resolve(command, flags_of((MRPC + text).split(), command), environ or {})
    return opening_table(command, *found)


def row(lines, name):
    return next(line for line in lines.split("\n") if line.startswith(f"{name} ")).split()


def test_every_setting_has_its_row_with_the_variable_that_sets_it():
    lines = table().split("\n")
    options = options_of("finetuning")
    assert [line.split()[0] for line in lines[1:]] == [option.name for option in options]
    assert [line.split()[-1] for line in lines[1:]] == [option.variable for option in options]


def test_a_row_says_the_value_and_where_it_came_from():
    lines = table("-b 8", {"DEMO_BERT_SEED": "7", "MULTI_HLS_IPS": "a,b"})
    assert row(lines, "batch_size") == ["batch_size", "8", "-b", "DEMO_BERT_BATCH_SIZE"]
    assert row(lines, "seed") == ["seed", "7", "environment", "DEMO_BERT_SEED"]
    assert row(lines, "hosts") == ["hosts", "a", "b", "MULTI_HLS_IPS", "DEMO_BERT_HOSTS"]
    assert row(lines, "keep") == ["keep", "2", "default", "DEMO_BERT_KEEP"]
    assert row(lines, "epochs") == ["epochs", "-", "not", "set", "DEMO_BERT_EPOCHS"]


def test_the_columns_are_aligned_and_fit_100():
    lines = table("-b 8").split("\n")
    start = lines[0].index("variable")
    assert all(line[start:].startswith(("DEMO_BERT_", "variable")) for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_long_value_makes_its_own_line_longer_and_no_other():
    lines = table(f"-o {'long/' * 40}x").split("\n")
    assert [len(line) > 100 for line in lines].count(True) == 1
    assert f" {'long/' * 40}x " in "\n".join(lines)


def test_secrets_are_not_in_the_table():
    lines = table("", {"MPIRUN_CMD": "mpirun -x HF_TOKEN=abcdef"})
    assert "abcdef" not in lines
    assert "HF_TOKEN=***" in lines
