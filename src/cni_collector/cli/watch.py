"""`cni-collector watch`: the stream of events."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import click
import msgspec

from ..collector import Collector
from ..events import CollectorStart, CollectorStop, Event, Lost, Netns, NetnsCreateFailed, NetnsEnterFailed, type_name
from ..hooks import NAMESPACE_EVENTS, TIERS
from .table import Column, header, row

_TYPES = sorted(map(type_name, NAMESPACE_EVENTS))
_FAILED = {type_name(kind) for kind in (NetnsCreateFailed, NetnsEnterFailed)}
_ALWAYS = (CollectorStart, CollectorStop, Lost)

_COLUMNS = (
    Column("TIME", 15),
    Column("EVENT", 19),
    Column("NETNS", 18),
    Column("CAUSE", 7),
    Column("PID", 7),
    Column("COMM", 15),
    Column("DETAIL", 0),
)
_COLOURS = {
    "netns_create": "green",
    "netns_destroy": "magenta",
    "netns_create_failed": "red",
    "netns_enter_failed": "red",
    "lost": "red",
    "collector_start": "bright_black",
    "collector_stop": "bright_black",
}


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
    failed: bool | None,
    tier: str | None,
    duration: float | None,
    count: int | None,
    coalesce: float,
) -> None:
    """Show what happens to network namespaces, as it happens.

    Ends with Ctrl-C or SIGTERM, after everything that was seen has been written.

    \b
    Examples:
      cni-collector watch --failed
      cni-collector watch -o json --type netns_create --type netns_destroy
    """  # noqa: D301 - click wants the very character
    wanted = set(types or _TYPES)
    if failed is not None:
        wanted = wanted & _FAILED if failed else wanted - _FAILED
    if not wanted:
        raise click.UsageError("--type and --failed/--no-failed together leave no type of event")
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
        _write(collector, _chooser(frozenset(pid), frozenset(netns)), _json_lines if as_json else _table_lines, count)
    except BrokenPipeError:
        pass  # whoever read us has gone: an end, not a failure
    finally:
        collector.stop()


Choose = Callable[[Event], bool]
Format = Callable[[list[Event]], bytes]


def _chooser(pids: frozenset[int], namespaces: frozenset[int]) -> Choose | None:
    """Whether an event is asked for; None where all are."""
    if not pids and not namespaces:
        return None

    def chosen(event: Event) -> bool:
        if isinstance(event, _ALWAYS):
            return True
        if pids and event.pid not in pids:
            return False
        netns = event.netns
        return not namespaces or (netns is not None and (netns.cookie in namespaces or netns.inum in namespaces))

    return chosen


def _write(collector: Collector, choose: Choose | None, form: Format, count: int | None) -> None:
    if form is _table_lines:
        _put(header(_COLUMNS).encode() + b"\n")
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
            _put(form(batch))


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


_encoder = msgspec.json.Encoder()


def _json_lines(events: list[Event]) -> bytes:
    return _encoder.encode_lines(events)


def _table_lines(events: list[Event]) -> bytes:
    return "".join(f"{_table_line(event)}\n" for event in events).encode()


def _table_line(event: Event) -> str:
    cells = [
        event.time[11:26],
        event.type,
        _name(event.netns),
        event.cause or "",
        str(event.pid or ""),
        event.comm or "",
        " ".join(f"{key}={value}" for key, value in _details(event)),
    ]
    return row(_COLUMNS, cells, _COLOURS.get(event.type) if sys.stdout.isatty() else None, coloured=1)


def _name(netns: Netns | None) -> str:
    return f"{netns.cookie}/{netns.inum}" if netns else ""


_TOLD_ELSEWHERE = {"type", "time", "netns", "cause", "pid", "comm"}
_FOR_JSON = {"userns", "cgroup", "ppid", "schema", "version", "node", "boot_id", "arch"}


def _details(event: Event) -> list[tuple[str, str]]:
    """What a person wants to know and the other columns do not say."""
    details = []
    for key, value in msgspec.to_builtins(event).items():
        if key == "tid" and value == event.pid:
            continue
        if key.endswith("_ns"):
            details.append((key.removesuffix("_ns"), f"{value / 1e6:.1f}ms"))
        elif key in ("prev", "next", "host_netns"):
            details.append((key, f"{value['cookie']}/{value['inum']}"))
        elif key == "container_id":
            details.append(("container", value[:12]))
        elif key not in _TOLD_ELSEWHERE | _FOR_JSON:
            details.append((key, str(value)))
    return details
