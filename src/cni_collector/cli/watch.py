"""`cni-collector watch`: the stream of events."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click

from ..collector import RING_BYTES, Collector
from ..events import NetnsCreateFailed, NetnsEnterFailed, type_name
from ..exporters.relay import QUEUE
from ..kernel.hooks import ALL, CNI_EVENTS, TIERS
from ..privileges import drop
from ..sources.file import Source, moment, replay
from ..views.filters import ALWAYS, Filters, PodName, container_prefixes, first, pod_names
from ..views.lines import JsonLines, Lines, TableLines
from .exports import Exports, listen_address

_TYPES = sorted(map(type_name, ALL))
_FAILED = {type_name(kind) for kind in (NetnsCreateFailed, NetnsEnterFailed)}
_CNI = set(map(type_name, CNI_EVENTS))


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "none"]),
    help="What goes to stdout. Default: a table on a terminal, JSON lines otherwise; with --file, none.",
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
    callback=pod_names,
    metavar="[NAMESPACE/]NAME",
    multiple=True,
    help="Only events about this pod's namespace, and its CNI calls; may be repeated.",
)
@click.option(
    "--container",
    "containers",
    callback=container_prefixes,
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
@click.option(
    "--ring",
    "ring_megabytes",
    type=click.Choice(["1", "2", "4", "8", "16", "32", "64"]),
    default=str(RING_BYTES >> 20),
    show_default=True,
    metavar="MB",
    help="Size of the kernel's ring buffer, 1 to 64: 4 have room for 37,000 events while the reader is away.",
)
@click.option(
    "--node",
    envvar="CNI_COLLECTOR_NODE",
    show_envvar=True,
    metavar="NAME",
    help="What this machine is called. Default: its host name.",
)
@click.option(
    "--user",
    metavar="USER",
    help="Once attached, go on as this user (name or number), without capabilities. "
    "root keeps everything. Default: nobody; with --file, which has to be rotated, root.",
)
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="Show what was, instead of what happens now: a FILE that -o json or --file has written (- is stdin), "
    "or what the nodes of a cluster have sent to nats://HOST:PORT and go on sending.",
)
@click.option(
    "--since",
    callback=moment,
    metavar="TIME",
    help="With --from: only what happened since: 10m, 2h or 2026-01-31T12:00:00Z. Default: a file whole, a cluster "
    "from now on.",
)
@click.option("--file", "path", type=click.Path(dir_okay=False), metavar="PATH", help="Append JSON lines to this file.")
@click.option(
    "--file-size",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="MB",
    help="Size at which the file is rotated, to PATH.1 and so on; 0 never rotates.",
)
@click.option(
    "--file-keep", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", help="Older files to keep."
)
@click.option(
    "--nats",
    envvar="CNI_COLLECTOR_NATS",
    show_envvar=True,
    metavar="URL",
    help="Publish events in NATS JetStream, as nats://HOST:4222; their subjects are cni.NODE.TYPE.",
)
@click.option(
    "--otlp",
    "receiver",
    metavar="URL",
    help="Send events as log records, and CNI calls as spans, to an OpenTelemetry receiver, as http://127.0.0.1:4318.",
)
@click.option(
    "--prometheus",
    "metrics",
    callback=listen_address,
    metavar="[ADDR]:PORT",
    help="Serve metrics of all events there, whatever else is filtered. Without ADDR: 127.0.0.1.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1000),
    default=QUEUE,
    show_default=True,
    metavar="N",
    help="Events that may wait for --file, --nats and --otlp each; 1,000 take 0.6 MB.",
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
    ring_megabytes: str,
    node: str | None,
    user: str | None,
    source: str | None,
    since: str | None,
    path: str | None,
    file_size: int,
    file_keep: int,
    nats: str | None,
    receiver: str | None,
    metrics: tuple[str, int] | None,
    queue: int,
) -> None:
    """Show what happens to network namespaces and in CNI plugins, as it happens.

    Ends with Ctrl-C or SIGTERM, after everything that was seen has been written.

    \b
    Examples:
      cni-collector watch --failed
      cni-collector watch --pod shop/web-0
      cni-collector watch -o json --type netns_create --type netns_destroy
      cni-collector watch --prometheus :9464 --nats nats://10.0.0.5:4222 -o none
      cni-collector watch --from nats://10.0.0.5:4222 --since 10m --failed
    """  # noqa: D301 - click wants the very character
    wanted = set(types or _TYPES)
    if failed is not None:
        wanted = wanted & _FAILED if failed else wanted - _FAILED
    if cni:
        wanted &= _CNI
    if not wanted:
        raise click.UsageError("--type, --failed/--no-failed and --cni together leave no type of event")
    all_types = source is not None or metrics is not None
    types_left = frozenset(wanted if all_types else ())
    filters = Filters(frozenset(pid), frozenset(netns), pods, containers, types_left)
    if source is not None and (tier or metrics or user):
        raise click.UsageError("--from shows what was: --tier, --user and --prometheus are for what happens now")
    if source is None and since:
        raise click.UsageError("--since goes with --from: without it everything is shown from now on")
    collector = None
    events: Source
    if source is not None:
        events = replay(source, since)
    else:
        events = collector = Collector(
            "cni",
            types=_TYPES if all_types else wanted,
            tier=tier,
            ring_bytes=int(ring_megabytes) << 20,
            coalesce=coalesce / 1000,
            node=node,
        )
    with contextlib.ExitStack() as stack:
        stack.callback(events.stop)
        if collector:
            collector.start()
            if user or not path:
                drop(user)  # first of all: threads and files are to be the user's
        exports = stack.enter_context(Exports(queue))
        if path:
            exports.file(Path(path), file_size * 1_000_000, file_keep)
        if nats:
            exports.nats(nats)
        if receiver is not None:
            exports.otlp(receiver.rstrip("/"))
        if collector and metrics:
            exports.prometheus(collector, *metrics)
        stack.enter_context(_stopped_by_signals(events, duration))
        try:
            _write(events, filters, exports, _lines(output, path, source), count)
        except BrokenPipeError:
            pass  # whoever read us has gone: an end, not a failure


def _lines(output: str | None, path: str | None, source: str | None) -> Lines | None:
    """What is written to stdout."""
    if output == "none" or (output is None and path):
        return None
    if output == "json" or (output is None and not sys.stdout.isatty()):
        return JsonLines()
    return TableLines(nodes=source is not None and "://" in source)


@contextlib.contextmanager
def _stopped_by_signals(events: Source, duration: float | None) -> Iterator[None]:
    """Signals stop the events, by a thread that is woken by them.

    A handler alone will not do: where the signal comes just before this thread goes to sleep, so does its handler.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def wait() -> None:
        while os.read(woken, 64):
            events.stop()

    waiter = threading.Thread(target=wait, name="signals", daemon=True)
    waiter.start()
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda _signal, _frame: events.stop())
    if duration:
        signal.setitimer(signal.ITIMER_REAL, duration)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(wake)
        waiter.join()
        os.close(woken)


def _write(events: Source, filters: Filters, exports: Exports, lines: Lines | None, count: int | None) -> None:
    if lines:
        _put(lines.header)
    left = count
    for batch in events.batches():
        exports.all(batch)
        if any(filters):
            batch = list(filter(filters.choose, batch))
        if left is not None:
            batch = first(batch, left)
            left -= sum(not isinstance(event, ALWAYS) for event in batch)
            if not left:
                events.stop()
        if batch:
            exports.chosen(batch)
            if lines:
                _put(lines.form(batch))


def _put(text: bytes) -> None:
    """Writes all of it, however often a signal cuts a write short. (Buffered writers lose a part of it then.)"""
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]
