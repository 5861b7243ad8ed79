"""Collectors that stand for nodes, the load that they all see, and what of it they must have told."""

from __future__ import annotations

import collections
import os
import uuid
from pathlib import Path
from typing import Final

from cni_collector import CniStart, Event
from cni_collector.events import CniCall

from ..support.actors import CLONE_NEWNET, a_life, a_netns, act, refused, storm, unshare
from ..support.containerd import Containerd
from ..support.watch import LARGE, Watch

Counts = collections.Counter[str]
"""Events by type."""

TOLD: Final = (
    *("netns_create", "netns_enter", "netns_exit", "netns_destroy", "netns_create_failed", "netns_found"),
    *("cni_start", "cni_end"),
)
"""All but refused joins: whoever is refused some thousand a second, on a machine that others use, is not shown."""
TYPES: Final = tuple(word for kind in TOLD for word in ("--type", kind))


class Node:
    """One collector after the other, with the same name, and what they have told.

    Args:
        name: of the node.
        home: an empty directory.
        options: of the command.
    """

    def __init__(self, name: str, home: Path, *options: str) -> None:
        self.name = name
        self._home = home
        self._options = options
        self._watches: list[Watch] = []

    def start(self) -> None:
        """Starts one, and waits until it is attached."""
        name = f"{self.name}-{len(self._watches)}"
        self._watches.append(Watch("--node", self.name, *LARGE, *TYPES, *self._options, home=self._home, name=name))

    def stop(self) -> None:
        """SIGTERM, and the orderly end."""
        self._watches[-1].stop()

    def kill(self) -> None:
        """Whatever happened, nothing of it runs afterwards."""
        for watch in self._watches:
            watch.kill()

    def runs(self) -> list[list[Event]]:
        """What each has told so far."""
        for watch in self._watches:
            watch.read()
        return [watch.events for watch in self._watches]

    def lines(self) -> list[bytes]:
        """The same of all, as they wrote it."""
        return [line for watch in self._watches for line in watch.path.read_bytes().splitlines(keepends=True)]


class Load:
    """What is done, by this process and a containerd of its own.

    Args:
        pods: how many come and go at a time.
        moves: how many times a storm enters a namespace, and leaves it.
    """

    def __init__(self, pods: int, moves: int) -> None:
        self.containerd = Containerd()
        self._pods = pods
        self._moves = moves
        self._uids: set[str] = set()
        self._cookies: set[int] = set()
        self._births = self._refusals = 0

    def pods(self) -> None:
        """Pods come and go, one after the other; and something is refused."""
        for _ in range(self._pods):
            uid = str(uuid.uuid4())
            self._uids.add(uid)
            pod = self.containerd.run_pod("shop", f"web-{uid[:6]}", uid)
            self._births += 1
            self.containerd.create_container(pod, "main", ["sleep", "1000"])
            self.containerd.stop_pod(pod)
            self.containerd.remove_pod(pod)
        assert refused(lambda: unshare(CLONE_NEWNET | 1))
        self._refusals += 1

    def storm(self) -> None:
        """Somebody enters and leaves a namespace as fast as can be, and others come and go."""
        with a_netns() as (holder, cookie):
            fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
            act(lambda: storm(fd, self._moves))
            os.close(fd)
        made = {cookie, *(a_life() for _ in range(self._moves // 50))}
        self._cookies |= made
        self._births += len(made)

    def ours(self, events: list[Event]) -> list[int]:
        """The indices of the events that are about all that; others may make any number beside them."""
        containers = {call.container for call in self.containerd.plugins.log.calls()}
        cookies = self._cookies | {e.netns.cookie for e in events if e.netns and e.pod and e.pod.uid in self._uids}

        def mine(event: Event) -> bool:
            if isinstance(event, CniCall):
                return event.cni_container_id in containers
            return event.pid == os.getpid() or (event.netns is not None and event.netns.cookie in cookies)

        return [index for index, event in enumerate(events) if mine(event)]

    def is_all_of(self, events: list[Event]) -> bool:
        """Whether these are the events of all that was done, as far as that can be known from outside."""
        counts = Counts(event.type for event in events)
        calls = {call.pid for call in self.containerd.plugins.log.calls()}
        return (
            counts["netns_create"] == counts["netns_destroy"] == self._births
            and counts["netns_create_failed"] == self._refusals
            and counts["cni_start"] == counts["cni_end"]
            and calls <= {event.pid for event in events if isinstance(event, CniStart)}
        )
