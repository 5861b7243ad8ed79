"""From a source of events to stdout, until it ends, a signal comes or enough was shown."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import click

from ..errors import ClosedError, CollectorError
from ..events import Event
from ..views.filters import ALWAYS, Filters, first
from ..views.lines import JsonLines, Lines, TableLines


class Stream(Protocol):
    """A running collector, or a recording."""

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists."""

    def stop(self) -> None:
        """Ends `batches` soon. Safe in a signal handler, and from any thread."""


def lines_for(output: str | None, *, nodes: bool = False) -> Lines:
    """The form in which events are written to stdout.

    Args:
        output: `table` or `json`; None: a table on a terminal, JSON lines otherwise.
        nodes: whether they are of several nodes.
    """
    if sys.stdout is None:
        raise CollectorError("cannot write: stdout is closed")
    if output == "json" or (output is None and not sys.stdout.isatty()):
        return JsonLines()
    return TableLines(nodes=nodes)


@contextlib.contextmanager
def not_ended_by(number: signal.Signals) -> Iterator[None]:
    """The signal does nothing, unless another handler is set meanwhile; by default it would end the process."""
    before = signal.signal(number, lambda _signal, _frame: None)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextlib.contextmanager
def stopped_by_signals(
    stream: Stream, duration: float | None, audit: Callable[[], None] | None = None
) -> Iterator[None]:
    """SIGINT, SIGTERM and the end of the duration stop the stream, by a thread that is woken by them.

    SIGUSR1 calls `audit`, if that is given. A handler alone will not do: where the signal comes just before this thread
    goes to sleep, so does its handler.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)

    def wait() -> None:
        while came := os.read(woken, 64):
            if audit and signal.SIGUSR1 in came:
                with contextlib.suppress(ClosedError):  # it is being stopped
                    audit()
            if any(number in came for number in numbers):
                stream.stop()

    waiter = threading.Thread(target=wait, name="signals", daemon=True)
    waiter.start()
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda _signal, _frame: stream.stop()) for number in numbers}
    if audit:
        handlers[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda _signal, _frame: None)  # that thread does it
    if duration:
        signal.setitimer(signal.ITIMER_REAL, duration)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(wake)
        waiter.join()
        os.close(woken)


def write(
    stream: Stream,
    filters: Filters,
    lines: Lines | None,
    count: int | None = None,
    feed: Callable[[list[Event], list[Event]], None] = lambda _everything, _matching: None,
) -> None:
    """Writes events to stdout until the stream ends.

    Args:
        stream: where they come from.
        filters: which are shown.
        lines: their form; None: nothing is written.
        count: how many are shown before the stream is stopped.
        feed: is offered each batch: all of it, and what matches the filters.
    """
    try:
        if lines:
            _put(lines.header)
        left = count
        for everything in stream.batches():
            batch = list(filter(filters.matches, everything)) if any(filters) else everything
            if left is not None:
                batch = first(batch, left)
                left -= sum(not isinstance(event, ALWAYS) for event in batch)
            feed(everything, batch)
            if batch and lines:
                _put(lines.form(batch))
            if left == 0:
                stream.stop()  # after what was asked for is out, whatever comes in between
    except BrokenPipeError:
        pass  # the reader of our stdout has gone: an end, not a failure


def say(what: str) -> None:
    """A sentence on stderr."""
    click.echo(f"cni-collector: {what}", err=True)


def _put(text: bytes) -> None:
    """Writes all of it, however often a signal cuts a write short. (Buffered writers lose a part of it then.)"""
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]
