"""Records out of the kernel's ring buffer, in batches.

Two readers with one contract, `read(limit)`: the mapped ring, which is fast and right where the processor keeps
loads and stores in order (x86-64), and libbpf's own, which has the barriers that other processors need.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
from collections.abc import Callable
from typing import Final, Protocol

from ..errors import CollectorError, LayoutError
from ..events import Event
from .libbpf import SAMPLE, libbpf
from .objects import Map
from .wire import SLOT

Decode = Callable[[bytes | memoryview, int, int], Event | None]
"""Makes an event of `size` bytes at `offset` of a buffer; None where there is none to make."""
DecodeRun = Callable[[memoryview, list[Event]], int]
"""Appends the events of a run of slots (`wire.SLOT`) to a list, and says how many slots it could take."""


def one_by_one(_slots: memoryview, _events: list[Event]) -> int:
    """The `DecodeRun` that leaves everything to `Decode`."""
    return 0


_BUSY: Final = 1 << 31  # BPF_RINGBUF_BUSY_BIT: reserved, not yet written
_DISCARD: Final = 1 << 30  # BPF_RINGBUF_DISCARD_BIT
_HEADER: Final = 8  # BPF_RINGBUF_HDR_SZ


class Ring(Protocol):
    """A reader of one ring buffer."""

    def read(self, limit: int) -> tuple[list[Event], bool]:
        """Takes at most `limit` records out of the ring, oldest first.

        Returns:
            Their events, and whether the ring may hold more.

        Raises:
            LayoutError: the ring holds what no kernel writes.
        """

    def close(self) -> None:
        """Gives the memory back. Safe to call twice."""


class MappedRing:
    """Reads the ring from the memory that it shares with the kernel (kernel/bpf/ringbuf.c).

    The consumer's position is a page of its own, writable; then come the producer's and the records, which
    the kernel maps twice in a row so that none is ever split.

    Args:
        ring: the map, already loaded.
        decode: makes an event of a record, where it lies.
        decode_run: makes events of many at once; what it leaves, `decode` takes.
    """

    def __init__(self, ring: Map, decode: Decode, decode_run: DecodeRun = one_by_one) -> None:
        self._decode = decode
        self._decode_run = decode_run
        self._size = ring.max_entries
        page = mmap.PAGESIZE
        self._maps = (
            mmap.mmap(ring.fd, page, mmap.MAP_SHARED),
            mmap.mmap(ring.fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page),
        )
        consumer, shared = (memoryview(region) for region in self._maps)
        self._consumer = consumer.cast("Q")
        self._producer = shared[:8].cast("Q")
        self._records = shared[page:]
        self._headers = self._records.cast("I")
        self._views = (self._headers, self._records, self._producer, self._consumer, shared, consumer)

    def read(self, limit: int) -> tuple[list[Event], bool]:
        decode, decode_run, slot = self._decode, self._decode_run, SLOT.size
        records, headers, mask = self._records, self._headers, self._size - 1
        events: list[Event] = []
        position, end = self._consumer[0], self._producer[0]
        while position < end and limit:
            start = position & mask
            slots = min(min(end - position, mask) // slot, limit)
            if run := decode_run(records[start : start + slots * slot], events):
                position += run * slot
                limit -= run
                continue
            header = headers[start >> 2]
            if header & _BUSY:
                break
            size = header & ~_DISCARD
            if size > end - position - _HEADER:
                raise LayoutError(f"the ring buffer holds a record of {size} bytes: its memory is corrupt")
            if size == header:
                event = decode(records, start + _HEADER, size)
                if event is not None:
                    events.append(event)
            position += (size + _HEADER + 7) & ~7
            limit -= 1
        self._consumer[0] = position  # last: whatever interrupts this loop, nothing is lost
        return events, not limit

    def close(self) -> None:
        for view in self._views:
            view.release()
        for region in self._maps:
            # A read that was interrupted may have left a view in its traceback: then the memory goes with that.
            with contextlib.suppress(BufferError):
                region.close()


class LibbpfRing:
    """Reads the ring by libbpf's `ring_buffer__consume`, a callback a record.

    Args:
        ring: the map, already loaded.
        decode: makes an event of a record.
        decode_run: not used, since records come one by one.
    """

    def __init__(self, ring: Map, decode: Decode, decode_run: DecodeRun = one_by_one) -> None:
        self._decode = decode
        self._events: list[Event] = []
        self._limit = 0
        self._error: BaseException | None = None
        self._callback = SAMPLE(self._take)
        self._handle: int | None = libbpf().ring_buffer__new(ring.fd, self._callback, None, None)
        if not self._handle:
            raise CollectorError(f"cannot map the ring buffer: {os.strerror(ctypes.get_errno())}")

    def _take(self, _context: int, record: int, size: int) -> int:
        try:
            event = self._decode(ctypes.string_at(record, size), 0, size)
            if event is not None:
                self._events.append(event)
        except BaseException as error:  # ctypes would print it and go on
            self._error = error
            return -1
        self._limit -= 1
        return 0 if self._limit else -1  # a negative result ends the reading, after this record

    def read(self, limit: int) -> tuple[list[Event], bool]:
        self._limit = limit
        libbpf().ring_buffer__consume(self._handle)
        error, self._error = self._error, None
        if error:
            raise error
        events, self._events = self._events, []
        return events, not self._limit

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            libbpf().ring_buffer__free(handle)


def reader(ring: Map, decode: Decode, decode_run: DecodeRun = one_by_one) -> Ring:
    """The reader that fits this machine's memory ordering."""
    return (MappedRing if platform.machine() == "x86_64" else LibbpfRing)(ring, decode, decode_run)
