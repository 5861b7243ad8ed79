"""Records out of the kernel's ring buffer, in batches.

The ring is memory that the kernel fills from other CPUs. x86-64 keeps loads and stores in order; other processors need
the barriers that kernel/bpf/ringbuf.c and libbpf have, and get them a batch at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
from collections.abc import Callable
from typing import Final

from ..errors import LayoutError, UnsupportedError
from ..events import Event
from .libbpf import libc
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
_MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283}.get(platform.machine(), 283)
"""The number of membarrier(2), which is 283 wherever the table of system calls is the general one."""
_GLOBAL: Final = 1 << 0
_GLOBAL_EXPEDITED: Final = 1 << 1


def membarrier() -> None:
    """A barrier between all loads and stores before it and all after it, for this CPU.

    Of the commands of membarrier(2), MEMBARRIER_CMD_GLOBAL_EXPEDITED is the one that has it for the caller also where
    the process has a single thread, and that waits for nobody (kernel/sched/membarrier.c).

    Raises:
        UnsupportedError: the kernel or a seccomp filter refuses it.
    """
    if libc().syscall(_MEMBARRIER, _GLOBAL_EXPEDITED, 0, 0):
        raise UnsupportedError(
            f"cannot read the ring buffer in order: membarrier(2) failed ({os.strerror(ctypes.get_errno())}); "
            "allow it in the seccomp profile"
        )


def wait_for_programs() -> None:
    """Returns when every BPF program that runs now has ended: they run under RCU, also where they are preempted.

    MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c), which takes some 20 ms. On a kernel that was
    booted with nohz_full= it is refused: there it is not waited.
    """
    libc().syscall(_MEMBARRIER, _GLOBAL, 0, 0)


FENCE: Final = None if platform.machine() == "x86_64" else membarrier
"""What `Ring` needs on this machine."""


class Ring:
    """Reads the ring from the memory that it shares with the kernel (kernel/bpf/ringbuf.c).

    The consumer's position is a page of its own, writable; then come the producer's and the records, which
    the kernel maps twice in a row so that none is ever split.

    Args:
        ring: the map, already loaded.
        decode: makes an event of a record, where it lies.
        decode_run: makes events of many at once; what it leaves, `decode` takes.
        fence: what this processor needs between loads and stores; None where it keeps them in order.

    Raises:
        UnsupportedError: the process may not use membarrier(2).
    """

    def __init__(
        self, ring: Map, decode: Decode, decode_run: DecodeRun = one_by_one, fence: Callable[[], None] | None = FENCE
    ) -> None:
        if fence:
            fence()
        self._fence = fence
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
        """Takes at most `limit` records out of the ring, oldest first.

        Returns:
            Their events, and whether the ring may hold more.

        Raises:
            LayoutError: the ring holds what no kernel writes.
        """
        decode, decode_run, slot = self._decode, self._decode_run, SLOT.size
        records, headers, mask = self._records, self._headers, self._size - 1
        events: list[Event] = []
        position, end = self._consumer[0], self._producer[0]
        if self._fence and position < end:
            end = self._written(position, end, limit, self._fence)
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
        if self._fence:
            self._fence()  # the kernel may write there once it sees the position: so all is read before
        self._consumer[0] = position  # last: whatever interrupts this loop, nothing is lost
        return events, not limit

    @property
    def consumed(self) -> int:
        """Up to where it has been read: bytes since the beginning."""
        return int(self._consumer[0])

    @property
    def produced(self) -> int:
        """Up to where there are records by now, those that are being written included."""
        return int(self._producer[0])

    def _written(self, position: int, end: int, limit: int, fence: Callable[[], None]) -> int:
        """Where the first `limit` records end, or those before one that is busy: what may be read without a barrier."""
        headers, mask = self._headers, self._size - 1
        fence()  # between the producer's position and the headers before it
        while position < end and limit:
            header = headers[(position & mask) >> 2]
            if header & _BUSY:
                break
            position += ((header & ~_DISCARD) + _HEADER + 7) & ~7
            limit -= 1
        fence()  # between the headers and what they say is written
        return min(position, end)

    def close(self) -> None:
        """Gives the memory back. Safe to call twice."""
        for view in self._views:
            view.release()
        for region in self._maps:
            # A read that was interrupted may have left a view in its traceback: then the memory goes with that.
            with contextlib.suppress(BufferError):
                region.close()
