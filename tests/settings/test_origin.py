import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.choices import Duration
from demo_bert.settings.origin import Origin, as_json, redact, shown

WORDS = st.text("abcdefXYZ019._~-", min_size=6, max_size=20)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://me:pw@hub.example/x", "https://***@hub.example/x"),
        ("https://token@hub.example", "https://***@hub.example"),
        ("https://me:p@w@hub.example/x", "https://***@hub.example/x"),
        ("https://me:p/w@hub.example/x", "https://***@hub.example/x"),
        ("see http://a:b@c and ftp://d:e@f", "see http://***@c and ftp://***@f"),
        ("https://hub.example/x?token=abc&y=1", "https://hub.example/x?token=***&y=1"),
        ("https://hub.example/x?a=1&api_key=abc", "https://hub.example/x?a=1&api_key=***"),
        ("mpirun -x HF_TOKEN=abc -np 2", "mpirun -x HF_TOKEN=*** -np 2"),
        ("AWS_SECRET_ACCESS_KEY='a b' run", "AWS_SECRET_ACCESS_KEY=*** run"),
        ("https://hub.example:8080/x", "https://hub.example:8080/x"),
        ("me@host.example", "me@host.example"),
        ("text=question1,label=same", "text=question1,label=same"),
    ],
)
def test_secrets_in_a_text_are_hidden_and_nothing_else(text, safe):
    assert redact(text) == safe


@pytest.mark.parametrize("name", ["HF_TOKEN", "my_api_key", "DB_PASSWORD", "SECRET"])
def test_the_value_of_a_secret_variable_is_hidden_whole(name):
    assert redact("anything", name) == "***"


def test_the_value_of_another_variable_is_shown():
    assert redact("anything", "DEMO_BERT_MODEL") == "anything"


@given(WORDS, WORDS, st.sampled_from(["https", "http", "s3", "git+ssh"]))
@settings(deadline=None)
def test_no_password_of_an_address_is_ever_shown(user, password, scheme):
    password = f"pw{password}"
    assert password not in redact(f"{scheme}://{user}:{password}@host.example/path")


@given(st.text(max_size=60))
@settings(deadline=None)
def test_hiding_twice_is_hiding_once(text):
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "on"),
        (False, "off"),
        (2e-5, "2e-05"),
        (3.0, "3"),
        ((64, 8), "64 8"),
        (("a", "b"), "a b"),
        ({"text": "q1", "label": "x"}, "text=q1,label=x"),
        (Duration(seconds=5400), "1h30m"),
        ("https://a:b@c", "https://***@c"),
        ("a\nb", "'a\\nb'"),
    ],
)
def test_a_value_is_shown_in_one_line_without_secrets(value, text):
    assert shown(value) == text


def test_a_value_becomes_json():
    assert as_json((64, 8)) == [64, 8]
    assert as_json({"a": ("b",)}) == {"a": ["b"]}
    assert as_json(Duration(steps=5)) == "5"
    assert as_json("https://a:b@c") == "https://***@c"
    assert as_json(None) is None


def test_an_origin_says_its_place_briefly_or_in_full():
    assert str(Origin("flag", "-b")) == "-b"
    assert Origin("flag", "-b").full == "flag -b"
    assert str(Origin("recipe", "mrpc")) == "recipe mrpc"
    assert str(Origin("default")) == Origin("default").full == "default"
