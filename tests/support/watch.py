"""`cni-collector watch -o json` as a child process, and its events told in lines that tests can compare."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import msgspec

from cni_collector import AnyEvent, CollectorStart, CollectorStop, Event, Netns, NetnsDestroy, NetnsEnterFailed

from . import actors

EMULATED = "CNI_TEST_EMULATED" in os.environ
"""In an emulated machine all takes twenty times as long: what only repeats itself is repeated less."""
PATIENCE = 90.0 if EMULATED else 30.0
"""Seconds after which something that is waited for is taken not to come."""
TIER = os.environ.get("CNI_TEST_TIER")
"""The tier that is tested; the best that this kernel offers if None."""


class Watch:
    """A running `watch`. Its events are read as they come, and kept.

    Args:
        options: of the command.
        before: what stands before the command, and executes it in the end.
        command: the command, where it is not this checkout's.
    """

    def __init__(
        self,
        *options: str,
        before: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "cni_collector", "watch"),
    ) -> None:
        tier = ["--tier", TIER] if TIER else []
        self._process = subprocess.Popen([*before, *command, "-o", "json", *tier, *options], stdout=subprocess.PIPE)
        assert self._process.stdout
        self._fd = self._process.stdout.fileno()
        self._rest = b""
        self.events: list[Event] = []
        try:
            self.wait(lambda event: isinstance(event, CollectorStart))
        except BaseException:
            self.__exit__()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

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

    def wait(self, wanted: Callable[[Event], bool], since: int = 0) -> Event:
        """The first event that is wanted, of those with an index from `since` on."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for index in range(since, len(self.events)):
                if wanted(self.events[index]):
                    return self.events[index]
            since = len(self.events)
            if not self._read(deadline):
                raise AssertionError("the stream ended before the event came")

    def _read(self, deadline: float) -> bool:
        """Reads what has come, after waiting for it. Says whether the stream goes on."""
        if not select.select([self._fd], [], [], max(0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"no event came within {PATIENCE} s")
        chunk = os.read(self._fd, 1 << 20)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.events += [msgspec.json.decode(line, type=AnyEvent) for line in lines]
        return bool(chunk)

    def settle(self) -> None:
        """Reads everything that has happened so far: provokes a refusal, and waits until it is told.

        By a thread of its own: so it is not taken for a refusal that another `Watch` has provoked.
        """
        since = len(self.events)
        refuser = threading.Thread(target=actors.refused, args=[lambda: actors.setns(-1, actors.CLONE_NEWNET)])
        refuser.start()
        refuser.join()
        self.wait(lambda e: isinstance(e, NetnsEnterFailed) and e.tid == refuser.native_id, since)

    def destroyed(self, *cookies: int) -> None:
        """Waits until these namespaces have been reported destroyed."""
        for cookie in cookies:
            self.wait(lambda e, c=cookie: isinstance(e, NetnsDestroy) and e.netns is not None and e.netns.cookie == c)  # type: ignore[misc]

    def stop(self) -> CollectorStop:
        """Ends the process in an orderly way, and returns its last event."""
        self._process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> CollectorStop:
        """Reads to the end of the stream; the process must have ended well."""
        while self._read(time.monotonic() + PATIENCE):
            pass
        assert self._process.wait(PATIENCE) == 0
        last = self.events[-1]
        assert isinstance(last, CollectorStop)
        return last

    def kill(self) -> None:
        """SIGKILL, and nothing else."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


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


@contextlib.contextmanager
def watching(*options: str) -> Iterator[Watch]:
    """A `watch` that is gone afterwards."""
    with Watch(*options) as watch:
        yield watch
