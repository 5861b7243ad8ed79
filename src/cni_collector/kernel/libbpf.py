"""The binding of libbpf, by ctypes: its functions, what it prints, and what its error numbers mean.

Only functions of libbpf 1.0 are used. libbpf is looked up when it is needed first, never at import.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from typing import Any, Final

from ..errors import UnsupportedError

_pointer, _text, _int, _size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_u32, _bool = ctypes.c_uint32, ctypes.c_bool
_PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {  # name: result, then arguments
    "libbpf_set_print": (_pointer, _pointer),
    "libbpf_num_possible_cpus": (_int,),
    "bpf_object__open_mem": (_pointer, _text, _size, _pointer),
    "bpf_object__load": (_int, _pointer),
    "bpf_object__close": (None, _pointer),
    "bpf_object__find_program_by_name": (_pointer, _pointer, _text),
    "bpf_object__find_map_by_name": (_pointer, _pointer, _text),
    "bpf_program__set_autoload": (_int, _pointer, _bool),
    "bpf_program__section_name": (_text, _pointer),
    "bpf_program__set_attach_target": (_int, _pointer, _int, _text),
    "bpf_program__fd": (_int, _pointer),
    "bpf_program__attach": (_pointer, _pointer),
    "bpf_program__attach_kprobe": (_pointer, _pointer, _bool, _text),
    "bpf_program__attach_tracepoint_opts": (_pointer, _pointer, _text, _text, _pointer),
    "bpf_program__attach_iter": (_pointer, _pointer, _pointer),
    "bpf_prog_test_run_opts": (_int, _int, _pointer),
    "bpf_obj_get_info_by_fd": (_int, _int, _pointer, _pointer),
    "bpf_link__fd": (_int, _pointer),
    "bpf_link__destroy": (_int, _pointer),
    "bpf_iter_create": (_int, _int),
    "bpf_map__fd": (_int, _pointer),
    "bpf_map__max_entries": (_u32, _pointer),
    "bpf_map__set_max_entries": (_int, _pointer, _u32),
    "bpf_map__value_size": (_u32, _pointer),
    "bpf_map__set_initial_value": (_int, _pointer, _pointer, _size),
    "bpf_map_get_next_key": (_int, _int, _pointer, _pointer),
    "bpf_map_lookup_elem": (_int, _int, _pointer, _pointer),
    "bpf_map_update_elem": (_int, _int, _pointer, _pointer, ctypes.c_uint64),
    "bpf_map_delete_elem": (_int, _int, _pointer),
}


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library, which keeps its errno for `ctypes.get_errno()`. Looked up when it is needed first, too."""
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def libbpf() -> Any:
    """The system's libbpf, with the prototypes of what is used here.

    Raises:
        UnsupportedError: no Linux, no libbpf, or one older than 1.0.
    """
    if sys.platform != "linux":
        raise UnsupportedError(f"cannot collect on {sys.platform}: network namespaces and eBPF are Linux's")
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
        for name, (result, *arguments) in _PROTOTYPES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnsupportedError(
            f"cannot load libbpf 1.0 or newer ({error}): install it "
            "(Debian, Ubuntu: apt install libbpf1; Fedora: dnf install libbpf)"
        ) from None
    library.libbpf_set_print(ctypes.cast(_PRINT, _pointer))
    return library


class Log:
    """Collects what libbpf warns of in this thread, while it is entered.

    Attributes:
        lines: the warnings, each with its end of line.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> Log:
        self._previous = _current.log
        _current.log = self
        return self

    def __exit__(self, *_: object) -> None:
        _current.log = self._previous

    def text(self) -> str:
        return "".join(self.lines)


class _Current(threading.local):
    """Which `Log` this thread's warnings go to; None: to stderr."""

    log: Log | None = None


_current = _Current()


def _print(level: int, form: bytes, arguments: int) -> int:
    """Takes what libbpf prints, in the thread that it prints in.

    The callback is the whole process's, so it is set once and never replaced or freed: another thread may be in it.
    """
    if level == 0:  # LIBBPF_WARN
        buffer = ctypes.create_string_buffer(1 << 16)
        libc().vsnprintf(buffer, _size(len(buffer)), _text(form), _pointer(arguments))
        line = buffer.value.decode("utf-8", "replace")
        if _current.log:
            _current.log.lines.append(line)
        else:
            sys.stderr.write(line)
    return 0


_PRINT: Final = ctypes.CFUNCTYPE(_int, _int, _text, _pointer)(_print)


def strerror(number: int) -> str:
    """What an errno means; also the one that is the kernel's own (include/linux/errno.h)."""
    return "not supported on this machine (ENOTSUPP)" if number == 524 else os.strerror(number)


def possible_cpus() -> int:
    """How many CPUs this machine can ever have: the number of slots in per-CPU counters."""
    return int(libbpf().libbpf_num_possible_cpus())


def give_back() -> None:
    """Returns to the system what libbpf has freed, the types of the whole kernel: glibc would keep these 11 MB."""
    with contextlib.suppress(AttributeError):  # there is a libc without it
        libc().malloc_trim(0)
