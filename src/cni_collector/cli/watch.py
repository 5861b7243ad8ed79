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

from ..collector import Collector
from ..events import NetnsCreateFailed, NetnsEnterFailed, type_name
from ..hooks import ALL, CNI_EVENTS, TIERS
from .exports import Exports, listen_address
from .filters import ALWAYS, Filters, PodName, container_prefixes, first, pod_names
from .lines import JsonLines, Lines, TableLines
from .replay import Replay

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
    "--from",
    "source",
    metavar="FILE",
    help="Show what a file holds that -o json or --file has written, instead of what happens now; - is stdin.",
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
    source: str | None,
    path: str | None,
    file_size: int,
    file_keep: int,
    receiver: str | None,
    metrics: tuple[str, int] | None,
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
    all_types = source is not None or metrics is not None
    types_left = frozenset(wanted if all_types else ())
    filters = Filters(frozenset(pid), frozenset(netns), pods, containers, types_left)
    if source is not None and (tier or metrics):
        raise click.UsageError("--from shows what was: --tier and --prometheus are for what happens now")
    events: Collector | Replay
    if source is not None:
        events = Replay(source)
    else:
        events = Collector("cni", types=_TYPES if all_types else wanted, tier=tier, coalesce=coalesce / 1000)
    with Exports() as exports:
        if path:
            exports.file(Path(path), file_size * 1_000_000, file_keep)
        if receiver is not None:
            exports.otlp(receiver.rstrip("/"))
        if metrics:
            assert isinstance(events, Collector)
            exports.prometheus(events, *metrics)
        if isinstance(events, Collector):
            events.start()
        with _stopped_by_signals(events, duration):
            try:
                _write(events, filters, exports, _lines(output, path), count)
            except BrokenPipeError:
                pass  # whoever read us has gone: an end, not a failure
            finally:
                events.stop()
    if isinstance(events, Replay):
        events.check()


def _lines(output: str | None, path: str | None) -> Lines | None:
    """What is written to stdout."""
    if output == "none" or (output is None and path):
        return None
    return JsonLines() if output == "json" or (output is None and not sys.stdout.isatty()) else TableLines()


@contextlib.contextmanager
def _stopped_by_signals(events: Collector | Replay, duration: float | None) -> Iterator[None]:
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


def _write(
    events: Collector | Replay, filters: Filters, exports: Exports, lines: Lines | None, count: int | None
) -> None:
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
