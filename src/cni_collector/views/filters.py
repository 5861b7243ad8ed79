"""Which events are shown."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..events import Checkpoint, CniCall, CollectorStart, CollectorStop, Event, Lost

ALWAYS: Final = (CollectorStart, CollectorStop, Lost, Checkpoint)
"""What is about the stream itself passes."""

PodName = tuple[str | None, str]
"""The name of a pod, with its namespace or without."""


class Filters(NamedTuple):
    """What was asked for. Each that is empty lets everything pass."""

    pids: frozenset[int] = frozenset()
    namespaces: frozenset[int] = frozenset()
    """Cookies or inode numbers."""
    pods: frozenset[PodName] = frozenset()
    containers: tuple[str, ...] = ()
    """What a container's id begins with."""
    types: frozenset[str] = frozenset()

    def matches(self, event: Event) -> bool:
        """Whether an event is asked for."""
        if isinstance(event, ALWAYS):
            return True
        netns, pod = event.netns, event.pod
        if self.types and event.type not in self.types:
            return False
        if self.pids and event.pid not in self.pids:
            return False
        if self.namespaces and not (netns and (netns.cookie in self.namespaces or netns.inum in self.namespaces)):
            return False
        if self.pods and not (pod and pod.name and {(pod.namespace, pod.name), (None, pod.name)} & self.pods):
            return False
        ids = (event.container_id, event.cni_container_id if isinstance(event, CniCall) else None)
        return not self.containers or any(ident and ident.startswith(self.containers) for ident in ids)


def first(batch: list[Event], count: int) -> list[Event]:
    """The first `count` events of a batch about namespaces and CNI calls, and all about the stream itself."""
    kept = []
    for event in batch:
        if not isinstance(event, ALWAYS):
            if not count:
                continue
            count -= 1
        kept.append(event)
    return kept
