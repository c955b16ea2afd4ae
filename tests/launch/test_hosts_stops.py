"""Requests to stop that come while the invoking process looks, waits, runs or brings back."""

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from demo_bert.errors import StopRequested
from demo_bert.launch import hosts as launching
from demo_bert.launch.attempt import Verdict
from demo_bert.launch.hosts import Order
from demo_bert.launch.preflight import Findings, Needs
from demo_bert.launch.remote import Hosts, Program
from demo_bert.stopping import StoppedAtOnce

LOST = Verdict(1, "two: gone", is_worth_another=True)


class Desk:
    """Hosts of which nothing is true but what a test says.

    Attributes:
        verdicts: How the attempts end.
        at: Place -> signals that come there, once: "look", "attempt", "sweep", "back".
        asked: What hosts were asked.
    """

    def __init__(self, verdicts: Sequence[Verdict], at: Mapping[str, Sequence[int]]) -> None:
        self.verdicts, self.at, self.asked = list(verdicts), dict(at), list[str]()

    def here(self, place: str) -> None:
        """Sends what is to come at a place."""
        for number in self.at.pop(place, ()):
            signal.raise_signal(number)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Desk], int]:
    """Runs an order on such hosts."""

    def called(desk: Desk) -> int:
        facts = {"steps": [], "port": 1, "interface": "eth0", "cores": 2, "record": None}

        def look(*args: Any, **more: Any) -> Findings:
            desk.asked.append("look")
            desk.here("look")
            return Findings(facts={name: dict(facts) for name in ("one", "two")})

        def attempt(*args: Any, state: Any, **more: Any) -> Verdict:
            state.stage = "running"
            desk.here("attempt")
            return desk.verdicts.pop(0)

        def back(*args: Any, **more: Any) -> None:
            desk.here("back")

        def ask_all(self: Hosts, names: Sequence[str], verb: str, *_: Any, **more: Any) -> Any:
            desk.asked.append(verb)
            if verb == "sweep":
                desk.here("sweep")
            return {name: {"seen": [], "swept": []} for name in names}

        monkeypatch.setattr(launching, "look", look)
        monkeypatch.setattr(launching, "_attempt", attempt)
        monkeypatch.setattr(launching, "_bring_back", back)
        monkeypatch.setattr(launching, "_spread_record", lambda *args, **more: None)
        monkeypatch.setattr(launching, "mpirun_line", lambda *args, **more: ["mpirun"])
        monkeypatch.setattr(Hosts, "ask_all", ask_all)
        needs = Needs(device="cpu", workers=1, paths=(), output_dir="run")
        order = Order(
            *(("one", "two"), 1, (), "run", (8,), needs),
            min_hosts=2,
            max_restarts=2,
            timeout_s=10.0,
        )
        return launching.run_on_hosts(order, Hosts(Program("py", "/src", "/", None), port=None))

    return called


def test_before_anything_runs_the_first_ends_it_and_leaves_nothing(
    run: Callable[[Desk], int],
) -> None:
    desk = Desk([], {"look": [signal.SIGTERM]})
    with pytest.raises(StoppedAtOnce, match="SIGTERM"):
        run(desk)
    assert desk.asked == ["look", "sweep"], "files that hosts left for the look stay there"


def test_while_a_finished_run_is_brought_back_one_changes_nothing_and_two_interrupt(
    run: Callable[[Desk], int],
) -> None:
    assert run(Desk([Verdict(0)], {"back": [signal.SIGTERM]})) == 0
    assert run(Desk([Verdict(0)], {"sweep": [signal.SIGTERM]})) == 0
    with pytest.raises(KeyboardInterrupt):
        run(Desk([Verdict(0)], {"back": [signal.SIGTERM, signal.SIGTERM]}))


def test_workers_have_their_own_word_on_the_second_request(run: Callable[[Desk], int]) -> None:
    assert run(Desk([Verdict(130)], {"attempt": [signal.SIGINT, signal.SIGINT]})) == 130
    with pytest.raises(KeyboardInterrupt):
        run(Desk([Verdict(130)], {"attempt": [signal.SIGINT] * 3}))


@pytest.mark.parametrize("place", ["attempt", "sweep", "back"])
def test_lost_workers_are_not_started_again_after_a_request(
    place: str, run: Callable[[Desk], int]
) -> None:
    desk = Desk([LOST], {place: [signal.SIGTERM]})
    with pytest.raises(StopRequested, match="SIGTERM while workers were lost; .*newest checkpoint"):
        run(desk)


def test_a_request_while_hosts_are_looked_at_again_tells_of_the_newest_checkpoint(
    run: Callable[[Desk], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk([LOST], {})
    told = launching._tell

    def tell(verdict: Verdict) -> None:
        told(verdict)
        desk.at["look"] = [signal.SIGTERM]

    monkeypatch.setattr(launching, "_tell", tell)
    with pytest.raises(StopRequested, match="stopped by SIGTERM; .* from the newest checkpoint"):
        run(desk)
