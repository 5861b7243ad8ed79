"""What bystanders pay, in instructions: loops in an emulated machine where a nanosecond passes with each instruction.

    python -m bench.instructions [KERNEL...]

boots Debian's kernels (see tests/machines), with the collector attached in each tier and without, and prints how much
longer other programs' loops take. In the machine the same file is run with `--inside`.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .table import aligned

LOOPS: Final = {"getppid": 200_000, "fork + exit": 200, "vfork + exec": 200, "unshare + exit": 100}
"""How often each loop goes round."""
LIMITS: Final = {"getppid": 1.005, "fork + exit": 1.03, "vfork + exec": 1.03, "unshare + exit": 1.02}
"""What the fentry and kprobe tiers promise to stay below."""
PROGRAM: Final = Path("/tmp/loops")  # in the machine, where /tmp is its own
ROUNDS: Final = 3
"""How often the collector is attached in each tier, between measurements without it."""
REPEATS: Final = 15
"""Of all loops in each round. The kernel's own work differs, most of all where namespaces come and go."""

SETTLE: Final = 3.0
"""Seconds for the kernel to tear down what the last loops have left. In the machine they pass at once if it is idle."""

Times = dict[str, dict[str, list[int]]]
"""CPU time in microseconds of each round, by tier and loop; the tier "" is the loop alone."""


def _measure(kernel: str) -> Times:
    command = [
        *(sys.executable, "-m", "tests.machines", "run", kernel, "amd64", "--icount", "--timeout", "3000"),
        *("--", "python", "-m", "bench.instructions", "--inside"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    times: Times = json.loads(done.stdout)
    return times


def _inside() -> None:
    """In the machine: all loops, alone and beside each tier, in turn."""
    source = Path(__file__).with_name("loops.c")
    compiler = ["clang-14", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]
    subprocess.run([*compiler, "-o", PROGRAM, source], check=True)
    tiers = ["fentry", "kprobe", "tracepoint"]
    times: Times = {tier: {loop: [] for loop in LOOPS} for tier in ["", *tiers]}
    _run_loops()  # the first time fills caches
    for _ in range(ROUNDS):
        for tier in tiers:
            _note(times[""])
            with _watching(tier):
                _note(times[tier])
    json.dump(times, sys.stdout)


@contextlib.contextmanager
def _watching(tier: str) -> Iterator[None]:
    """The collector, attached. Without a time limit: while the machine waits for its files, its clock leaps."""
    command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json", "--tier", tier]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watch:
        assert watch.stdout
        watch.stdout.readline()
        yield
        watch.terminate()
        watch.stdout.read()


def _note(times: dict[str, list[int]]) -> None:
    for _ in range(REPEATS):
        for loop, spent in _run_loops().items():
            times[loop].append(spent)


def _run_loops() -> dict[str, int]:
    time.sleep(SETTLE)
    return {
        loop: int(subprocess.run([PROGRAM, loop[0], str(count)], stdout=subprocess.PIPE, check=True).stdout)
        for loop, count in LOOPS.items()
    }


def main(kernels: list[str]) -> None:
    """Prints a table, and ends with 1 where a tier costs more than is promised."""
    lines = [["Linux", "loop", "instructions", "fentry", "kprobe", "tracepoint", "limit of the first two"]]
    kept = True
    for kernel in kernels:
        times = _measure(kernel)
        for loop, count in LOOPS.items():
            alone = statistics.median(times[""][loop])
            row = [kernel, loop, f"{alone * 1000 / count:,.0f}"]
            for tier in times:
                if tier:
                    ratio = statistics.median(times[tier][loop]) / alone
                    row.append(f"x{ratio:.4f}")
                    kept = kept and (tier == "tracepoint" or ratio <= LIMITS[loop])
            lines.append([*row, f"x{LIMITS[loop]}"])
    print(aligned(lines))
    sys.exit(not kept)


if __name__ == "__main__":
    if sys.argv[1:] == ["--inside"]:
        _inside()
    else:
        main(sys.argv[1:] or ["6.1", "6.12"])
