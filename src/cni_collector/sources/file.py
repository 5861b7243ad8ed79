"""Events of a file, a pipe or stdin, as they come."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from ..errors import CollectorError
from ..events import Event
from .lines import Lines

_CHUNK: Final = 1 << 16
"""Most bytes that are read at once."""


class FileSource:
    """Reads events, line by line.

    Args:
        path: the file; `-` is stdin.
        since: time from which on, as events have it; all, if None.
    """

    def __init__(self, path: str, since: str | None = None) -> None:
        self._path = path
        self._lines = Lines(since)
        self._stopped = False
        self._wake: int | None = None

    @property
    def unknown(self) -> Mapping[str, int]:
        return self._lines.unknown

    def stop(self) -> None:
        self._stopped = True
        if self._wake is not None:
            os.write(self._wake, b"!")

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists, each as soon as it is there.

        Raises:
            CollectorError: the file cannot be read, or holds lines that are no events: which is said at the end.
        """
        try:
            for chunk in self._chunks():
                if batch := self._lines.feed(chunk):
                    yield batch
        except OSError as error:
            raise CollectorError(f"cannot read {self._path}: {error.strerror}") from error
        if not self._stopped and (batch := self._lines.end()):
            yield batch
        if self._lines.bad:
            name = os.fsencode(self._path).decode(errors="replace")
            raise CollectorError(
                f"{self._lines.bad} lines of {name} are no events, and were left out{self._lines.reason}: "
                "give a file that `cni-collector watch -o json` has written"
            )

    def _chunks(self) -> Iterator[bytes]:
        """What the file holds, and what comes down a pipe, until its end or the stop."""
        with contextlib.ExitStack() as opened:
            woken, wake = os.pipe()
            opened.callback(os.close, woken)
            opened.callback(os.close, wake)
            opened.callback(setattr, self, "_wake", None)
            self._wake = wake
            poll = select.poll()
            fd = self._open(opened)
            poll.register(fd, select.POLLIN)
            poll.register(woken, select.POLLIN)
            while not self._stopped:
                poll.poll()
                chunk = b"" if self._stopped else os.read(fd, _CHUNK)
                if not chunk:
                    return
                yield chunk

    def _open(self, opened: contextlib.ExitStack) -> int:
        if self._path == "-":
            if sys.stdin is None:
                raise CollectorError("cannot read stdin: it is closed")
            return sys.stdin.fileno()
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe may have nobody who writes yet
        opened.callback(os.close, fd)
        return fd
