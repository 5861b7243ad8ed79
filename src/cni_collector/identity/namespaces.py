"""What is known of the namespaces that live: which one an inode number means, their names, the pods they are for.

All of it hangs on the cookie. An inode number means a namespace only at a given time: it is reused within milliseconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

from ..events import Netns, Pod
from .mounts import Mount, MountWatch, real_path

Known = tuple[Netns, str | None, Pod | None]
"""A namespace, its name, its pod."""

_BOUND: Final = 1 << 16
"""Namespaces that facts are kept of: as many as the kernel side tracks."""
_PROC: Final = re.compile(r"/proc/(?:[0-9]+/task/)?([0-9]{1,9})/ns/net")


class Namespaces(dict[int, Known]):
    """Looks up by cookie what events about a namespace carry, so that one object serves them all.

    Attributes:
        host_inum: inode number of the host's namespace, which has neither name nor pod.
        watch: says when the mounts have changed.
        where: tells which namespace a task is in now, by its tid.
        mounts_read: when they were read last, in nanoseconds of CLOCK_BOOTTIME.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host_inum = 0
        self.watch: MountWatch | None = None
        self.where: Callable[[int], Netns | None] = lambda _tid: None
        self.mounts_read = 0
        self._alive: dict[int, tuple[Netns, int]] = {}
        """By inode number: the namespace that has it, and since when, in nanoseconds of CLOCK_BOOTTIME."""
        self._names: dict[int, str] = {}
        self._pods: dict[int, Pod] = {}
        self._mounts: frozenset[Mount] = frozenset()
        self._unnamed: set[Mount] = set()

    def remember(self, cookie: int, inum: int) -> Known:
        """What is known of a namespace that no event was about lately."""
        if len(self) >= _BOUND:
            self.clear()
        known = self[cookie] = (Netns(cookie, inum), self._names.get(cookie), self._pods.get(cookie))
        return known

    def born(self, netns: Netns, when: int) -> None:
        """A namespace lives, since so many nanoseconds of CLOCK_BOOTTIME; 0 where that was before all else."""
        self._alive[netns.inum] = (netns, when)
        _bound(self._alive)

    def gone(self, netns: Netns) -> None:
        """The kernel has torn it down."""
        if self._alive.get(netns.inum, (None, 0))[0] == netns:
            del self._alive[netns.inum]
        self.pop(netns.cookie, None)
        self._names.pop(netns.cookie, None)
        self._pods.pop(netns.cookie, None)

    def alive(self, inum: int, when: int) -> Netns | None:
        """The namespace that had this inode number then, if it lives still."""
        netns, since = self._alive.get(inum, (None, 0))
        return netns if since <= when else None

    def refresh(self) -> None:
        """Reads where namespaces are mounted, if that has changed. Names are given later, by `name`."""
        if self.watch and self.watch.changed():
            self.mounts_read = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._mounts = self.watch.mounted()
            self._unnamed = {mount for mount in self._mounts if mount.inum != self.host_inum}

    def name(self) -> None:
        """Names what was mounted when `refresh` looked; all that happened before then must be known.

        A name belongs to who had the inode number then. A namespace keeps its name when that is unmounted, until it is
        gone.
        """
        for mount in sorted(self._unnamed, key=lambda mount: mount.path, reverse=True):
            if netns := self.alive(mount.inum, self.mounts_read):
                self.set_name(netns, mount.path)
                self._unnamed.discard(mount)

    def set_name(self, netns: Netns, name: str) -> None:
        """Events about the namespace carry this name from now on."""
        self._names[netns.cookie] = name
        self.pop(netns.cookie, None)
        _bound(self._names)

    def add_pod(self, netns: Netns, pod: Pod, _sandbox: str | None) -> None:
        """A CNI call has said that the namespace is for this pod."""
        self.set_pod(netns, pod)

    def withdraw_pod(self, netns: Netns, pod: Pod, _sandbox: str | None) -> None:
        """What a CNI call has said of the namespace it has said of another one."""
        if self._pods.get(netns.cookie) == pod:
            del self._pods[netns.cookie]
            self.pop(netns.cookie, None)

    def delete_pod(self, netns: Netns, sandbox: str | None) -> None:
        """A DEL of the sandbox has succeeded."""

    def set_pod(self, netns: Netns, pod: Pod) -> None:
        """Events about the namespace carry this pod from now on."""
        self._pods[netns.cookie] = pod
        self.pop(netns.cookie, None)
        _bound(self._pods)

    def at_path(self, path: str, when: int, _mnt_ns: int = 0, _pid_ns: int = 0) -> Netns | None:
        """The namespace that a path led to then, if it lives still and that can be known.

        Only mounts of namespaces are looked at, and where the task is that /proc/PID/ns/net names: what else stands in
        an environment may be anything, and waiting for it may take forever.
        """
        path = real_path(path)
        if match := _PROC.fullmatch(path):
            place = self.where(int(match[1]))
            return place if place and self.alive(place.inum, when) == place else None
        for mount in self._mounts:
            if mount.path == path and (netns := self.alive(mount.inum, when)):
                return netns
        named = [
            (since, netns)
            for netns, since in self._alive.values()
            if since <= when and self._names.get(netns.cookie) == path
        ]
        return max(named, key=lambda one: one[0])[1] if named else None


def _bound(facts: dict[int, Any]) -> None:
    """Forgets the oldest where there are too many: of namespaces whose end was lost."""
    while len(facts) > _BOUND:
        del facts[next(iter(facts))]
