"""Events in a file, as JSON lines, with rotation by size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import msgspec

from ..events import Event


class FileExporter:
    """Appends to a file. When it would grow too large it is renamed to `PATH.1`, the older ones to `PATH.2` and so on.

    A line is written whole or not at all, also where the disk is full: then it waits for room.

    Args:
        path: the file; what it holds is kept.
        max_bytes: size at which it is rotated; 0 never rotates.
        keep: how many older files are kept.

    Raises:
        OSError: it cannot be opened, or not be rotated.
    """

    def __init__(self, path: Path, max_bytes: int = 0, keep: int = 5) -> None:
        self.name = "file"
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._encoder = msgspec.json.Encoder()
        self._open()
        self._end_line()
        if max_bytes and not os.access(path.parent, os.W_OK | os.X_OK):
            os.close(self._fd)
            raise PermissionError(errno.EACCES, "the directory is not this user's to rename files in")

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _end_line(self) -> None:
        """A process that was killed, or a machine that lost its power, may have torn the last line."""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return
        try:
            with open(self._path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            self._size += os.write(self._fd, b"\n") if torn else 0
        except OSError:
            pass  # it is empty, cannot be read, or there is no room now

    def prepare(self, events: list[Event]) -> bytes:
        return self._encoder.encode_lines(events)

    def deliver(self, lines: bytes) -> None:
        if self._max_bytes and self._size and self._size + len(lines) > self._max_bytes:
            self._rotate()
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            os.ftruncate(self._fd, self._size)  # no torn line: what was written of the batch goes, too
            raise OSError(error.errno, f"cannot write to {self._path}: {error.strerror}") from error
        self._size += len(lines)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                os.replace(older, self._numbered(number))
        if not self._keep:
            self._path.unlink()
        old = self._fd
        self._open()  # where that fails, for want of room, the old file goes on being written
        os.close(old)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def close(self) -> None:
        os.close(self._fd)
