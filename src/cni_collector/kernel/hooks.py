"""Which hooks there are: what each sees, in the three tiers."""

from __future__ import annotations

import platform
from typing import Final, NamedTuple

from ..events import (
    CniEnd,
    CniExec,
    CniStart,
    Event,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    NetnsFound,
)
from .wire import EDGES, TYPES

EventTypes = frozenset[type[Event]]

ALL: Final[EventTypes] = frozenset(filter(None, TYPES))
"""Every type of event that the kernel side reports, and so can leave out."""
CNI_EVENTS: Final[EventTypes] = frozenset({CniStart, CniEnd, CniExec})


class Site(NamedTuple):
    """Where a program is attached.

    Attributes:
        program: its name.
        tracepoint: of a system call; None where the program itself says where it belongs.
        cookie: the attach cookie, which tells the program at which of the tracepoints it runs.
    """

    program: str
    tracepoint: str | None = None
    cookie: int = 0


class Hook(NamedTuple):
    """Programs that together see one kind of fact.

    Attributes:
        programs: in the order in which they are attached: the end of a system call before its beginning, so that
            one that is seen to begin is also seen to end. A program may stand in several hooks.
        fact: what they see, in words: what is not reported where the hook is missing.
        feeds: the types of event that depend on it; it is left out where none of them is wanted.
        required: without it the tier is not offered.
        syscall: the system call at whose two tracepoints the program stands; empty where it says itself where.
    """

    programs: tuple[str, ...]
    fact: str
    feeds: EventTypes
    required: bool = False
    syscall: str = ""

    @property
    def sites(self) -> list[Site]:
        """Where its programs are attached, in order."""
        if not self.syscall:
            return [Site(program) for program in self.programs]
        (program,) = self.programs
        tracepoints = (f"sys_exit_{self.syscall}", f"sys_enter_{self.syscall}")
        return [Site(program, tracepoint, EDGES.index(tracepoint)) for tracepoint in tracepoints]


_MOVES: Final[EventTypes] = CNI_EVENTS | {NetnsEnter, NetnsExit}
"""Which namespace a CNI call is about depends on what its tasks enter."""
_BIRTHS: Final[EventTypes] = frozenset({NetnsCreate, NetnsFound, NetnsDestroy})
"""Only what is known to exist can be reported destroyed."""
_SETNS: Final = ("entry and exit by setns, and its refusals", _MOVES | {NetnsEnterFailed})
_UNSHARE: Final = ("birth and entry by unshare, and its refusals", _BIRTHS | _MOVES | {NetnsCreateFailed})
_REFUSALS: Final[EventTypes] = frozenset({NetnsCreateFailed, NetnsEnterFailed})
_CREATE_FAILED: Final[EventTypes] = frozenset({NetnsCreateFailed})
_DESTROY: Final[EventTypes] = frozenset({NetnsDestroy})


def _ending(program: str) -> Hook:
    """A task that ends leaves its namespace; a system call of it whose end was skipped is settled then."""
    return Hook((program,), "exit of tasks that end inside", _MOVES | _BIRTHS | _REFUSALS)


def _cni_calls(*programs: str) -> Hook:
    return Hook(programs, "CNI calls, and the pods that they name", CNI_EVENTS)


def _edges(syscall: str, fact: str, feeds: EventTypes, required: bool = False) -> Hook:
    return Hook(("cni_syscall",), fact, feeds, required, syscall)


def _switch(program: str) -> Hook:
    return Hook((program,), "entry and exit where the end of a system call is not seen", _BIRTHS | _MOVES)


_FORK: Final = Hook(("cni_fork",), "birth and entry by clone", _BIRTHS | _MOVES, required=True)


def _function_hooks(end: str, begin: str) -> tuple[Hook, ...]:
    """Hooks in the kernel's functions; the arguments say how their programs' names begin."""
    setns32 = Hook((f"{end}_setns32", f"{begin}_setns32"), "entry and exit by setns of 32-bit programs", _SETNS[1])
    return (
        Hook((f"{end}_cleanup", f"{begin}_cleanup"), "destruction", _DESTROY),
        _FORK,
        Hook((f"{end}_copy",), "birth in a system call that fails later", _BIRTHS),
        Hook((f"{end}_clone", f"{begin}_clone"), "refusals of clone and clone3", _CREATE_FAILED),
        Hook((f"{end}_setns", f"{begin}_setns"), *_SETNS, required=True),
        *([setns32] if platform.machine() == "x86_64" else []),
        Hook((f"{end}_unshare", f"{begin}_unshare"), *_UNSHARE, required=True),
    )


TIERS: Final[dict[str, tuple[Hook, ...]]] = {
    "fentry": (
        _cni_calls("cni_exit", "cni_exec"),
        _ending("cni_exit"),
        _switch("cni_fe_switch"),
        *_function_hooks("cni_fx", "cni_fe"),
    ),
    "kprobe": (
        _cni_calls("cni_kp_files", "cni_kp_exec"),
        _ending("cni_kp_exit"),
        _switch("cni_kp_switch"),
        *_function_hooks("cni_kr", "cni_kp"),
    ),
    "tracepoint": (
        _cni_calls("cni_exit", "cni_exec"),
        Hook(("cni_tx_cleanup", "cni_tp_cleanup"), "destruction", _DESTROY),
        _ending("cni_exit"),
        _FORK,
        _edges("clone", "refusals of clone", _CREATE_FAILED),
        _edges("clone3", "refusals of clone3", _CREATE_FAILED),
        _edges("setns", *_SETNS, required=True),
        _edges("unshare", *_UNSHARE, required=True),
    ),
}
"""The hooks of each tier in the order of attaching: ends before beginnings."""
