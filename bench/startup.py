"""How long it takes from exec until everything is attached, and what is installed for it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from pathlib import Path

import cni_collector

from .table import Figures, Row, row_of
from .tracers import OURS, Tracer


def rows(tracers: list[Tracer], repeats: int) -> list[Row]:
    """Measure the tracers in turns; each is gone, and has detached, before the next begins."""
    took: dict[str, list[float]] = {tracer.name: [] for tracer in tracers}
    for _ in range(repeats):
        for tracer in tracers:
            with tracer.process() as process:
                took[tracer.name].append(process.ready_ns / 1e6)
    sizes: dict[str, Figures | str] = {OURS: Figures([_ours() / 1e6], 1)}
    if program := shutil.which("bpftrace"):
        sizes["bpftrace"] = Figures([_with_libraries(Path(program)) / 1e6], 1)
    return [
        row_of("from exec to attached: wall ms", took, lambda ms: ms, 200, 0),
        Row("installed, with its libraries, without Python and libc: MB", sizes),
    ]


def _ours() -> int:
    """The package, what it needs of PyPI, and libbpf with what that needs."""
    size = sum(file.stat().st_size for file in Path(cni_collector.__file__).parent.rglob("*") if file.is_file())
    for name in ("msgspec", "click"):
        files = importlib.metadata.files(name) or []
        size += sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).exists())
    libbpf = re.search(r"libbpf\.so\.1 .*=> (.*)", subprocess.check_output(["/sbin/ldconfig", "-p"], text=True))
    assert libbpf
    return size + _with_libraries(Path(libbpf[1]))


def _with_libraries(program: Path) -> int:
    """A program or library, and those it is linked to, but for libc's."""
    told = subprocess.check_output(["ldd", program], text=True)
    libraries = [Path(path) for path in re.findall(r"=> (/\S+)", told)]
    parts = {program.resolve(), *(path.resolve() for path in libraries)}
    return sum(path.stat().st_size for path in parts if not re.match(r"lib(c|m|pthread|dl|rt)[.-]", path.name))
