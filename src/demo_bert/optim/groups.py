"""Which parameters decay."""

from collections.abc import Iterable


def decays(name: str) -> bool:
    """Whether weight decay applies to the parameter.

    Args:
        name: A parameter's name in our models.

    Returns:
        False for biases and layer norms, True for all else.

    Source:
        `optimization.py` of the published code.

    Example:
        >>> decays("bert.layers.0.attention.qkv.weight"), decays("bert.embeddings.norm.weight")
        (True, False)
    """
    return not (name.endswith("bias") or name.endswith("norm.weight"))


def split_by_decay(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names that decay and those that do not, each in the given order.

    Args:
        names: Parameter names.

    Returns:
        (decaying, not decaying).

    Example:
        >>> split_by_decay(["classifier.weight", "classifier.bias"])
        (['classifier.weight'], ['classifier.bias'])
    """
    everything = list(names)
    return [n for n in everything if decays(n)], [n for n in everything if not decays(n)]


def num_parts(name: str) -> int:
    """How many published tensors one of ours holds, one after the other along its first dimension.

    Args:
        name: A parameter's name in our models.

    Returns:
        3 for query, key and value in one, else 1.

    Example:
        >>> num_parts("bert.layers.0.attention.qkv.weight"), num_parts("classifier.weight")
        (3, 1)
    """
    return 3 if name.endswith((".qkv.weight", ".qkv.bias")) else 1
