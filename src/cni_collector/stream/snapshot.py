"""The namespaces that exist now: from the kernel's own list, with their tasks and the names they are mounted under."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..errors import of_the_system
from ..events import Netns, NetnsFound, Pod, Task
from ..identity.cgroups import CgroupPaths
from ..identity.cni import CniCalls
from ..identity.cni_cache import cached_pods
from ..identity.namespaces import Namespaces
from ..kernel.hooks import ALL
from ..kernel.mounts import MountList
from ..kernel.objects import Object
from ..kernel.tiers import TRIAL_RING, find_host, open_object, sees_all_tasks
from ..kernel.wire import CGROUP, CGROUP_RECORD, NETNS_RECORD, TRACKED
from .decoder import Decoder

_PROGRAMS: Final = ["cni_host", "cni_snapshot", "cni_mounts"]


class ExistingNetns(NamedTuple):
    """One namespace that exists: what `existing` finds.

    Attributes:
        netns: which.
        userns: inode number of the user namespace that owns it.
        members: how many tasks (threads) are in it; 0 where only a mount, a descriptor or a socket holds it; None where
            the asking process is not in the initial pid namespace, so that it cannot see all.
        member: one of them, with the lowest pid; None where nobody is, or nobody is seen.
        names: the paths it is mounted on, sorted; none where it is mounted nowhere, or only out of our sight.
        pod: the pod that it is for; None where that is not known for certain.
        pod_from: how the pod is known: `cni_cache` (libcni's cache has its path), or `cgroup` (all members that are in
            a pod are in this one).
    """

    netns: Netns
    userns: int
    members: int | None
    member: Task | None
    names: tuple[str, ...]
    pod: Pod | None
    pod_from: str | None

    def event(self, time: str) -> NetnsFound:
        """The event that reports it."""
        return NetnsFound(
            time,
            self.netns,
            **(msgspec.structs.asdict(self.member) if self.member else {}),
            userns=self.userns,
            name=self.names[0] if self.names else None,
            pod=self.pod,
            members=self.members,
        )


def take(loaded: Object, decoder: Decoder, mounts: MountList) -> list[ExistingNetns]:
    """Finds every namespace but the host's, and has the kernel side track them.

    Args:
        loaded: an object whose program `cni_host` has run.
        decoder: turns the kernel's records into events.
        mounts: where namespaces are mounted.
    """
    tasks = _tasks(loaded.program("cni_snapshot").iterate(), decoder)
    all_tasks = sees_all_tasks()
    tracked = list(loaded.map("tracked").items(8, TRACKED.size))
    names = mounts.read() or {}
    cached = cached_pods()
    found = []
    for key, value in tracked:
        _address, _born, inum, userns, reported = TRACKED.unpack(value)
        if reported:
            continue
        cookie = int.from_bytes(key, sys.byteorder)
        members = tasks.get(cookie, [])
        paths = tuple(sorted(names.get(cookie, ())))
        found.append(
            ExistingNetns(
                Netns(cookie, inum),
                userns,
                len(members) if all_tasks else None,
                min(members, key=lambda task: (task.pid, task.tid), default=None),
                paths,
                *_pod_of(members, {pod for path in paths if (pod := cached.get(path))}),
            )
        )
    return sorted(found, key=lambda one: one.netns.cookie)


def _pod_of(members: list[Task], cached: set[Pod]) -> tuple[Pod | None, str | None]:
    """The pod of a namespace, and how that is known; nothing where what is known does not agree."""
    uids = {task.pod_uid for task in members if task.pod_uid}
    if len(uids) > 1 or len(cached) > 1:
        return None, None
    for pod in cached:
        return (pod, "cni_cache") if not uids or pod.uid in (None, *uids) else (None, None)
    return (Pod(uid=uids.pop()), "cgroup") if uids else (None, None)


def _tasks(records: bytes, decoder: Decoder) -> dict[int, list[Task]]:
    """The tasks that the iterator wrote, by the cookie of their namespace."""
    tasks: dict[int, list[Task]] = {}
    at = 0
    while at < len(records):
        if records[at] == CGROUP:
            size = CGROUP_RECORD.size + int.from_bytes(records[at + 2 : at + 4], sys.byteorder)
            decoder.decode(records, at, size)
        else:
            size = NETNS_RECORD.size
            if found := decoder.member(records[at : at + size]):
                cookie, task = found
                tasks.setdefault(cookie, []).append(task)
        at += size
    return tasks


def existing(kubelet_roots: Collection[str] = ()) -> list[ExistingNetns]:
    """The network namespaces that exist now, without attaching anything; none is held by it.

    They come from the kernel's own list, their members from its list of tasks, their names from its list of mounts,
    and their pods from libcni's cache and from cgroups. Programs are loaded for it and run once: some 0.05 s.

    Args:
        kubelet_roots: as for a `Collector`.

    Returns:
        All but the host's, by cookie. They were there at one moment; by the time they are returned some may be gone.

    Raises:
        ValueError: a path that is not absolute.
        UnsupportedError: this platform, kernel or libbpf cannot do it.
        PrivilegeError: the process may not.
        CollectorError: any other reason.
    """
    paths = CgroupPaths(kubelet_roots)
    try:
        with contextlib.ExitStack() as opened:
            loaded = opened.enter_context(contextlib.closing(open_object(_PROGRAMS, ALL, TRIAL_RING)))
            loaded.load()
            find_host(loaded)
            mounts = opened.enter_context(contextlib.closing(MountList(loaded)))
            namespaces = Namespaces()
            return take(loaded, Decoder(namespaces, CniCalls(namespaces), paths=paths), mounts)
    except OSError as error:
        raise of_the_system("list network namespaces", error) from error


def boot_id() -> str:
    """The id of this boot, within which cookies are unique."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
