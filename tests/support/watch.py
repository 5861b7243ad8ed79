"""`cni-collector watch -o json` as a child process; marks in its stream; and its events told in lines to compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from cni_collector import AnyEvent, CollectorStart, CollectorStop, Event, Netns, NetnsDestroy, NetnsEnterFailed

from . import actors

EMULATED: Final = "CNI_TEST_EMULATED" in os.environ
"""In an emulated machine all takes twenty times as long: what only repeats itself is repeated less."""
PATIENCE: Final = 90.0 if EMULATED else 30.0
"""Seconds after which something that is waited for is taken not to come."""
TIER: Final = os.environ.get("CNI_TEST_TIER")
"""The tier that is tested; the best that this kernel offers if None."""
CHECKOUT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-m", "cni_collector", "watch")
LARGE: Final = ("--ring", "64")
"""Room for half a million events: for one that is to lose nothing, whoever makes them."""
SEVERAL: Final = 4

_PAUSES: Final = (0.001, 0.02)
"""Seconds between two looks for new events: at first, and at most."""

_decode = msgspec.json.Decoder(AnyEvent).decode


class Watch:
    """A running `watch`. It writes to a file, so that no reader can hold it up; its events are kept as they are found.

    Args:
        options: of the command.
        before: what stands before the command, and executes it in the end.
        command: the command, where it is not this checkout's.
        home: a directory for the file, and for another with what it says on stderr; a temporary one if None.
        name: of the two files.
        pipe: the command writes to a pipe, and `reader` copies that to the file.
        wait: until it is attached; otherwise it may not even get so far.

    Attributes:
        events: all that have been read so far.
        marks: indices of the events that `mark` has provoked.
    """

    def __init__(
        self,
        *options: str,
        before: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
        home: Path | None = None,
        name: str = "watch",
        pipe: bool = False,
        wait: bool = True,
    ) -> None:
        self.events: list[Event] = []
        self.marks: list[int] = []
        self._gone: set[int] = set()
        """Cookies of the namespaces that were told destroyed."""
        self._rest = b""
        self._temporary = None if home else tempfile.TemporaryDirectory(prefix="watch-")
        place = home or Path(self._temporary.name if self._temporary else "")
        self.path = place / f"{name}.json"
        self._errors = place / f"{name}.err"
        self.reader: subprocess.Popen[bytes] | None = None
        tier = ["--tier", TIER] if TIER else []
        with self.path.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, *command, "-o", "json", *tier, *options],
                stdout=subprocess.PIPE if pipe else out,
                stderr=errors,
                cwd=CHECKOUT,
            )
            if self.process.stdout:
                with self.process.stdout:
                    self.reader = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=out)
        self._file = self.path.open("rb", buffering=0)
        if wait:
            try:
                self.wait(lambda event: isinstance(event, CollectorStart))
            except BaseException:
                self.__exit__()
                raise

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def start(self) -> CollectorStart:
        """The first event of the stream."""
        first = self.events[0]
        assert isinstance(first, CollectorStart)
        return first

    @property
    def sees_functions(self) -> bool:
        """Whether the hooks are in the kernel's functions, and see what does not pass the system-call tracepoints."""
        return self.start.tier != "tracepoint"

    def said(self) -> str:
        """What stands on its stderr."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def read(self) -> list[Event]:
        """The events that have come since this was asked last."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        fresh = [_decode(line) for line in lines]
        self._gone |= {e.netns.cookie for e in fresh if isinstance(e, NetnsDestroy) and e.netns}
        self.events += fresh
        return fresh

    def until(self, wanted: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Reads until something is so.

        Raises:
            TimeoutError: it does not become so, or the stream has ended before.
        """
        deadline = time.monotonic() + patience
        pause, longest = _PAUSES
        while not wanted():
            ended = all(one.poll() is not None for one in (self.process, self.reader) if one)
            if self.read():
                pause = _PAUSES[0]
            elif ended:
                raise TimeoutError(f"{self.path.stem}: the stream ended before the event came. {self.said()}")
            else:
                time.sleep(pause)
                pause = min(2 * pause, longest)
            if time.monotonic() > deadline and not wanted():
                raise TimeoutError(f"{self.path.stem}: no such event came within {patience:g} s. {self.said()}")

    def find(self, wanted: Callable[[Event], bool], since: int = 0, patience: float = PATIENCE) -> int:
        """The index of the first event that is wanted, from `since` on, once there is one.

        Raises:
            TimeoutError: it does not come.
        """
        at = since

        def found() -> bool:
            nonlocal at
            while at < len(self.events):
                if wanted(self.events[at]):
                    return True
                at += 1
            return False

        self.until(found, patience)
        return at

    def wait(self, wanted: Callable[[Event], bool], since: int = 0) -> Event:
        """The same; the event itself."""
        return self.events[self.find(wanted, since)]

    def settle(self) -> None:
        """Reads everything that has happened so far."""
        _provoke([self], PATIENCE)

    def destroyed(self, *cookies: int) -> None:
        """Waits until these namespaces have been told destroyed."""
        left = set(cookies)

        def gone() -> bool:
            left.difference_update(self._gone)
            return not left

        self.until(gone, 3 * PATIENCE)

    def between(self, first: int = 0, second: int = 1) -> list[Event]:
        """The events between two marks."""
        return self.events[self.marks[first] + 1 : self.marks[second]]

    def stop(self) -> CollectorStop:
        """Ends the process in an orderly way, and returns its last event."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> CollectorStop:
        """Waits for the process, which must end well, and returns its last event."""
        status = self.process.wait(PATIENCE)
        if self.reader:
            self.reader.wait(PATIENCE)
        self.read()
        last = self.events[-1]
        if status or not isinstance(last, CollectorStop):
            raise RuntimeError(f"{self.path.stem} ended with status {status}. {self.said()}")
        return last

    def kill(self) -> None:
        """SIGKILL, and nothing else; if it has not ended already."""
        for process in (self.process, self.reader):
            if process and process.poll() is None:
                process.kill()
                process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._file.close()
        if self._temporary:
            self._temporary.cleanup()


def mark(*watches: Watch, patience: float = PATIENCE) -> None:
    """Provokes a refusal that all of them are told of: what has happened by then comes before it."""
    for watch, index in zip(watches, _provoke(watches, patience), strict=True):
        watch.marks.append(index)


def several_marks(*watches: Watch, patience: float = PATIENCE) -> None:
    """`SEVERAL` marks in a row.

    What others do at the very moment of one may come before it in one ring and after it in another, as the two are
    written one after the other. At the next one it is settled.
    """
    for _ in range(SEVERAL):
        mark(*watches, patience=patience)


def _provoke(watches: Sequence[Watch], patience: float) -> list[int]:
    """Provokes a refusal, and waits until all are told of it: where it stands in each.

    By a thread of its own, so that it is no other test's. One whose ring is full counts it as lost: it is tried until
    it arrives everywhere.
    """
    deadline = time.monotonic() + patience
    while True:
        for watch in watches:
            watch.read()
        sinces = [len(watch.events) for watch in watches]
        refuser = threading.Thread(target=actors.refused, args=[lambda: actors.setns(-1, actors.CLONE_NEWNET)])
        refuser.start()
        refuser.join()

        def mine(event: Event, tid: int | None = refuser.native_id) -> bool:
            return isinstance(event, NetnsEnterFailed) and event.tid == tid

        try:
            return [watch.find(mine, since, patience / 15) for watch, since in zip(watches, sinces, strict=True)]
        except TimeoutError:
            if time.monotonic() > deadline or any(watch.process.poll() is not None for watch in watches):
                raise


class Scene:
    """What happened since the scene began, told with names for the namespaces and tasks in it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._since = len(watch.events)

    def events(self, namespaces: Mapping[str, int], tasks: Mapping[str, int]) -> list[Event]:
        """The events about these namespaces (cookies) or by these tasks (tids)."""
        self._watch.settle()
        cookies, tids = set(namespaces.values()), set(tasks.values())
        return [
            event
            for event in self._watch.events[self._since :]
            if (event.netns and event.netns.cookie in cookies) or event.tid in tids
        ]

    def story(self, namespaces: Mapping[str, int], tasks: Mapping[str, int]) -> list[str]:
        """One line an event: `enter A unshare main prev=host`.

        Args:
            namespaces: cookies by name; the host's is added.
            tasks: thread ids by name.
        """
        host = self._watch.start.host_netns
        assert host
        names = {cookie: name for name, cookie in namespaces.items()} | {host.cookie: "host"}
        who = {tid: name for name, tid in tasks.items()}

        def name(netns: Netns) -> str:
            return names.get(netns.cookie, f"stranger {netns.cookie}")

        lines = []
        for event in self.events(namespaces, tasks):
            words = [event.type.removeprefix("netns_")]
            if event.netns:
                words.append(name(event.netns))
            if event.cause:
                words.append(event.cause)
            if event.tid:
                words.append(who.get(event.tid, f"stranger {event.tid}"))
            if event.prev:
                words.append(f"prev={name(event.prev)}")
            if event.next:
                words.append(f"next={name(event.next)}")
            if event.error:
                words.append(event.error)
            lines.append(" ".join(words))
        return lines


def watching(*options: str, before: Sequence[str] = ()) -> Watch:
    """A `watch` that has room for what others do at the same time, such as tests that make as much as they can."""
    return Watch(*LARGE, *options, before=before)
