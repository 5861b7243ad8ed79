"""System calls that Python has no names for, and child processes that make them while the tests watch."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Self

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71
CAP_SYS_ADMIN = 21
NOBODY = 65534

_SYS_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
_SYS_CLONE3 = 435

# PyDLL keeps the interpreter's lock: a child born while another thread holds it would wait for it forever.
_libc = ctypes.PyDLL(None, use_errno=True)


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags: int) -> None:
    _call(_libc.unshare(flags))


def setns(fd: int, nstype: int) -> None:
    _call(_libc.setns(fd, nstype))


def clone(flags: int) -> int:
    """Like fork() with these flags: 0 in the child."""
    return _call(_libc.syscall(_SYS_CLONE, ctypes.c_ulong(flags | signal.SIGCHLD), 0, 0, 0, 0))


def clone3(flags: int, *set_tid: int) -> int:
    """Like fork() with these flags: 0 in the child, which gets the pid that is asked for."""
    wanted = (ctypes.c_int * len(set_tid))(*set_tid)
    address = ctypes.addressof(wanted) if set_tid else 0
    arguments = (ctypes.c_uint64 * 10)(flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, address, len(set_tid))
    return _call(_libc.syscall(_SYS_CLONE3, arguments, ctypes.sizeof(arguments)))


def _call_32(number: int, first: int, second: int) -> int:
    """A system call by the 32-bit way into the kernel: the result, a negative errno where it fails."""
    code = bytes.fromhex("53 89 fb 89 f1 b8") + number.to_bytes(4, "little") + bytes.fromhex("cd 80 5b c3")
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)  # mov %edi,%ebx; mov %esi,%ecx; mov $number,%eax; int $0x80
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return int(ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)(first, second))


def setns_32(fd: int, nstype: int) -> int:
    """As a 32-bit program calls it (x86-64 only): the result, a negative errno where it fails."""
    return _call_32(346, fd, nstype)


def unshare_32(flags: int) -> int:
    """As a 32-bit program calls it (x86-64 only): the result, a negative errno where it fails."""
    return _call_32(310, flags, 0)


def bind_mount(source: str, target: str) -> None:
    _call(_libc.mount(os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(0x1000), None))


def bind_all(source: str, target: str) -> None:
    """With all that is mounted below."""
    _call(_libc.mount(os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(0x5000), None))


def unmount(target: str) -> None:
    _call(_libc.umount2(os.fsencode(target), 0))


def drop_capability(number: int) -> None:
    """No program that the calling process executes holds this capability, whoever it is (PR_CAPBSET_DROP)."""
    _call(_libc.prctl(24, number, 0, 0, 0))


def become_root_of_a_user_namespace() -> None:
    """As `unshare -Ur` does: what the calling process executes holds every capability there, and none outside."""
    uid = os.geteuid()
    unshare(CLONE_NEWUSER)
    with open("/proc/self/uid_map", "wb", buffering=0) as uid_map:
        uid_map.write(b"0 %d 1" % uid)


def mount_tmpfs(target: str) -> None:
    _call(_libc.mount(b"none", os.fsencode(target), b"tmpfs", 0, None))


def mount_proc(target: str) -> None:
    _call(_libc.mount(b"none", os.fsencode(target), b"proc", 0, None))


def private_mounts() -> None:
    """The calling process gets mounts of its own: what it mounts from now on is for nobody else."""
    unshare(CLONE_NEWNS)
    _call(_libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None))  # MS_REC | MS_PRIVATE


def cookie() -> int:
    """The cookie of the calling thread's network namespace, from the kernel."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")


def inum() -> int:
    """The inode number of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def refused(attempt: Callable[[], object]) -> int:
    """The errno that an attempt fails with; 0 where it does not fail."""
    try:
        attempt()
    except OSError as error:
        return error.errno or 0
    return 0


class Puppet:
    """A child process that runs a function. The two can talk, and the function's result is handed back.

    Args:
        play: runs in the child; called with the puppet, whose `say` and `hear` are then the child's ends.
    """

    def __init__(self, play: Callable[[Puppet], Any]) -> None:
        to_child, from_parent = os.pipe()
        to_parent, from_child = os.pipe()
        self._reaped = False
        self.pid = os.fork()
        if self.pid:
            os.close(to_child)
            os.close(from_child)
            self._in, self._out = os.fdopen(to_parent), os.fdopen(from_parent, "w")
            return
        status = 1
        try:
            os.close(from_parent)
            os.close(to_parent)
            self._in, self._out = os.fdopen(to_child), os.fdopen(from_child, "w")
            self.say(play(self))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def say(self, what: object) -> None:
        """Sends one JSON value to the other side."""
        print(json.dumps(what), file=self._out, flush=True)

    def hear(self) -> Any:
        """Waits for a value from the other side."""
        line = self._in.readline()
        assert line, "the other side is gone"
        return json.loads(line)

    def spoken_to(self) -> bool:
        """Whether the other side has said something that was not heard yet, or is gone. Does not wait."""
        return bool(select.select([self._in], [], [], 0)[0])

    def end(self) -> Any:
        """Lets the child go on for the last time, if it waits; reaps it, and returns what it returned."""
        with contextlib.suppress(BrokenPipeError):
            self.say(None)
        try:
            value = self.hear()
        finally:
            status = self._reap()
        assert status == 0
        return value

    def kill(self) -> None:
        """Ends the child, unless it has ended."""
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _reap(self) -> int:
        self._in.close()
        with contextlib.suppress(BrokenPipeError):
            self._out.close()
        self._reaped = True
        return os.waitpid(self.pid, 0)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def act(play: Callable[[], Any]) -> tuple[int, Any]:
    """Runs a function in a child process of its own: the child's pid, and what the function returned."""
    child = Puppet(lambda _: play())
    return child.pid, child.end()


@contextlib.contextmanager
def a_netns() -> Iterator[tuple[Puppet, int]]:
    """A process that sits in a namespace of its own: the process, and the namespace's cookie."""

    def sit(self: Puppet) -> None:
        unshare(CLONE_NEWNET)
        self.say(cookie())
        self.hear()

    with Puppet(sit) as holder:
        yield holder, holder.hear()


def storm(fd: int, pairs: int) -> None:
    """Enters the namespace behind a descriptor, and leaves it, so many times."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    for _ in range(pairs):
        setns(fd, CLONE_NEWNET)
        setns(home, CLONE_NEWNET)


def a_life() -> int:
    """A namespace's whole life, but for its tear-down: its cookie."""

    def play() -> int:
        unshare(CLONE_NEWNET)
        return cookie()

    return int(act(play)[1])


def execute(environment: list[bytes], *command: str) -> int:
    """Starts a program with this very environment, whatever stands in it: the child's pid."""
    arguments = [os.fsencode(word) for word in command]
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    envp = (ctypes.c_char_p * (len(environment) + 1))(*environment, None)
    pid = os.fork()
    if not pid:
        _libc.execve(argv[0], argv, envp)
        os._exit(127)
    return pid


def reap(pid: int) -> None:
    """Waits for a child of the calling process, which must end well."""
    assert os.waitpid(pid, 0)[1] == 0
