"""What `watch` leaves out."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import click

from ..events import CniCall, CollectorStart, CollectorStop, Event, Lost

ALWAYS: Final = (CollectorStart, CollectorStop, Lost)
"""What is about the stream itself passes."""

PodName = tuple[str | None, str]
"""The name of a pod, with its namespace or without."""


def pod_names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> frozenset[PodName]:
    """The callback of `--pod`."""
    names = []
    for value in values:
        namespace, slash, name = value.rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace:
            raise click.BadParameter(f"{value!r} names no pod: write NAME or NAMESPACE/NAME")
        names.append((namespace or None, name))
    return frozenset(names)


def container_prefixes(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The callback of `--container`."""
    for value in values:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]*", value):
            raise click.BadParameter(f"{value!r} is not the beginning of a container's id")
    return values


class Filters(NamedTuple):
    """What was asked for. Each that is empty lets everything pass."""

    pids: frozenset[int]
    namespaces: frozenset[int]
    pods: frozenset[PodName]
    containers: tuple[str, ...]
    types: frozenset[str] = frozenset()

    def choose(self, event: Event) -> bool:
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
    """The first `count` events of a batch, and all that are not about a namespace."""
    kept = []
    for event in batch:
        if not isinstance(event, ALWAYS):
            if not count:
                continue
            count -= 1
        kept.append(event)
    return kept
