import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert import choices
from demo_bert.choices import Duration
from demo_bert.errors import UsageError

NAMES = ("tiny", "mini", "small", "medium", "base", "large", "minilm")


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("larg", "large"),
        ("BASE", "base"),
        ("meduim", "medium"),
        ("smal", "small"),
        ("minilm6", "minilm"),
        ("tin", "tiny"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_one_it_meant(typed, first):
    assert choices.near(typed, NAMES)[0] == first


def test_a_name_like_nothing_gets_no_guess():
    assert choices.near("xyzzy", NAMES) == []
    assert choices.unknown_name_message("model", "xyzzy", ["base", "large"]) == (
        "unknown model 'xyzzy'; there are base, large"
    )


def test_the_beginning_of_a_long_name_is_enough_for_a_guess():
    assert "--checkpoint-activations" in choices.near("--checkp", ["--checkpoint-activations"])


def test_no_more_guesses_are_made_than_asked_for():
    assert len(choices.near("aaa", [f"aaa{i}" for i in range(9)], limit=2)) == 2


@given(st.sampled_from(NAMES), st.integers(0, 6), st.sampled_from("qxz"))
@settings(deadline=None)
def test_one_wrong_letter_is_always_forgiven(name, place, letter):
    place = min(place, len(name) - 1)
    typed = name[:place] + letter + name[place + 1 :]
    assert name in choices.near(typed, NAMES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100", Duration(steps=100)),
        ("90s", Duration(seconds=90)),
        ("10m", Duration(seconds=600)),
        ("1h30m", Duration(seconds=5400)),
        ("2d", Duration(seconds=172800)),
        ("1.5s", Duration(seconds=1.5)),
    ],
)
def test_a_duration_is_steps_or_a_time(text, value):
    assert choices.duration(text) == value


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "10x", "m", "30m1h", "1.5h", "1e3", " 5"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError):
        choices.duration(text)


def test_a_time_without_its_unit_is_refused_with_an_example():
    with pytest.raises(UsageError, match=r"unit.*1h30m.*'90'"):
        choices.time_span("90")


@given(
    st.one_of(
        st.integers(1, 10**9).map(lambda n: Duration(steps=n)),
        st.integers(1, 10**7).map(lambda n: Duration(seconds=float(n))),
    )
)
@settings(deadline=None)
def test_a_duration_is_written_as_it_is_read(value):
    assert choices.duration(str(value)) == value


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "1e3", "nan", "1_000", " 1", "\u0661", "9" * 200, "x"]
)
def test_what_is_no_positive_whole_number_is_refused(text):
    with pytest.raises(UsageError, match="whole number of at least 1"):
        choices.whole_number(1)(text)


def test_a_whole_number_has_both_bounds():
    assert choices.whole_number(1, 65535)("65535") == 65535
    with pytest.raises(UsageError, match="from 1 to 65535"):
        choices.whole_number(1, 65535)("65536")


@pytest.mark.parametrize(("text", "value"), [("2e-5", 2e-5), (".5", 0.5), ("3", 3.0), ("1.", 1.0)])
def test_numbers_are_read_as_they_are_written(text, value):
    assert choices.number("a number above 0", lambda x: x > 0)(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e999", "1_0", "0x1", "", "a"])
def test_what_is_no_allowed_number_is_refused(text):
    with pytest.raises(UsageError, match="needs a number above 0, got"):
        choices.number("a number above 0", lambda x: x > 0)(text)


def test_a_choice_that_yaml_made_a_truth_value_is_understood():
    assert choices.one_of("false", ("auto", "on", "off")) == "off"
    assert choices.one_of("true", ("auto", "on", "off")) == "on"


def test_an_unknown_choice_names_all_and_the_near_one():
    with pytest.raises(UsageError, match=r"needs bf16 or fp32, got 'bf15' \(did you mean 'bf16'"):
        choices.one_of("bf15", ("bf16", "fp32"))


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("On", True), ("1", True), ("no", False), ("0", False)]
)
def test_truth_values_have_their_usual_names(text, value):
    assert choices.yes_or_no(text) is value


def test_a_word_that_is_no_truth_value_is_refused():
    with pytest.raises(UsageError, match="true or false"):
        choices.yes_or_no("maybe")


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_empty_texts_and_nuls_are_refused(text):
    with pytest.raises(UsageError):
        choices.some_text(text)


@pytest.mark.parametrize("text", ["64", "-1", "6e-3", "64,8", ".5"])
def test_numbers_and_lists_of_them_look_like_numbers(text):
    assert choices.is_number(text)


@pytest.mark.parametrize("text", ["", "a", "64,", "1:2", "-b", "--1", "nan"])
def test_other_words_do_not_look_like_numbers(text):
    assert not choices.is_number(text)
