"""Which cores each worker of a host gets."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path


def nodes_of(cores: Sequence[int], root: Path = Path("/")) -> list[list[int]]:
    """The cores of each NUMA node.

    Args:
        cores: Those that may be used.
        root: Where /sys is.

    Returns:
        Groups of them; one group where the system does not tell.
    """
    found: list[list[int]] = []
    for path in sorted(root.glob("sys/devices/system/node/node[0-9]*/cpulist")):
        listed = _numbers(path.read_text("ascii"))
        if own := [core for core in cores if core in listed]:
            found.append(own)
    return found if sum(map(len, found)) == len(cores) else [list(cores)]


def divide(
    nodes: Sequence[Sequence[int]], num_workers: int, *, each: int | None = None
) -> list[list[int]] | None:
    """Divides cores among workers: none is shared, none reaches over two nodes where it need not.

    Args:
        nodes: From `nodes_of`.
        num_workers: On this host.
        each: Cores of each worker; None: all of them, divided.

    Returns:
        The cores of each worker; None where there are not enough for one each.

    Example:
        >>> divide([[0, 1, 2, 3], [4, 5, 6, 7]], 4)
        [[0, 1], [2, 3], [4, 5], [6, 7]]
        >>> divide([[0, 1, 2, 3]], 3), divide([[0]], 2), divide([[0, 1, 2, 3]], 2, each=1)
        ([[0], [1], [2]], None, [[0], [1]])
    """
    line = [core for node in nodes for core in node]
    share = len(line) // num_workers if each is None else each
    if share == 0 or share * num_workers > len(line):
        return None
    if num_workers % len(nodes) == 0:
        there = num_workers // len(nodes)
        smallest = min(map(len, nodes)) // there
        share = smallest if each is None else each
        if 0 < share <= smallest:
            return [
                list(node[number * share : (number + 1) * share])
                for node in nodes
                for number in range(there)
            ]
    return [line[number * share : (number + 1) * share] for number in range(num_workers)]


def own_cores() -> list[int]:
    """The cores that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def shares_of(num_workers: int, *, each: int | None = None) -> list[list[int]] | None:
    """The cores of each worker of this host.

    Args:
        num_workers: On this host.
        each: Cores of each worker; None: the host's, divided.

    Returns:
        Them; None where they are not divided: fewer cores than workers, or a container that may
        use all cores, but only part of their time.
    """
    from demo_bert.hardware.cpu import usable_cores

    cores = own_cores()
    if not cores or usable_cores() < len(cores):
        return None
    return divide(nodes_of(cores), num_workers, each=each)


def settle(local_rank: int, local_size: int, *, each: int | None = None) -> None:
    """Keeps this worker to its share of the host's cores.

    Args:
        local_rank: Place on this host.
        local_size: Workers on this host.
        each: Cores of each worker; None: the host's, divided.
    """
    shares = shares_of(local_size, each=each)
    if shares and sys.platform == "linux":
        os.sched_setaffinity(0, shares[local_rank])


def named(shares: Sequence[Sequence[int]] | None) -> str:
    """The cores of workers, in words.

    Args:
        shares: From `divide`.

    Returns:
        Workers divided by bars.

    Example:
        >>> named([[0, 1, 2], [4, 6]]), named(None)
        ('0-2 | 4,6', 'not divided')
    """
    return " | ".join(map(_ranges, shares)) if shares else "not divided"


def _ranges(cores: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _numbers(text: str) -> set[int]:
    """The numbers of a list as the kernel writes it.

    Example:
        >>> sorted(_numbers("0-2,5"))
        [0, 1, 2, 5]
    """
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found
