"""What everybody else pays: programs that have nothing to do with namespaces, beside a tracer and alone.

In CPU time of these programs, which is what the tracer's hooks add to. It swings by some percent on a virtual machine;
`make bench-bystanders` counts instructions.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .table import Figures, Row
from .tracers import Tracer

LOOPS: Final = {"getppid": ("g", 2_000_000), "fork + exit": ("f", 1_500), "vfork + exec": ("v", 1_500)}
"""Kinds of `loops.c`, and how often each goes round."""
BLOCKS: Final = 400_000
"""Of 4 KiB, that dd copies."""
CONTAINERS: Final = 5

Work = Callable[[], float]
"""Does something, and tells the CPU seconds that it took."""


def rows(tracers: list[Tracer], repeats: int) -> list[Row]:
    """Measure untraced and traced in turns."""
    if platform.machine() != "x86_64":
        raise RuntimeError("the loops are written for x86-64")
    with tempfile.TemporaryDirectory(prefix="bystanders-") as directory, _works(Path(directory)) as works:
        alone: dict[str, list[float]] = {what: [] for what in works}
        beside: dict[str, dict[str, list[float]]] = {what: {one.name: [] for one in tracers} for what in works}
        for _ in range(repeats):
            for what, work in works.items():
                alone[what].append(work())
            for tracer in tracers:
                with tracer.process():
                    for what, work in works.items():
                        beside[what][tracer.name].append(work())
    return [
        Row(
            f"{what}, attached / not: CPU time",
            {
                name: Figures([traced / plain for traced, plain in zip(times, alone[what], strict=True)])
                for name, times in beside[what].items()
            },
        )
        for what in works
    ]


@contextmanager
def _works(home: Path) -> Iterator[dict[str, Work]]:
    program = home / "loops"
    source = Path(__file__).with_name("loops.c")
    flags = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)

    def loop(kind: str, count: int) -> float:
        return int(subprocess.check_output([program, kind, str(count)])) / 1e6

    def dd() -> float:
        return _cpu_of(["dd", "if=/dev/zero", "of=/dev/null", "bs=4k", f"count={BLOCKS}", "status=none"])

    def container() -> float:
        return sum(_cpu_of(_runc(home, f"bench-{os.getpid()}-{number}")) for number in range(CONTAINERS))

    works: dict[str, Work] = {what: lambda loop_=arguments: loop(*loop_) for what, arguments in LOOPS.items()}  # type: ignore[misc]
    works["dd of 4 KB blocks"] = dd
    if shutil.which("runc") and Path("/bin/busybox").exists():
        _bundle(home)
        works["a container's life by runc"] = container
    yield works


def _cpu_of(command: list[str]) -> float:
    """CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _bundle(home: Path) -> None:
    """A container of busybox that ends at once."""
    (home / "rootfs/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", home / "rootfs/bin/true")
    subprocess.run(["runc", "spec"], cwd=home, check=True)
    config = json.loads((home / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["process"].pop("rlimits", None)  # raising them is not everybody's right
    (home / "config.json").write_text(json.dumps(config))


def _runc(home: Path, name: str) -> list[str]:
    return ["runc", "--root", str(home / "runc"), "run", "--bundle", str(home), name]
