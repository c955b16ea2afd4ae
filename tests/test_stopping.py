"""Stop requests: signals and a time limit ask; two signals interrupt."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from demo_bert import stopping
from demo_bert.stopping import StoppedAtOnce, StopRequests
from small_run import ENVIRONMENT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_asks_and_nothing_more(number: signal.Signals) -> None:
    with StopRequests() as stops:
        assert stops.reason is None
        os.kill(os.getpid(), number)
        assert stops.reason == number.name
        assert stops.reason == number.name, "it is forgotten"


def test_a_second_signal_interrupts() -> None:
    with StopRequests() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stops.reason == "SIGTERM"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_where_nothing_is_at_risk_a_signal_ends_the_work_where_it_stands(
    number: signal.Signals,
) -> None:
    with StopRequests(is_at_once=True) as stops:
        with stops.noted():
            assert stops.reason is None
        with pytest.raises(StoppedAtOnce, match=number.name):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stops.reason == number.name


def test_what_is_noted_is_asked_for_and_not_raised() -> None:
    with StopRequests(is_at_once=True) as stops, stops.noted():
        signal.raise_signal(signal.SIGTERM)
        assert stops.reason == "SIGTERM"


def test_no_library_takes_a_stop_for_a_failure_of_its_own() -> None:
    with StopRequests(is_at_once=True), pytest.raises(StoppedAtOnce):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pytest.fail("swallowed")


def test_a_stop_that_comes_out_as_a_failure_is_a_stop() -> None:
    def asked(*, is_noted: bool) -> None:
        with StopRequests(is_at_once=True) as stops:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException:  # as compiled code that called Python's does
                if is_noted:
                    with stops.noted():
                        pass
                raise ValueError("damaged") from None

    with pytest.raises(StoppedAtOnce, match="SIGTERM"):
        asked(is_noted=False)
    with pytest.raises(ValueError, match="damaged"):  # training began meanwhile
        asked(is_noted=True)
    with pytest.raises(ValueError, match="damaged"), StopRequests(is_at_once=True):
        raise ValueError("damaged")  # nobody asked


def test_the_end_of_the_time_ends_the_work_where_it_stands() -> None:
    with StopRequests(0.05, is_at_once=True):
        with pytest.raises(StoppedAtOnce, match="the time limit"):
            threading.Event().wait(30)


def test_the_end_of_the_time_is_noted_while_requests_are() -> None:
    with StopRequests(0.05, is_at_once=True) as stops, stops.noted():
        threading.Event().wait(0.2)
        assert stops.reason == "the time limit"


def test_the_former_handlers_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with pytest.raises(ValueError, match="broken"), StopRequests():
        raise ValueError("broken")
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_the_time_limit_asks_when_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    stops = StopRequests(5.0)
    for passed, reason in ((4.9, None), (5.0, "the time limit"), (900.0, "the time limit")):
        now[0] = 100.0 + passed
        assert stops.reason == reason


def test_outside_the_main_thread_the_time_limit_works_and_signals_are_left_alone() -> None:
    reasons = []

    def work() -> None:
        with StopRequests(0.0) as stops:
            reasons.append(stops.reason)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reasons == ["the time limit"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_stops_when_what_started_it_is_gone() -> None:
    # The child starts a grandchild and is killed; the grandchild tells when it notices.
    grandchild = (
        "import sys, time\nfrom demo_bert.stopping import StopRequests\n"
        "stops = StopRequests(is_supervised=True)\n"
        "print(stops.reason, flush=True)\n"
        "end = time.monotonic() + 30\n"
        "while stops.reason is None and time.monotonic() < end: time.sleep(0.01)\n"
        "print(stops.reason, flush=True)\n"
    )
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", child], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == "None\n"
        process.kill()
        process.wait()
        assert lines.readline() == "the end of the process that started the workers\n"
