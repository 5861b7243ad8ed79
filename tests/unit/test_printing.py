"""From a stream to stdout: the order of its end, and the signals that bring it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cni_collector.cli import printing
from cni_collector.events import Event, NetnsCreate
from cni_collector.views.filters import Filters
from cni_collector.views.lines import JsonLines

from ..support.made import made

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Recorded:
    """A stream that notes when it is stopped."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def batches(self) -> Iterator[list[Event]]:
        yield [made(NetnsCreate, "2026-01-02T03:04:05.123456789Z")]

    def stop(self) -> None:
        self.did.append("stop")


def test_what_was_asked_for_is_offered_and_written_before_the_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Recorded()
    monkeypatch.setattr(printing, "_put", lambda text: stream.did.append("write") if text else None)
    printing.write(stream, Filters(), JsonLines(), 1, lambda _everything, _matching: stream.did.append("feed"))
    assert stream.did == ["feed", "write", "stop"]


def test_signals_are_as_before_when_the_block_is_left() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    stream = Recorded()
    with printing.stopped_by_signals(stream, 60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        signal.raise_signal(signal.SIGTERM)
        assert "stop" in stream.did
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
