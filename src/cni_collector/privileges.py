"""Giving up what only attaching needs."""

from __future__ import annotations

import ctypes
import os
import pwd
from typing import Final, NamedTuple

import msgspec

from .errors import PrivilegeError

_VERSION_3: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_NEEDED_LATER: Final = (os.__file__, msgspec.__file__, __file__)
"""Python imports as it goes on: from the standard library, from what is installed, and from here."""


class User(NamedTuple):
    """An ordinary user.

    Attributes:
        uid: its number.
        gid: its group's.
    """

    uid: int
    gid: int


NOBODY: Final = User(65534, 65534)


def drop(name: str | None = None) -> None:
    """Makes the process an ordinary user's without any capability, for good.

    To be called while there is one thread: capabilities are each thread's own. What is open or mapped stays so.

    Args:
        name: name or number of the user to become; as root it keeps everything. By default a process of root's becomes
            nobody's; where it may not, or nobody could not read this package, it stays root's without capabilities;
            where it could not read the package then, either, as in somebody's home, it keeps them.

    Raises:
        PrivilegeError: there is no such user; the process may not become it; or it could not go on as that.
    """
    if name is None:
        here = User(os.geteuid(), os.getegid())
        for user in (NOBODY, here) if here.uid == 0 else (here,):
            if not _why_not(user):
                _become(user)
                return
        return
    user = _find(name)
    if user.uid == 0:
        return
    if reason := _why_not(user):
        raise PrivilegeError(f"cannot go on as user {name}: {reason}")
    _become(user)


def _find(name: str) -> User:
    """A number need not be that of a known user: in a container there may be none."""
    if name.isdecimal() and int(name) < 1 << 32:
        return User(int(name), int(name))
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise PrivilegeError(
            f"cannot go on as user {name}: there is no such user here; give a name or a number"
        ) from None
    return User(entry.pw_uid, entry.pw_gid)


def _become(user: User) -> None:
    """For good, and without capabilities."""
    if user.uid != os.geteuid():
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    _forsake_capabilities()


def _why_not(user: User) -> str | None:
    """Why the process could not go on as this user: a child tries."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _become(user)
            for path in _NEEDED_LATER:
                os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            where = f" ({error.filename}): install the package where that user may read it" if error.filename else ""
            os.write(writing, f"{error.strerror}{where}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told or None


def _forsake_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of 64 bits each
    results = (  # in this order
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
        libc.capset(header, nothing),
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
    )
    if any(results):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
