"""A session without a kernel: what it reports is up to the test."""

from __future__ import annotations

import collections
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from cni_collector.events import CollectorStart, CollectorStop, Event
from cni_collector.stream.session import Stats

from ..support.made import made


class FakeSession:
    """Stands in for `cni_collector.stream.session.Session`.

    Attributes:
        script: what each reading gives: a batch, an error to raise, or a function that gives the batch.
        start_error: raised in place of attaching.
        attaching, detaching: called first, so that these can take as long as a test wants.
        waited: set once somebody waits, or polls the descriptor.
    """

    def __init__(self) -> None:
        self.script: collections.deque[list[Event] | Exception | Callable[[], list[Event]]] = collections.deque()
        self.start_error: Exception | None = None
        self.attaching: Callable[[], object] = lambda: None
        self.detaching: Callable[[], object] = lambda: None
        self.waited = threading.Event()
        self.arguments: tuple[Any, ...] = ()
        self.detached = 0
        self.audits = 0
        self.opening: list[Event] = [made(CollectorStart, "opening")]
        self.closed = False
        self._received = 0
        self._detaching = False
        self._bell, self._ringer = os.pipe()
        os.set_blocking(self._bell, False)

    def start(self, *arguments: Any) -> FakeSession:
        """In place of the class."""
        self.arguments = arguments
        self.attaching()
        if self.start_error:
            raise self.start_error
        return self

    def report(self, *events: Event) -> None:
        """The kernel reports, and wakes who waits."""
        self.script.append(list(events))
        os.write(self._ringer, b"!")

    def read(self) -> list[Event]:
        assert not self.closed
        if not self.detached:
            try:
                os.read(self._bell, 4096)
            except BlockingIOError:
                pass
        if not self.script:
            return []
        step = self.script.popleft()
        if self.script:
            os.write(self._ringer, b"!")
        if isinstance(step, Exception):
            raise step
        batch = step if isinstance(step, list) else step()
        self._received += len(batch)
        return batch

    @property
    def more(self) -> bool:
        return bool(self.script)

    def closing(self) -> CollectorStop:
        return made(CollectorStop, "closing", events=self._received, lost=0)

    def stats(self) -> Stats:
        assert not self.closed
        return Stats(received=self._received)

    def fileno(self) -> int:
        assert not self.closed
        self.waited.set()
        return self._bell

    def wait(self) -> None:
        assert not self.closed
        self.waited.set()
        select.select([self._bell], [], [])

    def audit(self) -> None:
        assert not self.closed
        self.audits += 1

    def detach(self) -> None:
        if self._detaching or self.detached:
            return
        try:
            self._detaching = True
            self.detaching()
            assert not self.closed
            os.write(self._ringer, b"!")
            self.detached += 1
        finally:
            self._detaching = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def dispose(self) -> None:
        """Closes what the test has left."""
        os.close(self._bell)
        os.close(self._ringer)
