"""`cni-collector watch`: the stream of events."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import click

from ..collector import Collector
from ..events import CniCall, CollectorStart, CollectorStop, Event, Lost, NetnsCreateFailed, NetnsEnterFailed, type_name
from ..hooks import ALL, CNI_EVENTS, TIERS
from .lines import JsonLines, Lines, TableLines

_TYPES = sorted(map(type_name, ALL))
_FAILED = {type_name(kind) for kind in (NetnsCreateFailed, NetnsEnterFailed)}
_CNI = set(map(type_name, CNI_EVENTS))
_ALWAYS = (CollectorStart, CollectorStop, Lost)


PodName = tuple[str | None, str]
"""The name of a pod, with its namespace or without."""


def _pod_names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> frozenset[PodName]:
    names = []
    for value in values:
        namespace, slash, name = value.rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace:
            raise click.BadParameter(f"{value!r} names no pod: write NAME or NAMESPACE/NAME")
        names.append((namespace or None, name))
    return frozenset(names)


def _container_prefixes(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]*", value):
            raise click.BadParameter(f"{value!r} is not the beginning of a container's id")
    return values


@click.command()
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), help="Default: a table on a terminal, JSON lines otherwise."
)
@click.option(
    "--type", "types", type=click.Choice(_TYPES), multiple=True, help="Only events of this type; may be repeated."
)
@click.option("--pid", type=click.IntRange(min=1), multiple=True, help="Only events by this process; may be repeated.")
@click.option(
    "--netns",
    type=click.IntRange(min=1),
    multiple=True,
    help="Only events about this namespace, by cookie or inode number; may be repeated.",
)
@click.option(
    "--pod",
    "pods",
    callback=_pod_names,
    metavar="[NAMESPACE/]NAME",
    multiple=True,
    help="Only events about this pod's namespace, and its CNI calls; may be repeated.",
)
@click.option(
    "--container",
    "containers",
    callback=_container_prefixes,
    metavar="ID-PREFIX",
    multiple=True,
    help="Only events by tasks of the container whose id begins so, or CNI calls for it; may be repeated.",
)
@click.option("--cni", is_flag=True, help="Only CNI calls.")
@click.option("--failed/--no-failed", default=None, help="Only refused attempts, or none of them. Default: all events.")
@click.option("--tier", type=click.Choice(list(TIERS)), help="Set of hooks to use. Default: the best that works here.")
@click.option(
    "--duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Stop after this time."
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
@click.option(
    "--coalesce",
    type=click.FloatRange(0, 1000),
    default=5,
    show_default=True,
    metavar="MS",
    help="Let events gather for so long; 0 writes each at once.",
)
def watch(
    output: str | None,
    types: tuple[str, ...],
    pid: tuple[int, ...],
    netns: tuple[int, ...],
    pods: frozenset[PodName],
    containers: tuple[str, ...],
    cni: bool,
    failed: bool | None,
    tier: str | None,
    duration: float | None,
    count: int | None,
    coalesce: float,
) -> None:
    """Show what happens to network namespaces and in CNI plugins, as it happens.

    Ends with Ctrl-C or SIGTERM, after everything that was seen has been written.

    \b
    Examples:
      cni-collector watch --failed
      cni-collector watch --pod shop/web-0
      cni-collector watch -o json --type netns_create --type netns_destroy
    """  # noqa: D301 - click wants the very character
    wanted = set(types or _TYPES)
    if failed is not None:
        wanted = wanted & _FAILED if failed else wanted - _FAILED
    if cni:
        wanted &= _CNI
    if not wanted:
        raise click.UsageError("--type, --failed/--no-failed and --cni together leave no type of event")
    as_json = output == "json" or (output is None and not sys.stdout.isatty())
    collector = Collector("cni", types=wanted, tier=tier, coalesce=coalesce / 1000)
    collector.start()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        collector.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, stop)
    if duration:
        signal.setitimer(signal.ITIMER_REAL, duration)
    try:
        filters = Filters(frozenset(pid), frozenset(netns), pods, containers)
        _write(collector, filters.choose if any(filters) else None, JsonLines() if as_json else TableLines(), count)
    except BrokenPipeError:
        pass  # whoever read us has gone: an end, not a failure
    finally:
        collector.stop()


Choose = Callable[[Event], bool]


class Filters(NamedTuple):
    """What was asked for. Each that is empty lets everything pass."""

    pids: frozenset[int]
    namespaces: frozenset[int]
    pods: frozenset[PodName]
    containers: tuple[str, ...]

    def choose(self, event: Event) -> bool:
        """Whether an event is asked for."""
        if isinstance(event, _ALWAYS):
            return True
        netns, pod = event.netns, event.pod
        if self.pids and event.pid not in self.pids:
            return False
        if self.namespaces and not (netns and (netns.cookie in self.namespaces or netns.inum in self.namespaces)):
            return False
        if self.pods and not (pod and pod.name and {(pod.namespace, pod.name), (None, pod.name)} & self.pods):
            return False
        ids = (event.container_id, event.cni_container_id if isinstance(event, CniCall) else None)
        return not self.containers or any(ident and ident.startswith(self.containers) for ident in ids)


def _write(collector: Collector, choose: Choose | None, lines: Lines, count: int | None) -> None:
    _put(lines.header)
    left = count
    for batch in collector.batches():
        if choose:
            batch = list(filter(choose, batch))
        if left is not None:
            batch = _first(batch, left)
            left -= sum(not isinstance(event, _ALWAYS) for event in batch)
            if not left:
                collector.stop()
        if batch:
            _put(lines.form(batch))


def _put(text: bytes) -> None:
    """Writes all of it, however often a signal cuts a write short. (Buffered writers lose a part of it then.)"""
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def _first(batch: list[Event], count: int) -> list[Event]:
    """The first `count` events of a batch, and all that are not about a namespace."""
    kept = []
    for event in batch:
        if not isinstance(event, _ALWAYS):
            if not count:
                continue
            count -= 1
        kept.append(event)
    return kept
