"""What the kernel side takes, program by program, by the kernel's own statistics (BPF_STATS_RUN_TIME)."""

from __future__ import annotations

import ctypes
import os
import struct
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.support.actors import a_life

from cni_collector import Collector
from cni_collector.kernel.libbpf import libbpf

from .load import load
from .table import Figures, Row, ours

PAIRS: Final = 10_000
LIVES: Final = 100
_RUN_TIME: Final = 192
"""Where `struct bpf_prog_info` has run_time_ns and, behind it, run_cnt."""


class RunTime(NamedTuple):
    """How long a program has run in all."""

    ns: int
    runs: int


class RunTimes:
    """Has the kernel count while the block lasts. Counting itself takes some 20 ns of each run."""

    def __init__(self, collector: Collector) -> None:
        assert collector._session
        self._hooks = collector._session._hooks

    def __enter__(self) -> Self:
        self._stats = libbpf().bpf_enable_stats(0)
        if self._stats < 0:
            raise RuntimeError("the kernel keeps no statistics of BPF programs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stats)

    def names(self) -> list[str]:
        """The programs that are attached."""
        return list(self._hooks._attached)

    def of(self, name: str) -> RunTime:
        """What a program has taken so far."""
        info = ctypes.create_string_buffer(_RUN_TIME + 16)
        size = ctypes.c_uint32(len(info))
        fd = libbpf().bpf_program__fd(self._hooks.object.program(name)._handle)
        libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size))
        return RunTime(*struct.unpack_from("=QQ", info.raw, _RUN_TIME))


def rows(repeats: int) -> list[Row]:
    """Measure a storm of setns, and the lives of some namespaces."""
    took: dict[str, list[float]] = {}
    with load() as busy, Collector("cni") as collector, RunTimes(collector) as times:
        for _ in range(repeats):
            before = {name: times.of(name) for name in times.names()}
            busy.run(PAIRS)
            for _ in range(LIVES):
                a_life()
            for name, then in before.items():
                now = times.of(name)
                if now.runs - then.runs >= LIVES // 2:
                    took.setdefault(name, []).append((now.ns - then.ns) / (now.runs - then.runs))
    return [ours(f"program {name}: ns a run", Figures(values, 0)) for name, values in took.items()]
