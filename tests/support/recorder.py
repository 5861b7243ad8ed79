"""A `watch` that writes a file, which no reader can hold up; and marks that several of them are told of."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from cni_collector import AnyEvent, CollectorStart, CollectorStop, Event, NetnsDestroy, NetnsEnterFailed

from . import actors
from .watch import PATIENCE, TIER

CHECKOUT: Final = Path(__file__).parents[2]
MODULE: Final = ("-m", "cni_collector")
LARGE: Final = ("--ring", "64")
"""For a witness: room for half a million events, so that it loses nothing."""

SEVERAL: Final = 4

_decode = msgspec.json.Decoder(AnyEvent).decode


class Recorder:
    """A running `watch -o json`. Its events are kept as they are found in the file.

    Args:
        home: a directory for the file and for what it says on stderr.
        name: of the files.
        options: of the command.
        module: what Python runs.
        before: what stands before the command, and executes it in the end.
        pipe: the command writes to a pipe, and `reader` copies that to the file.
        wait: until it is attached; otherwise it may not even get so far.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        *options: str,
        module: Sequence[str] = MODULE,
        before: Sequence[str] = (),
        pipe: bool = False,
        wait: bool = True,
    ) -> None:
        self.path = home / f"{name}.json"
        self.errors = home / f"{name}.err"
        self.events: list[Event] = []
        self.marks: list[int] = []
        """Indices of the events that `mark` has provoked."""
        self._at = 0
        tier = ["--tier", TIER] if TIER else []
        command = [*before, sys.executable, *module, "watch", "-o", "json", *tier, *options]
        self.reader: subprocess.Popen[bytes] | None = None
        with self.path.open("wb") as out, self.errors.open("wb") as errors:
            to = subprocess.PIPE if pipe else out
            self.process = subprocess.Popen(command, stdout=to, stderr=errors, cwd=CHECKOUT)
            if self.process.stdout:
                with self.process.stdout:
                    self.reader = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=out)
        if wait:
            try:
                self.until(lambda event: isinstance(event, CollectorStart))
            except BaseException:
                self.kill()
                raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(self) -> list[Event]:
        """The events that have come since this was asked last."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        fresh = [_decode(line) for line in whole.splitlines()]
        self.events += fresh
        return fresh

    def until(self, wanted: Callable[[Event], bool], since: int = 0, patience: float = PATIENCE) -> int:
        """The index of the first event that is wanted, from `since` on.

        Raises:
            TimeoutError: it does not come.
        """
        deadline = time.monotonic() + patience
        while True:
            for index in range(since, len(self.events)):
                if wanted(self.events[index]):
                    return index
            since = len(self.events)
            ended = self.process.poll() is not None
            if not self.read():
                if ended or time.monotonic() > deadline:
                    raise TimeoutError(f"{self.path.stem}: the event did not come. {self.said()}")
                time.sleep(0.01)

    def said(self) -> str:
        """What stands on its stderr."""
        return self.errors.read_text(encoding="utf-8", errors="replace")

    def destroyed(self, cookies: Iterable[int], since: int = 0) -> None:
        """Waits until these namespaces have been told destroyed."""
        left = set(cookies)

        def last(event: Event) -> bool:
            if isinstance(event, NetnsDestroy) and event.netns:
                left.discard(event.netns.cookie)
            return not left

        if left:
            self.until(last, since, 4 * PATIENCE)

    def between(self, first: int = 0, second: int = 1) -> list[Event]:
        """The events between two marks."""
        return self.events[self.marks[first] + 1 : self.marks[second]]

    def stop(self) -> CollectorStop:
        """Ends it in order, and returns its last event."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        if self.reader:
            self.reader.wait(PATIENCE)
        self.read()
        last = self.events[-1]
        if status or not isinstance(last, CollectorStop):
            raise RuntimeError(f"{self.path.stem} ended with status {status}. {self.said()}")
        return last

    def kill(self) -> None:
        """Whatever happened, it is gone afterwards."""
        for process in (self.process, self.reader):
            if process and process.poll() is None:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def mark(*recorders: Recorder, patience: float = PATIENCE) -> None:
    """Provokes a refusal that all of them are told of: what has happened by then comes before it.

    One whose ring is still full counts it as lost; so it is tried until it arrives everywhere.
    """
    deadline = time.monotonic() + patience
    while True:
        for recorder in recorders:
            recorder.read()
        sinces = [len(recorder.events) for recorder in recorders]
        refuser = threading.Thread(target=actors.refused, args=[lambda: actors.setns(-1, actors.CLONE_NEWNET)])
        refuser.start()
        refuser.join()

        def mine(event: Event, tid: int | None = refuser.native_id) -> bool:
            return isinstance(event, NetnsEnterFailed) and event.tid == tid

        try:
            found = [r.until(mine, since, patience / 15) for r, since in zip(recorders, sinces, strict=True)]
        except TimeoutError:
            if time.monotonic() > deadline or any(r.process.poll() is not None for r in recorders):
                raise
            continue
        for recorder, index in zip(recorders, found, strict=True):
            recorder.marks.append(index)
        return


def several_marks(*recorders: Recorder, patience: float = PATIENCE) -> None:
    """`SEVERAL` marks in a row.

    What others do at the very moment of one may come before it in one ring and after it in another, as the two are
    written one after the other. At the next one it is settled.
    """
    for _ in range(SEVERAL):
        mark(*recorders, patience=patience)
