"""A torch that the interpreter has already, without pip: which ones count, and what follows."""

from pathlib import Path

import pytest

from bootstrap_checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def with_torch(directory: Path, version: str) -> dict[str, str]:
    """Variables that show an interpreter a torch, as environment modules on clusters do."""
    (directory / f"torch-{version}.dist-info").mkdir(parents=True)
    (directory / "torch.py").write_text("")
    return {"PYTHONPATH": str(directory)}


def test_a_vendors_build_counts_by_its_release(checkout: Checkout, tmp_path: Path) -> None:
    variables = with_torch(tmp_path / "vendor", "2.11.0a0+5228986c39.nv26.6")
    result = checkout.run(variables=variables)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "vendor") in result.stdout
    assert checkout.pip_calls() == ["packages"]
    assert checkout.run().stderr == "", "it is seen without the variable too"


def test_a_torch_outside_of_the_range_is_named_and_not_used(
    checkout: Checkout, tmp_path: Path
) -> None:
    result = checkout.run(variables=with_torch(tmp_path / "old", "2.1.0"))
    (line,) = (line for line in result.stderr.splitlines() if "2.1.0" in line)
    assert "is not used: demo_bert needs >=2.11,<3" in line
    assert checkout.pip_calls() == ["packages", "torch"]


def test_a_kept_torch_that_has_changed_makes_the_environment_anew(
    checkout: Checkout, tmp_path: Path
) -> None:
    variables = with_torch(tmp_path / "vendor", "2.12.0+hpu.1")
    checkout.run(variables=variables)
    (tmp_path / "vendor" / "torch-2.12.0+hpu.1.dist-info").rename(
        tmp_path / "vendor" / "torch-2.12.0+hpu.2.dist-info"
    )
    result = checkout.run(variables=variables)
    assert result.returncode == 0
    assert "anew, as what it was made of has changed" in result.stderr.splitlines()[0]


def test_a_ready_environment_is_not_wiped_for_a_plain_torch(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.run()
    result = checkout.run(variables=with_torch(tmp_path / "plain", "2.12.0+cu130"))
    assert (result.returncode, result.stderr) == (0, "")


def test_a_ready_environment_without_the_vendors_torch_is_the_users_choice(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.run()
    result = checkout.run(variables=with_torch(tmp_path / "vendor", "2.12.0+hpu.1"))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "without the torch 2.12.0+hpu.1" in line and "DEMO_BERT_VENV" in line
    assert (checkout.environment / "demo_bert-ready.json").exists()
