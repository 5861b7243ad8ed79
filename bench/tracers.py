"""Who is measured: `cni-collector watch`, a script for bpftrace that prints the same fields, and a naive C program."""

from __future__ import annotations

import atexit
import functools
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from .process import Process

SCRIPT: Final = r"""
BEGIN { printf("ready\n"); }
tracepoint:syscalls:sys_enter_setns,
tracepoint:syscalls:sys_enter_unshare { @before[tid] = curtask->nsproxy->net_ns->ns.inum; }
tracepoint:syscalls:sys_exit_setns /@before[tid]/ {
    printf("%llu %d %d %s %d %u setns %u %d\n",
        nsecs, pid, tid, comm, uid, @before[tid], curtask->nsproxy->net_ns->ns.inum, args->ret);
    delete(@before[tid]);
}
tracepoint:syscalls:sys_exit_unshare /@before[tid]/ {
    printf("%llu %d %d %s %d %u unshare %u %d\n",
        nsecs, pid, tid, comm, uid, @before[tid], curtask->nsproxy->net_ns->ns.inum, args->ret);
    delete(@before[tid]);
}
"""
OURS: Final = "cni-collector"
ROOT: Final = Path(__file__).parents[1]
NAIVE: Final = Path(__file__).with_name("naive")


class Tracer(Protocol):
    """One that can be started, and says what it has lost."""

    name: str

    def process(self, load_pid: int = 0) -> Process:
        """Make the process to run; it counts the lines about the process `load_pid`, or all lines."""

    def lost(self, ended: Process) -> int:
        """Tell how many events were not delivered, by its own account."""


class Watch:
    """`cni-collector watch -o json`, of an installation that has nothing else, as pip makes it."""

    def __init__(self, name: str = OURS, options: Sequence[str] = ()) -> None:
        self.name = name
        self._options = options

    def process(self, load_pid: int = 0) -> Process:
        command = [str(_install()), "watch", "-o", "json", *self._options]
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
        return Process(["bpftrace", "-e", SCRIPT], b"ready\n", _counted(load_pid), re.compile(rb"Lost (\d+) events\n"))

    def lost(self, ended: Process) -> int:
        return ended.lost


class Naive:
    """A program in the folder of that name, which reports calls as they are made and wakes up for each.

    Args:
        name: what it is called.
        source: its kernel side.
    """

    def __init__(self, name: str = "naive C", source: str = "naive.bpf.c") -> None:
        self.name = name
        self._source = source

    def process(self, load_pid: int = 0) -> Process:
        command = [*map(str, _compile(self._source))]
        return Process(command, b"ready\n", _counted(load_pid), re.compile(rb"^lost (\d+)\n", re.M))

    def lost(self, ended: Process) -> int:
        return ended.lost


@functools.cache
def _install() -> Path:
    """The command, installed anew in each run: what developers have beside it, Python would import, too."""
    home = Path(tempfile.mkdtemp(prefix="installed-"))
    atexit.register(shutil.rmtree, home)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([home / "bin/python", *pip, ROOT], check=True)
    return home / "bin/cni-collector"


def _counted(load_pid: int) -> bytes:
    return b" %d %d " % (load_pid, load_pid) if load_pid else b"\n"


@functools.cache
def _compile(source: str) -> tuple[Path, Path]:
    """The program and its object, made anew in each run."""
    home = Path(tempfile.mkdtemp(prefix="naive-"))
    atexit.register(shutil.rmtree, home)
    program, loaded = home / "reader", home / "loaded.bpf.o"
    headers = f"-I/usr/include/{platform.machine()}-linux-gnu"
    bpf = ["clang-14", "-O2", "-g", "-target", "bpf", headers, "-c", str(NAIVE / source), "-o", str(loaded)]
    subprocess.run(bpf, check=True)
    subprocess.run(["gcc", "-O2", "-o", program, NAIVE / "reader.c", "-lbpf"], check=True)
    return program, loaded


def _compilers() -> bool:
    return bool(shutil.which("clang-14") and shutil.which("gcc"))


def tracers() -> list[Tracer]:
    """The collector, then who is there of the others."""
    return [Watch(), *([Bpftrace()] if shutil.which("bpftrace") else []), *([Naive()] if _compilers() else [])]


def floor() -> list[Tracer]:
    """Who does nothing but be called."""
    return [Naive("empty programs", "empty.bpf.c")] if _compilers() else []
