"""Who is measured: `cni-collector watch`, and bpftrace with a script that prints the same fields."""

from __future__ import annotations

import re
import shutil
import sys
from typing import Final, Protocol

import msgspec

from .process import Process

SCRIPT: Final = r"""
BEGIN { printf("ready\n"); }
tracepoint:syscalls:sys_enter_setns { @nstype[tid] = args->flags; }
tracepoint:syscalls:sys_exit_setns /@nstype[tid]/ {
    printf("%llu %d %d %s %d %u %d\n",
        nsecs, pid, tid, comm, uid, curtask->nsproxy->net_ns->ns.inum, args->ret);
    delete(@nstype[tid]);
}
"""


class Tracer(Protocol):
    """One that can be started, and says what it has lost."""

    name: str

    def process(self, load_pid: int = 0) -> Process:
        """Make the process to run; it counts the lines about the process `load_pid`, or all lines."""

    def lost(self, ended: Process) -> int:
        """Tell how many events were not delivered, by its own account."""


class Watch:
    """`cni-collector watch -o json`."""

    name = "cni-collector"

    def process(self, load_pid: int = 0) -> Process:
        command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json"]
        counted = b'"pid":%d,"tid":%d,' % (load_pid, load_pid) if load_pid else b"\n"
        return Process(command, b'"type":"collector_start"', counted)

    def lost(self, ended: Process) -> int:
        stop = msgspec.json.decode(ended.last_line)
        if stop["type"] != "collector_stop":
            raise RuntimeError(f"the last line is no collector_stop: {ended.last_line!r}")
        return int(stop.get("lost", 0))


class Bpftrace:
    """The script above."""

    name = "bpftrace"

    def process(self, load_pid: int = 0) -> Process:
        counted = b" %d %d " % (load_pid, load_pid) if load_pid else b"\n"
        return Process(["bpftrace", "-e", SCRIPT], b"ready\n", counted, re.compile(rb"Lost (\d+) events\n"))

    def lost(self, ended: Process) -> int:
        return ended.lost


def tracers() -> list[Tracer]:
    """List the collector, then bpftrace where it is installed."""
    return [Watch(), *([Bpftrace()] if shutil.which("bpftrace") else [])]
