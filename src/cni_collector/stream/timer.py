"""A timer that can be waited for together with other descriptors: timerfd(2), which Python has from 3.13 on."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

from ..kernel.libbpf import libc

_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC  # as TFD_NONBLOCK and TFD_CLOEXEC
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME


class _Setting(ctypes.Structure):
    """`struct itimerspec`: the interval, then the first time."""

    _fields_ = [("every", ctypes.c_long * 2), ("first", ctypes.c_long * 2)]


class Timer:
    """Polls as readable from a moment on, until it is set anew."""

    def __init__(self) -> None:
        self._fd = libc().timerfd_create(time.CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), f"cannot make a timer: {os.strerror(ctypes.get_errno())}")
        self._moment: float | None = None

    def fileno(self) -> int:
        return int(self._fd)

    def set(self, moment: float | None) -> None:
        """Sets the moment, in seconds of `time.monotonic()`; None: never."""
        if moment == self._moment:
            return
        nanoseconds = max(1, int(moment * 1e9)) if moment is not None else 0  # 0 is never
        setting = _Setting(first=(ctypes.c_long * 2)(*divmod(nanoseconds, 1_000_000_000)))
        if libc().timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), f"cannot set a timer: {os.strerror(ctypes.get_errno())}")
        self._moment = moment

    def close(self) -> None:
        os.close(self._fd)
