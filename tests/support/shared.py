"""Directories that programs of several tests make and take away: they stay while any test runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .plugins import RESULTS


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Libcni's cache: who has made it removes it when it is empty, which another may be about to change."""
    made = [place for place in (RESULTS, RESULTS.parent) if not place.exists()]
    RESULTS.mkdir(mode=0o700, parents=True, exist_ok=True)  # as libcni makes it
    ours = RESULTS / f"cni-tests-{os.getpid()}"
    ours.touch()
    try:
        yield
    finally:
        ours.unlink(missing_ok=True)
        for place in made:
            with contextlib.suppress(OSError):  # somebody else keeps something there by now
                place.rmdir()
