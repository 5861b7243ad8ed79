"""A ring buffer without a kernel: what it holds is the input."""

from __future__ import annotations

import mmap
import os
from typing import Final

SIZE: Final = 1 << 14
HEADER: Final = 8
BUSY: Final = 1 << 31
DISCARD: Final = 1 << 30
"""Of a record in the ring (kernel/bpf/ringbuf.c): the size of its header, and two bits of that."""
_PAGE: Final = mmap.PAGESIZE


class FakeRing:
    """Stands in for a map of type BPF_MAP_TYPE_RINGBUF, for the reader: all of it lies before the first wrap."""

    def __init__(self) -> None:
        self.max_entries = SIZE
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * _PAGE + 2 * SIZE)
        self._memory = mmap.mmap(self.fd, 0)

    @property
    def consumed(self) -> int:
        """How many bytes have been read."""
        return int.from_bytes(self._memory[:8], "little")

    def fill(self, content: bytes) -> None:
        """Puts bytes in, in place of what was there."""
        self._memory[2 * _PAGE : 2 * _PAGE + len(content)] = content
        self._memory[:8] = bytes(8)
        self._memory[_PAGE : _PAGE + 8] = len(content).to_bytes(8, "little")
