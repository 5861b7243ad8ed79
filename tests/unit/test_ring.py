"""Records out of the ring: what every reader owes, on a ring that a file stands in for."""

from __future__ import annotations

import functools
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector.errors import LayoutError
from cni_collector.kernel.ring import Ring, membarrier

PAGE = mmap.PAGESIZE
BUSY, DISCARD = 1 << 31, 1 << 30
READERS: list[Any] = [functools.partial(Ring, fence=None), functools.partial(Ring, fence=membarrier)]
"""What x86-64 takes, and what other processors do."""


class FakeRing:
    """A map of type BPF_MAP_TYPE_RINGBUF with one page of records, and the kernel's part in it.

    A file can not map its records twice in a row as the kernel does: they are written twice.
    """

    def __init__(self, position: int = 0) -> None:
        self.max_entries = PAGE
        self.fd, path = tempfile.mkstemp()
        os.unlink(path)
        os.ftruncate(self.fd, 2 * PAGE + 2 * self.max_entries)
        self._memory = mmap.mmap(self.fd, 0)
        self._put(0, position)
        self._put(PAGE, position)

    @property
    def consumer(self) -> int:
        return int.from_bytes(self._memory[:8], "little")

    @property
    def producer(self) -> int:
        return int.from_bytes(self._memory[PAGE : PAGE + 8], "little")

    def reserve(self, payload: bytes, flags: int = 0, length: int | None = None) -> int:
        """Puts a record in, and returns its position."""
        at = self.producer
        self._write(at, struct.pack("<II", (len(payload) if length is None else length) | flags, 0) + payload)
        self._put(PAGE, at + (len(payload) + 8 + 7) // 8 * 8)
        return at

    def submit(self, at: int, length: int) -> None:
        """Ends the writing of a record that was busy."""
        self._write(at, struct.pack("<I", length))

    def fill(self, at: int, payload: bytes) -> None:
        """Writes what a record holds."""
        self._write(at + 8, payload)

    def room_for(self, payload: bytes) -> bool:
        return self.producer + len(payload) + 16 - self.consumer <= self.max_entries

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)

    def _put(self, at: int, number: int) -> None:
        self._memory[at : at + 8] = number.to_bytes(8, "little")

    def _write(self, position: int, content: bytes) -> None:
        for index, byte in enumerate(content):
            at = 2 * PAGE + (position + index) % self.max_entries
            self._memory[at] = self._memory[at + self.max_entries] = byte


def take(buffer: bytes | memoryview, offset: int, size: int) -> Any:
    """In place of a decoder: the record itself."""
    return bytes(buffer[offset : offset + size])


@pytest.fixture
def fake() -> Iterator[FakeRing]:
    made = FakeRing()
    yield made
    made.close()


@pytest.fixture(params=READERS, ids=["in order", "with barriers"])
def reader(fake: FakeRing, request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param(fake, take)
    yield made
    made.close()


def test_an_empty_ring_gives_nothing(reader: Any) -> None:
    assert reader.read(512) == ([], False)


def test_records_come_oldest_first_and_once(fake: FakeRing, reader: Any) -> None:
    for payload in (b"first", b"second", b""):
        fake.reserve(payload)
    assert reader.read(512) == ([b"first", b"second", b""], False)
    assert fake.consumer == fake.producer
    assert reader.read(512) == ([], False)


def test_no_more_records_than_asked_for_are_taken(fake: FakeRing, reader: Any) -> None:
    second = [fake.reserve(payload) for payload in (b"1", b"2", b"3")][1]
    assert reader.read(1) == ([b"1"], True)
    assert fake.consumer == second
    assert reader.read(2) == ([b"2", b"3"], True)
    assert reader.read(2) == ([], False)


def test_a_busy_record_holds_up_those_behind_it(fake: FakeRing, reader: Any) -> None:
    fake.reserve(b"before")
    busy = fake.reserve(b"busy", BUSY)
    fake.reserve(b"behind")
    assert reader.read(512) == ([b"before"], False)
    assert reader.read(512) == ([], False)
    assert fake.consumer == busy
    fake.submit(busy, len(b"busy"))
    assert reader.read(512) == ([b"busy", b"behind"], False)


def test_discarded_records_are_passed_over_and_limited_like_others(fake: FakeRing, reader: Any) -> None:
    fake.reserve(b"discarded", DISCARD)
    fake.reserve(b"kept")
    fake.reserve(b"discarded", DISCARD)
    assert reader.read(1) == ([], True)
    assert reader.read(512) == ([b"kept"], False)
    assert fake.consumer == fake.producer


@pytest.mark.parametrize("kind", READERS, ids=["in order", "with barriers"])
def test_records_without_an_event_are_taken_too(fake: FakeRing, kind: Any) -> None:
    fake.reserve(b"no event")
    reader = kind(fake, lambda _buffer, _offset, _size: None)
    assert reader.read(512) == ([], False)
    assert fake.consumer == fake.producer
    reader.close()


@pytest.mark.parametrize("kind", READERS, ids=["in order", "with barriers"])
@given(
    start=st.integers(0, 2**50).map(lambda number: number * 8),
    payloads=st.lists(st.binary(max_size=300), min_size=30, max_size=60),
    limit=st.integers(1, 20),
)
def test_what_is_written_is_read_around_the_ring_and_around_again(
    kind: Any, start: int, payloads: list[bytes], limit: int
) -> None:
    fake = FakeRing(start)
    reader: Any = kind(fake, take)
    seen: list[bytes] = []
    for payload in payloads:
        while not fake.room_for(payload):
            seen += reader.read(limit)[0]
        fake.reserve(payload)
    more = True
    while more:
        events, more = reader.read(limit)
        seen += events
    assert seen == payloads
    reader.close()
    fake.close()


@pytest.mark.parametrize("length", [PAGE, DISCARD - 1, PAGE // 2], ids=["the ring", "the most", "behind the producer"])
def test_a_length_that_no_kernel_writes_is_an_error(fake: FakeRing, reader: Any, length: int) -> None:
    fake.reserve(b"good")
    fake.reserve(b"bad", length=length)
    with pytest.raises(LayoutError, match="corrupt"):
        reader.read(512)
    assert fake.consumer == 0


def test_a_decoder_that_raises_costs_no_record(fake: FakeRing) -> None:
    interrupted = True

    def interrupt_once(buffer: bytes | memoryview, offset: int, size: int) -> Any:
        nonlocal interrupted
        if interrupted and bytes(buffer[offset : offset + size]) == b"2":
            interrupted = False
            raise KeyboardInterrupt
        return take(buffer, offset, size)

    for payload in (b"1", b"2", b"3"):
        fake.reserve(payload)
    reader = READERS[0](fake, interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        reader.read(512)
    assert fake.consumer == 0
    assert reader.read(512) == ([b"1", b"2", b"3"], False)
    reader.close()


def test_closing_gives_the_memory_back_and_may_be_repeated(fake: FakeRing) -> None:
    reader: Any = READERS[0](fake, take)
    reader.close()
    reader.close()
    assert all(region.closed for region in reader._maps)


def test_what_another_cpu_has_written_is_looked_at_after_the_barrier_that_shows_it(fake: FakeRing) -> None:
    """A processor that shows each store as late as it may: the position, then the headers, then what they are of."""
    records = [fake.reserve(b"later", BUSY), fake.reserve(b"later", BUSY)]
    barriers: list[int] = []

    def fence() -> None:
        barriers.append(fake.consumer)
        if len(barriers) == 2:  # the first is the reader's own question whether there are any
            for at in records:
                fake.submit(at, len(b"right"))
        if len(barriers) == 3:
            for at in records:
                fake.fill(at, b"right")

    reader: Any = Ring(fake, take, fence=fence)  # type: ignore[arg-type]
    assert reader.read(512) == ([b"right", b"right"], False)
    assert barriers == [0, 0, 0, 0]
    assert fake.consumer == fake.producer
    reader.close()
