"""What it costs to read a filled ring: as objects and as JSON lines, and what other processors' barriers cost."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from typing import Final
from unittest import mock

import msgspec

from cni_collector import Collector, Event, Netns, NetnsEnter
from cni_collector.kernel.ring import FENCE, Ring, membarrier
from cni_collector.kernel.wire import SLOT
from cni_collector.stream.session import CHUNK

from .load import load
from .table import Figures, Row, ours

PAIRS: Final = 15_000
"""Fills four fifths of the default ring: what others on the machine do needs some room too."""
PATIENCE: Final = 30
"""Seconds that one reading may take."""

_READERS: Final = {"here": FENCE, "with barriers": membarrier}
_FORMS: Final = {"objects": 0.7, "JSON lines": 1.0}
"""With their targets, which are for this processor."""


def rows(repeats: int) -> list[Row]:
    """Measure both ways, attached at once: the same events fill both rings. Forms and order take turns."""
    took: dict[tuple[str, str], list[float]] = {(form, reader): [] for form in _FORMS for reader in _READERS}
    with load() as busy, contextlib.ExitStack() as stack:
        filled = [(name, stack.enter_context(_Filled(name))) for name in _READERS]
        for turn in range(-1, repeats):  # the first one only warms up
            for form in _FORMS:
                busy.run(PAIRS)
                for name, ring in filled[:: -1 if turn % 2 else 1]:
                    figure = ring.read(form == "JSON lines")
                    if turn >= 0:
                        took[form, name].append(figure)
    found = [
        ours(
            f"{form} from a filled ring, {reader}, CPU us/event",
            Figures(figures),
            _FORMS[form] if reader == "here" else None,
        )
        for (form, reader), figures in took.items()
    ]
    floor = Figures([_unpacked() for _ in range(repeats)])
    return [*found, ours("records unpacked and an object made of each, no more, CPU us/event", floor)]


def _unpacked() -> float:
    """The floor of a reader in Python, which looks nothing up and forms no text; microseconds of CPU for each event."""
    slots, netns = bytes(SLOT.size * CHUNK), Netns(1, 2)
    events: list[Event] = []
    start = time.thread_time_ns()
    for _ in range(2 * PAIRS // CHUNK):
        events.clear()
        for _, _, _, _, userns, _, _, _, _, _, pid, tid, ppid, uid, _, _, _, _, _ in SLOT.iter_unpack(slots):
            events.append(NetnsEnter("", netns, netns, None, "setns", None, pid, tid, ppid, uid, "", userns))
    return (time.thread_time_ns() - start) / 1000 / (2 * PAIRS // CHUNK * CHUNK)


class _Filled:
    """A collector that is read only when told."""

    def __init__(self, reader: str) -> None:
        self._collector = Collector(reader)
        self._reader = reader
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> _Filled:
        fenced = functools.partial(Ring, fence=_READERS[self._reader])
        with mock.patch("cni_collector.stream.session.Ring", fenced):
            self._collector.start()
        self._batches: Iterator[list[Event]] = self._collector.batches()
        next(self._batches)
        return self

    def __exit__(self, *_: object) -> None:
        self._collector.stop()

    def read(self, as_json: bool) -> float:
        """Read what one filling put there; microseconds of this thread's CPU time for each event."""
        left = 2 * PAIRS
        encode = self._encoder.encode_lines
        watchdog = threading.Timer(PATIENCE, self._collector.stop)  # ends the waiting should events be missing
        watchdog.start()
        with open("/dev/null", "wb") as out:
            start = time.thread_time_ns()
            while left > 0 and (batch := next(self._batches, None)):
                left -= len(batch)
                if as_json:
                    out.write(encode(batch))
                    out.flush()
            took = time.thread_time_ns() - start
        watchdog.cancel()
        watchdog.join()
        if self._collector.stats.lost or not self._collector.healthy:
            raise RuntimeError("the ring ran over, or events were missing: the machine is too busy with namespaces")
        return took / 1000 / (2 * PAIRS - left)
