"""The few lines of C that the tests need as programs."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def compiled(source: str, *options: str) -> bytes:
    """The static program from a source file beside this one, compiled once a run."""
    with tempfile.TemporaryDirectory(prefix="compiled-") as temporary:
        program = Path(temporary, "program")
        options = ("-static", "-O1", "-Wall", "-Wextra", "-Werror", *options)
        subprocess.run(["gcc", *options, "-o", program, Path(__file__).with_name(source)], check=True, timeout=60)
        return program.read_bytes()


def install(program: bytes, path: Path) -> None:
    """Puts a program at a path."""
    path.write_bytes(program)
    path.chmod(0o755)
