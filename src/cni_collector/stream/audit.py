"""What an audit compares: the namespaces that the stream says exist, with those that the kernel says exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..events import Netns

_BOUND: Final = 1 << 16
"""Namespaces that are told of at once and remembered: as many as the kernel side tracks."""


class Subject(NamedTuple):
    """One namespace.

    Attributes:
        netns: which.
        userns: inode number of the user namespace that owns it.
    """

    netns: Netns
    userns: int


class Told(dict[int, Subject]):
    """The namespaces that the stream has told of as born or found, and not as destroyed, by cookie.

    Attributes:
        overflowed: there were too many to remember: one that is not here may have been told of.
        since: of which it has told since a look began, by records that were written later; None while nobody looks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.overflowed = False
        self.since: set[int] | None = None

    def alive(self, netns: Netns, userns: int) -> None:
        """The stream tells that it exists."""
        self[netns.cookie] = Subject(netns, userns)
        if self.since is not None:
            self.since.add(netns.cookie)
        self.bound()

    def gone(self, netns: Netns) -> None:
        """The stream tells that it is destroyed."""
        self.pop(netns.cookie, None)
        if self.since is not None:
            self.since.add(netns.cookie)

    def bound(self) -> None:
        """Forgets the oldest, if there are too many."""
        if len(self) > _BOUND:
            self.overflowed = True
            cookie = next(iter(self))
            del self[cookie]
            if self.since:
                self.since.discard(cookie)

    def is_exact(self, look: Look) -> bool:
        """Whether it is as the stream says: also after an overflow, once all that exist are here."""
        if self.overflowed and look.complete:
            unknown = (look.tracked.keys() | look.untracked.keys()) - self.keys() - (self.since or set())
            self.overflowed = bool(unknown)
        return not self.overflowed


class Look(NamedTuple):
    """What the kernel says at one moment, by cookie, without the host's namespace.

    Attributes:
        tracked: those whose end the kernel side is going to report, dying ones included.
        untracked: those on the kernel's list whose birth no program has seen, or not yet.
        gone: those that are torn down, and are tracked still.
        dying: how many of `tracked` nobody holds any more.
        members: how many tasks are in each; None where they cannot be counted.
        complete: no namespace on the kernel's list is missing here.
    """

    tracked: Mapping[int, Subject]
    untracked: Mapping[int, Subject]
    gone: Mapping[int, Subject]
    dying: int
    members: Mapping[int, int] | None
    complete: bool = True


class Untold(NamedTuple):
    """What the stream has not told, by cookie.

    Attributes:
        births: of namespaces that exist.
        ends: of those that do not.
    """

    births: frozenset[int]
    ends: frozenset[int]

    def still(self, later: Untold) -> Untold:
        """What was untold both times. The rest was under way: a program at work, a system call not yet over."""
        return Untold(self.births & later.births, self.ends & later.ends)


def compare(told: Told, look: Look) -> Untold:
    """The differences between what was told and what the kernel says, but for what has happened since it was asked."""
    existing = look.tracked.keys() | look.untracked.keys()
    since = told.since or set()
    births = frozenset() if told.overflowed else frozenset(existing - told.keys() - since)
    ends = told.keys() - existing if look.complete else set()
    return Untold(births, frozenset((ends | look.gone.keys()) - since))
