import pytest

from demo_bert.errors import UsageError
from demo_bert.settings import readers


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (readers.count_or_auto, "8", 8),
        (readers.count_or_auto, "auto", "auto"),
        (readers.count_or_all, "all", "all"),
        (readers.resume_point, "never", "never"),
        (readers.resume_point, "1200", 1200),
        (readers.phases, "1,2", (1, 2)),
        (readers.phases, "2", (2,)),
        (readers.step_range, "10:20", (10, 20)),
        (readers.step_range, "10,20", (10, 20)),
        (readers.columns, "text=a, label=b", {"text": "a", "label": "b"}),
        (readers.columns, "sentence2=b c", {"text_b": "b c"}),
        (readers.hosts, "10.0.0.1,node-2", ("10.0.0.1", "node-2")),
        (readers.hosts, "fe80::1%eth0", ("fe80::1%eth0",)),
        (readers.log_level, "DEBUG", "debug"),
        (readers.log_level, "3", "warning"),
        (readers.interface, "10.0.0.0/8", "10.0.0.0/8"),
        (readers.name, "adamw-google", "adamw-google"),
    ],
)
def test_values_are_read_as_they_are_meant(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "needs"),
    [
        (readers.count_or_auto, "0", "at least 1"),
        (readers.resume_point, "latest", "auto, never or the step"),
        (readers.phases, "3", "1, 2 or 1,2"),
        (readers.step_range, "20:10", "10:20"),
        (readers.step_range, "20", "10:20"),
        (readers.columns, "text", "role=column"),
        (readers.columns, "txt=a", "did you mean 'text'"),
        (readers.columns, "text=a,sentence1=b", "twice"),
        (readers.hosts, "-oProxyCommand=x", "host names"),
        (readers.hosts, "a,a", "twice"),
        (readers.hosts, ",", "at least one host"),
        (readers.interface, "-x", "network interface"),
        (readers.log_level, "loud", "debug, info"),
        (readers.log_level, "7", "debug, info"),
        (readers.name, "-x", "a name"),
    ],
)
def test_other_values_are_refused_with_what_is_allowed(read, text, needs):
    with pytest.raises(UsageError, match=needs):
        read(text)


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert readers.path("~/data") == "/home/somebody/data"
