"""A disk that is full, and a reader of stdout that does not read."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..support.loads import Amount
from ..support.outcome import Outcome
from ..support.overflow import beside_a_witness, unread
from ..support.watch import Watch


@contextlib.contextmanager
def small_disk(where: Path, size: str = "64m") -> Iterator[Path]:
    """A file system that has room for very little."""
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def full(home: Path, amount: Amount, *options: str) -> Outcome:
    """The file's disk is full from the start of the load to its end: what finds no room in the queue is dropped."""
    with small_disk(home / "disk") as disk:
        path, ballast = disk / "events.json", disk / "ballast"

        @contextlib.contextmanager
        def fill(_: Watch) -> Iterator[None]:
            with contextlib.suppress(OSError):
                ballast.write_bytes(bytes(65 << 20))
            yield
            ballast.unlink()

        queue = ("--file", str(path), "--queue", "1000")
        outcome = beside_a_witness(home, fill, amount, *queue, *options)
        written = path.read_bytes().splitlines()
        seen = (home / "victim.json").read_bytes().splitlines()
    said = (home / "victim.err").read_text(encoding="utf-8")
    dropped = int((re.findall(r"file: (\d+) events were dropped\n", said) or ["0"])[-1])
    outcome.same("lines written and events dropped", len(written) + dropped, len(seen))
    rest = iter(seen)
    outcome.check(all(line in rest for line in written), "the file holds what was not seen, or in another order")
    outcome.check(dropped > 0, "nothing was dropped: nothing is shown by this")
    outcome.notes.append(
        f"of {len(seen):,} lines on stdout the file holds {len(written):,}, and {dropped:,} were dropped"
    )
    return outcome


def blocked(home: Path, seconds: float, amount: Amount, *options: str) -> Outcome:
    """Whoever reads stdout stands still for so long, or as long as the load takes."""
    return beside_a_witness(home, unread(seconds), amount, *options, pipe=True)
