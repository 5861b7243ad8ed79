"""What an exec costs that is no CNI call: its whole environment is looked through."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from cni_collector import Collector
from cni_collector.bpf import libbpf

from .table import Figures, Row, ours

EXECS: Final = 300
_RUN_TIME: Final = 192
"""Where `struct bpf_prog_info` has run_time_ns and, behind it, run_cnt."""


def rows(repeats: int) -> list[Row]:
    """Measure by the kernel's own statistics of the program (BPF_STATS_RUN_TIME)."""
    took: dict[int, list[float]] = {40: [], 400: []}
    stats = libbpf().bpf_enable_stats(0)
    if stats < 0:
        raise RuntimeError("the kernel keeps no statistics of BPF programs")
    try:
        with Collector("cni") as collector:
            assert collector._session
            program = collector._session._attachment.object.program("cni_exec")
            fd = libbpf().bpf_program__fd(program._handle)
            for _ in range(repeats):
                for variables, values in took.items():
                    before = _run_time(fd)
                    _execs(variables)
                    time, runs = (after - then for after, then in zip(_run_time(fd), before, strict=True))
                    values.append(time / runs)
    finally:
        os.close(stats)
    what = "exec with {} variables of 75 bytes: ns"
    return [ours(what.format(number), Figures(values, 0)) for number, values in took.items()]


def _run_time(fd: int) -> tuple[int, int]:
    info = ctypes.create_string_buffer(_RUN_TIME + 16)
    size = ctypes.c_uint32(len(info))
    libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size))
    time, runs = struct.unpack_from("=QQ", info.raw, _RUN_TIME)
    return time, runs


def _execs(variables: int) -> None:
    environment = {f"SOME_VARIABLE_{number:04}": "x" * 55 for number in range(variables)}
    for _ in range(EXECS):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], environment), 0)
