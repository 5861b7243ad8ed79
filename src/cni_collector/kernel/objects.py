"""A compiled BPF object: its programs and maps, chosen, loaded, attached and reached."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Final

from ..errors import (
    AttachError,
    CollectorError,
    LayoutError,
    LoadError,
    LockdownError,
    PrivilegeError,
    UnsupportedError,
)
from .libbpf import Log, libbpf, strerror
from .symbols import local_name, variant

_RECURSION_MISSES: Final = 208
"""Where `recursion_misses` stands in `struct bpf_prog_info` of linux/bpf.h, since 5.12."""


class _TracepointOptions(ctypes.Structure):
    """`struct bpf_tracepoint_opts` of libbpf.h."""

    _fields_ = [("size", ctypes.c_size_t), ("cookie", ctypes.c_uint64)]


class _IterOptions(ctypes.Structure):
    """`struct bpf_iter_attach_opts` of libbpf.h; what it points to is `union bpf_iter_link_info` of bpf.h."""

    _fields_ = [("size", ctypes.c_size_t), ("link_info", ctypes.c_void_p), ("link_info_size", ctypes.c_uint32)]


class _TestRun(ctypes.Structure):
    """`struct bpf_test_run_opts` of bpf.h."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


_BPF_NOEXIST: Final = 1
"""Of `bpf_map_update_elem()`: only what is not there yet."""
_CAPABILITIES: Final = {"CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


def missing_capabilities() -> list[str]:
    """The capabilities that loading needs and this process lacks (capabilities(7), `CapEff`)."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    held = {name for name, bit in _CAPABILITIES.items() if effective >> bit & 1}
    return [] if "CAP_SYS_ADMIN" in held else [n for n in ("CAP_BPF", "CAP_PERFMON") if n not in held]


_PARANOID: Final = "/proc/sys/kernel/perf_event_paranoid"


def _perf_is_restricted() -> bool:
    """Whether CAP_PERFMON is not enough for perf events: Debian's and Ubuntu's kernels know a level above 2."""
    with open(_PARANOID, encoding="ascii") as level:
        return int(level.read()) > 2


class Link:
    """One program that is attached. Closing it detaches."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            libbpf().bpf_link__destroy(handle)


class Program:
    """One program of a loaded object."""

    def __init__(self, name: str, handle: int) -> None:
        self.name = name
        self._handle = handle

    @property
    def target(self) -> str:
        """Where the program belongs on this machine: `tp_btf/sched_process_fork`, `fentry/__arm64_sys_setns`."""
        return local_name(self._section)

    @property
    def _section(self) -> str:
        section: bytes = libbpf().bpf_program__section_name(self._handle)
        return section.decode().lstrip("?")

    def aim(self) -> None:
        """Tells libbpf, before loading, the function's name on this machine, where the object has another.

        Raises:
            LoadError: the kernel has no such function.
        """
        kind, _, function = self.target.partition("/")
        if kind in ("fentry", "fexit") and self.target != self._section:
            with Log() as log:
                failed = libbpf().bpf_program__set_attach_target(self._handle, 0, function.encode())
            if failed:
                raise LoadError(f"cannot find {function} among this kernel's functions", log.text())

    def attach(self, tracepoint: str | None = None, cookie: int = 0) -> Link:
        """Attaches the program to its target.

        Args:
            tracepoint: of a system call (`sys_enter_setns`), for a program that stands at several.
            cookie: what bpf_get_attach_cookie() gives the program there.

        Raises:
            AttachError: the kernel has no such target, or refuses.
        """
        if tracepoint:
            options = _TracepointOptions(ctypes.sizeof(_TracepointOptions), cookie)
            return self._link(
                f"tp/syscalls/{tracepoint}",
                lambda: libbpf().bpf_program__attach_tracepoint_opts(
                    self._handle, b"syscalls", tracepoint.encode(), ctypes.byref(options)
                ),
            )
        kind, _, function = self.target.partition("/")
        if kind not in ("kprobe", "kretprobe"):
            return self._link(self.target, lambda: libbpf().bpf_program__attach(self._handle))
        try:
            return self._attach_kprobe(kind, function)
        except AttachError as error:
            other = variant(function)
            if not other:
                raise
            if kind == "kretprobe":
                return self._attach_kprobe(kind, other)
            reason = f"{error}; there is {other}, but its arguments may be others"
            raise AttachError(reason, error.program, error.target, error.errno) from None

    def _attach_kprobe(self, kind: str, function: str) -> Link:
        name = function.encode()
        return self._link(
            f"{kind}/{function}",
            lambda: libbpf().bpf_program__attach_kprobe(self._handle, kind == "kretprobe", name),
        )

    def _link(self, target: str, attach: Callable[[], int | None]) -> Link:
        with Log():  # says in other words what the number says
            handle = attach()
            number = ctypes.get_errno()
        if not handle:
            reason = strerror(number)
            if number == errno.EACCES and _perf_is_restricted():
                reason += (
                    f" ({_PARANOID} is above 2, as Debian has it: give the process CAP_SYS_ADMIN, or set that to 2)"
                )
            raise AttachError(f"cannot attach {self.name} to {target}: {reason}", self.name, target, number)
        return Link(handle)

    def run(self, argument: int = 0) -> int:
        """Runs the program once, here and now, and returns its result.

        Args:
            argument: what the program finds in `args[0]`.

        Raises:
            LoadError: the kernel cannot run programs of this kind on request.
        """
        context = ctypes.c_uint64(argument)
        options = _TestRun(
            size=ctypes.sizeof(_TestRun), ctx_in=ctypes.addressof(context), ctx_size_in=ctypes.sizeof(context)
        )
        failed = libbpf().bpf_prog_test_run_opts(libbpf().bpf_program__fd(self._handle), ctypes.byref(options))
        if failed:
            raise LoadError(f"cannot run {self.name}: {strerror(-failed)}")
        return int(options.result)

    def skipped(self) -> int:
        """How often the kernel skipped the program since it was loaded, because it was at work on that CPU already.

        Raises:
            CollectorError: the kernel does not say. That is not the same as never.
        """
        info = ctypes.create_string_buffer(_RECURSION_MISSES + 8)
        size = ctypes.c_uint32(len(info))
        fd = libbpf().bpf_program__fd(self._handle)
        if not libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size)):
            return int.from_bytes(info.raw[_RECURSION_MISSES:], sys.byteorder)
        # Up to 5.18, who has given up the capabilities may not ask, where unprivileged BPF is off (bpf(2)).
        with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name == "recursion_misses":
                    return int(value)
        raise CollectorError(f"cannot ask how often the kernel skipped {self.name}")

    def iterate(self, over: Map | None = None) -> bytes:
        """Runs an iterator program to its end and returns all that it wrote.

        Args:
            over: the map whose entries a program `iter/bpf_map_elem` looks at.

        Raises:
            AttachError: the kernel has no such iterator, refuses, or fails.
        """
        library = libbpf()
        options = None
        if over:
            target = ctypes.c_uint32(over.fd)  # `map.map_fd`
            size = ctypes.sizeof(_IterOptions)
            options = ctypes.byref(_IterOptions(size, ctypes.addressof(target), ctypes.sizeof(target)))
        links: list[int | None] = []
        fds: list[int] = []
        # Owned as soon as they are there: `list += map` keeps what a function returns before a signal handler can run.
        try:
            with Log():  # says in other words what the number says
                links += map(library.bpf_program__attach_iter, (self._handle,), (options,))
                if not links[0]:
                    raise self._no_iterator(ctypes.get_errno())
                fds += map(library.bpf_iter_create, (library.bpf_link__fd(links[0]),))
            if fds[0] < 0:
                raise self._no_iterator(-fds[0])
            return b"".join(iter(lambda: os.read(fds[0], 1 << 18), b""))
        except OSError as error:
            raise self._no_iterator(error.errno or errno.EIO) from error
        finally:
            try:
                if fds and fds[0] >= 0:
                    os.close(fds[0])
            finally:
                if links and links[0]:
                    library.bpf_link__destroy(links[0])

    def _no_iterator(self, number: int) -> AttachError:
        return AttachError(f"cannot iterate with {self.name}: {strerror(number)}", self.name, self.target, number)


class Map:
    """One map of an object."""

    def __init__(self, name: str, handle: int) -> None:
        self.name = name
        self._handle = handle

    @property
    def fd(self) -> int:
        """The map's descriptor, owned by the object."""
        return int(libbpf().bpf_map__fd(self._handle))

    @property
    def max_entries(self) -> int:
        """Entries, or bytes for a ring buffer; settable until the object is loaded."""
        return int(libbpf().bpf_map__max_entries(self._handle))

    @max_entries.setter
    def max_entries(self, entries: int) -> None:
        failed = libbpf().bpf_map__set_max_entries(self._handle, entries)
        if failed:
            raise LoadError(f"cannot give map {self.name} {entries} entries: {strerror(-failed)}")

    def check_value(self, size: int) -> None:
        """Raises LayoutError unless the map's values have `size` bytes."""
        actual = libbpf().bpf_map__value_size(self._handle)
        if actual != size:
            raise LayoutError(
                f"map {self.name} has values of {actual} bytes where {size} are expected: "
                "the compiled object and this package are of different versions; reinstall the package"
            )

    def set_initial(self, value: bytes) -> None:
        """Gives a data section (`.rodata`) its value, before loading."""
        self.check_value(len(value))
        failed = libbpf().bpf_map__set_initial_value(self._handle, value, len(value))
        if failed:
            raise LoadError(f"cannot set {self.name}: {strerror(-failed)}")

    def items(self, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
        """All entries, as raw bytes. Entries that come or go meanwhile may or may not be there."""
        self.check_value(value_size)
        library, fd = libbpf(), self.fd
        key, value = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(value_size)
        previous = None
        while not library.bpf_map_get_next_key(fd, previous, key):
            if not library.bpf_map_lookup_elem(fd, key, value):
                yield key.raw, value.raw
            previous = key

    def has(self, key: bytes, value_size: int) -> bool:
        """Whether there is an entry."""
        value = ctypes.create_string_buffer(value_size)
        return not libbpf().bpf_map_lookup_elem(self.fd, key, value)

    def add(self, key: bytes, value: bytes) -> bool:
        """Adds an entry; False where there is one already, or no room. Programs that add the same are told so, too."""
        return not libbpf().bpf_map_update_elem(self.fd, key, value, _BPF_NOEXIST)

    def remove(self, key: bytes) -> bool:
        """Removes an entry; False where there is none: of several who remove it, one is told that it did."""
        return not libbpf().bpf_map_delete_elem(self.fd, key)


class Object:
    """A compiled object: opened, its programs chosen, then loaded. Closing it unloads everything.

    Args:
        code: the ELF file's bytes.
        programs: names of those to load; the others stay out of the kernel.

    Raises:
        UnsupportedError: no usable libbpf, or a kernel without BTF.
        LayoutError: a program is not in the object.
    """

    def __init__(self, code: bytes, programs: list[str]) -> None:
        library = libbpf()
        self._handle: int | None = None
        if not os.path.exists("/sys/kernel/btf/vmlinux"):
            raise UnsupportedError(
                "cannot load BPF programs: this kernel describes no types (/sys/kernel/btf/vmlinux is missing); "
                "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels are"
            )
        with Log() as log:
            self._handle = library.bpf_object__open_mem(code, len(code), None)
        if not self._handle:
            raise LoadError("cannot open the BPF object: libbpf does not understand it", log.text())
        self._programs = {name: self._find_program(name) for name in programs}
        for program in self._programs.values():
            library.bpf_program__set_autoload(program._handle, True)
            try:
                program.aim()
            except LoadError:
                self.close()
                raise

    def _find_program(self, name: str) -> Program:
        handle = libbpf().bpf_object__find_program_by_name(self._handle, name.encode())
        if not handle:
            raise LayoutError(f"the BPF object has no program {name}: reinstall the package")
        return Program(name, handle)

    def load(self) -> None:
        """Creates the maps and loads the chosen programs.

        Raises:
            PrivilegeError: the process may not.
            LoadError: the kernel refuses; `log` says which program and why.
        """
        with Log() as log:
            failed = libbpf().bpf_object__load(self._handle)
        if not failed:
            return
        if -failed in (errno.EPERM, errno.EACCES) and (missing := missing_capabilities()):
            raise PrivilegeError(
                f"cannot load BPF programs without {' and '.join(missing)}: run as root, "
                "or give the process these capabilities"
            )
        # What the verifier says of a helper that security_locked_down() withholds.
        if re.search("(cannot use helper|unknown func) bpf_probe_read", log.text()):
            raise LockdownError(
                "cannot look into this kernel: it is locked down for confidentiality, so BPF may not read its memory, "
                "whoever asks; boot it with lockdown=integrity, or without"
            )
        names = ", ".join(self._programs)
        raise LoadError(f"the kernel refused to load {names}: {strerror(-failed)}", log.text())

    def program(self, name: str) -> Program:
        """One of the chosen programs."""
        return self._programs[name]

    def map(self, name: str) -> Map:
        """A map by its name; data sections are `.rodata`, `.bss` and `.data.state`.

        Raises:
            LayoutError: the object has none of that name.
        """
        handle = libbpf().bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            raise LayoutError(f"the BPF object has no map {name}: reinstall the package")
        return Map(name, handle)

    def close(self) -> None:
        """Unloads programs and maps. Safe to call twice."""
        handle, self._handle = self._handle, None
        if handle:
            libbpf().bpf_object__close(handle)
