"""Where the value of a setting came from, and what may be shown of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from demo_bert.choices import Duration

Source = Literal["flag", "environment", "file", "run", "recipe", "default"]
"""In falling precedence; "run" is what a run that goes on was started with."""

HIDDEN = "***"
"""Stands for what is not shown."""

_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
# A password may hold a raw "/" or "@"; hiding too much of an address is better than too little.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/]*@|[^\s/@:]+:(?!\d+(?:/|\s|$))\S*@)")
_QUERY = re.compile(
    r"(?<=[?&])([\w.-]*(?:token|key|secret|password|signature)[\w.-]*=)[^&\s#]+", re.IGNORECASE
)
_ASSIGNMENT = re.compile(r"\b(\w*(?:TOKEN|KEY|SECRET|PASSWORD)\w*=)(\"[^\"]*\"|'[^']*'|\S+)")


@dataclass(frozen=True)
class Origin:
    """Where a value came from."""

    source: Source
    where: str = ""
    """The flag as it was typed, the variable, the file, the run, the recipe's name."""

    def __str__(self) -> str:
        """For tables and messages: `-b`, `MULTI_HLS_IPS`, `train.toml`, `recipe mrpc`."""
        return self.where if self.source in ("flag", "environment", "file") else self.full

    @property
    def full(self) -> str:
        """With the kind of place in front: `flag -b`, `environment MULTI_HLS_IPS`, `default`."""
        return f"{self.source} {self.where}".strip()


def redact(text: str, name: str = "") -> str:
    """The text without secrets, fit for logs, files, reports and command lines.

    Args:
        text: Any text; addresses lose their credentials, assignments to secret names and secret
            parameters of addresses their values.
        name: The name of the variable that holds it, if any.

    Returns:
        The text, or `***` where the name has TOKEN, KEY, SECRET or PASSWORD in it.

    Example:
        >>> redact("https://me:pass@hub.example/x")
        'https://***@hub.example/x'
        >>> redact("abc", "HF_TOKEN")
        '***'
    """
    if name and _SECRET_NAME.search(name):
        return HIDDEN
    text = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNMENT.sub(rf"\1{HIDDEN}", text)


def shown(value: object) -> str:
    """The value as it would be typed, without secrets.

    Args:
        value: The value of a setting.

    Returns:
        Its text; `-` for None.

    Example:
        >>> shown((64, 8)), shown(None), shown(True), shown(2e-5)
        ('64 8', '-', 'on', '2e-05')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return redact(",".join(f"{key}={item}" for key, item in value.items()))
    if isinstance(value, tuple):
        return " ".join(shown(item) for item in value)
    text = redact(str(value))
    return text if text.isprintable() else repr(text)


def as_json(value: object) -> object:
    """The value as JSON has it, without secrets.

    Args:
        value: The value of a setting.

    Returns:
        Text, number, bool, list, dict or None.
    """
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return redact(value) if isinstance(value, str) else value
