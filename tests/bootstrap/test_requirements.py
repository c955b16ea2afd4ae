"""Version ranges, and the lock files as they are."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bootstrap_checkout import REPOSITORY
from demo_bert.bootstrap.interpreter import Distribution, canonical, distributions
from demo_bert.bootstrap.requirements import (
    Pin,
    is_within,
    not_satisfied,
    read_pins,
    read_ranges,
)

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("version", ["2.11", "2.11.0", "2.11.0a0+nv", "2.13.0+cpu", "2.99.9"])
def test_versions_of_the_range_are_within(version: str) -> None:
    assert is_within(version, ">=2.11,<3")


@pytest.mark.parametrize("version", ["2.10.9", "2.1", "3", "3.0.0", "3.0.0a0", "10.0", "unknown"])
def test_other_versions_are_not(version: str) -> None:
    assert not is_within(version, ">=2.11, <3")


def test_what_an_interpreter_has_in_a_version_that_will_do_is_not_installed() -> None:
    pins = [Pin(name, f"{name}==9") for name in ("absent", "old", "fine", "indirect")]
    ranges = {"old": ">=2", "fine": ">=2"}
    present = {name: Distribution("1.9", "") for name in ("old", "indirect")}
    present["fine"] = Distribution("2.0.1", "")
    left = not_satisfied(pins, ranges, present=present)
    assert [pin.name for pin in left] == ["absent", "old"]


def test_distributions_are_found_by_their_metadata_the_first_one_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "Two_Words-1.0.dist-info").mkdir(parents=True)
    (second / "two_words-2.0.dist-info").mkdir(parents=True)
    (second / "debian_style-3.1.egg-info").write_text("")
    (second / "conda-4-py3.12.egg-info").mkdir()
    found = distributions([str(first), str(tmp_path / "missing"), str(second)])
    assert {name: each.version for name, each in found.items()} == {
        "two-words": "1.0",
        "debian-style": "3.1",
        "conda": "4",
    }
    assert found["two-words"].directory == str(first)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_line_of_a_lock_is_one_exact_pin(name: str) -> None:
    pins = read_pins(REPOSITORY / name)
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", pin.requirement), pin
    assert len({pin.name for pin in pins}) == len(pins)


def test_the_lock_pins_what_pyproject_asks_for() -> None:
    pins = {pin.name: pin.requirement for pin in read_pins(REPOSITORY / "requirements.lock")}
    for name, clauses in read_ranges(REPOSITORY / "pyproject.toml").items():
        assert is_within(pins[name].partition("==")[2], clauses), pins[name]
    assert pins["torch"] == "torch==2.13.0"


def test_the_lock_for_development_pins_what_the_extra_says() -> None:
    pins = {pin.requirement for pin in read_pins(REPOSITORY / "requirements-dev.lock")}
    assert set(PROJECT["optional-dependencies"]["dev"]) <= pins


PLATFORMS = [
    {"python_version": python, "sys_platform": system, "platform_machine": machine}
    for python in ("3.11", "3.12", "3.13", "3.14")
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]


def test_the_locks_are_closed() -> None:
    names = {
        pin.name
        for name in ("requirements.lock", "requirements-dev.lock")
        for pin in read_pins(REPOSITORY / name)
    }
    for name in sorted(names):
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            if name == "torch" and re.match("nvidia|triton|cuda", needed.name):
                continue
            if needed.marker is None or any(
                needed.marker.evaluate(platform | {"extra": ""}) for platform in PLATFORMS
            ):
                assert canonical(needed.name) in names, f"{name} needs {line}"
