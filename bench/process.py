"""A process under measurement: its CPU time, context switches and memory, and what it writes, counted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

PIPE_BYTES: Final = 1 << 20
PATIENCE: Final = 60
"""Seconds that starting or stopping may take before the measurement fails."""


class Memory(NamedTuple):
    """In MB (10^6 bytes)."""

    rss: float
    pss: float


class Process:
    """Runs a command from `with` to the block's end, where it is told to stop and waited for.

    It is `ready` when it has written that; `counted` is what to count in its output, and `lost` matches lines that
    tell of losses, with their number.
    """

    def __init__(
        self, command: Sequence[str], ready: bytes, counted: bytes = b"\n", lost: re.Pattern[bytes] | None = None
    ) -> None:
        self._command = command
        self._ready = ready
        self._counted = counted
        self._lost = lost
        self._is_ready = threading.Event()
        self.count = 0
        """How often `counted` was written so far."""
        self.lost = 0
        """The sum of the numbers that `lost` has matched so far."""
        self._keeping = False
        self._kept: list[bytes] = []
        self.last_line = b""
        self.errors = b""
        """What it wrote to stderr; complete after the block."""
        self.ready_ns = 0
        """From spawn to `ready`."""

    def __enter__(self) -> Self:
        self._stderr = tempfile.TemporaryFile()
        self._spawned = time.monotonic_ns()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr, pipesize=PIPE_BYTES
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._is_ready.wait(PATIENCE) or not self.ready_ns:
            self._end()
            raise RuntimeError(f"{self._command[0]} did not begin: {self.errors.decode('utf-8', 'replace')}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._process.returncode not in (0, -signal.SIGINT) and not error:
            raise RuntimeError(f"{self._command[0]} failed: {self.errors.decode('utf-8', 'replace')}")

    def _end(self) -> None:
        """Stop the process and wait until it is gone: detaching takes the kernel its time."""
        for number in [signal.SIGINT] * 5 + [signal.SIGKILL]:  # bpftrace now and then overhears the first
            self._process.send_signal(number)
            try:
                self._process.wait(PATIENCE / 5)
                break
            except subprocess.TimeoutExpired:
                pass
        self._reader.join()
        self._stderr.seek(0)
        self.errors = self._stderr.read()
        self._stderr.close()

    def _read(self) -> None:
        """Drains the output in large reads, so that the process never waits for its reader."""
        pipe = self._process.stdout
        assert pipe
        rest = b""
        with pipe:
            while chunk := os.read(pipe.fileno(), PIPE_BYTES):
                if not self._is_ready.is_set() and self._ready in rest + chunk:
                    self.ready_ns = time.monotonic_ns() - self._spawned
                    self._is_ready.set()
                lines, newline, rest = (rest + chunk).rpartition(b"\n")
                lines += newline
                if self._keeping:
                    self._kept.append(lines)
                self.count += lines.count(self._counted)
                if self._lost:
                    self.lost += sum(map(int, self._lost.findall(lines)))
                if newline:
                    self.last_line = lines[lines.rfind(b"\n", 0, -1) + 1 : -1]
        self._is_ready.set()

    def settle(self) -> None:
        """Wait until nothing more is written."""
        before = -1
        while before != self.count:
            before = self.count
            time.sleep(0.3)

    def keep(self) -> None:
        """Keep what it writes from now on."""
        self._keeping = True

    def kept(self) -> list[bytes]:
        """The lines that were kept; all, after the block."""
        return b"".join(self._kept).splitlines()

    def cpu_ns(self) -> int:
        """CPU time so far, user and system, of all threads (clock_getcpuclockid(3))."""
        return time.clock_gettime_ns(~self.pid << 3 | 2)

    def switches(self) -> int:
        """Context switches so far, voluntary and not, of the threads there are."""
        statuses = (path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/status"))
        return sum(int(number) for status in statuses for number in re.findall(r"ctxt_switches:\s+(\d+)", status))

    def memory(self) -> Memory:
        """Resident memory, and its proportional share."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        sizes = {name: int(kib) * 1024 / 1e6 for name, kib in re.findall(r"^(Rss|Pss):\s+(\d+) kB", rollup, re.M)}
        return Memory(sizes["Rss"], sizes["Pss"])
