"""The collector: start, iterate, stop."""

from __future__ import annotations

import collections
import contextlib
import copy
import mmap
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Final, Self

from .errors import ClosedError, CollectorError, of_the_system
from .events import Checkpoint, CollectorStart, CollectorStop, Event, Lost, type_name
from .identity.cgroups import CgroupPaths
from .kernel.hooks import ALL, TIERS, EventTypes
from .stream.session import Session, Stats

RING_BYTES: Final = 4 << 20
"""Default size of the ring buffer: room for some 37,000 events while the reader is away."""
COALESCE: Final = 0.005
"""Default pause between the first event's wake-up and the reading, in seconds."""
RAREST_AUDIT: Final = 86_400
"""Most seconds from one audit to the next."""

_LARGEST_RING: Final = 1 << 31
"""The largest power of two that fits into `max_entries` of a BPF map, 32 bits."""
_BY_NAME: Final = {type_name(kind): kind for kind in sorted(ALL, key=type_name)}
_IN_EVERY_STREAM: Final = ", ".join(type_name(kind) for kind in (CollectorStart, Lost, Checkpoint, CollectorStop))


class Collector:
    """Reports what happens to network namespaces on this machine.

    Usable as a context manager, with `with` and `async with`: attached once the block is entered, stopped when it is
    left. `async with` attaches and detaches in a thread, so the event loop goes on meanwhile. Where it is cancelled, it
    ends what it has begun first: nothing stays attached.

    Args:
        name: how the collector is called in logs and errors.
        types: the types of event to report, as classes or as in `Event.type`: `[NetnsCreate, "netns_exit"]`; all by
            default. The kernel does no work for others.
        tier: which set of hooks to use: `fentry`, `kprobe` or `tracepoint`; the best that works by default.
        ring_bytes: size of the kernel's ring buffer: a power of two, from the size of a page to 2 GiB.
        coalesce: seconds to let events gather after the first one wakes the reader; 0 reads at once.
        node: how the machine is called in `collector_start`; by its host name by default.
        kubelet_roots: cgroups below which a kubelet makes those of pods, where it is told to: paths as
            `/system.slice/k3s.service`. The root of all cgroups, and containers that are nodes, need not be named.
        audit: seconds from one audit to the next, 1 to 86,400; by default there are none at intervals, see `audit`.

    Raises:
        ValueError: an argument that makes no sense, of whatever kind.
    """

    def __init__(
        self,
        name: str = "cni",
        *,
        types: Collection[str | type[Event]] | None = None,
        tier: str | None = None,
        ring_bytes: int = RING_BYTES,
        coalesce: float = COALESCE,
        node: str | None = None,
        kubelet_roots: Collection[str] = (),
        audit: float | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise ValueError(f'name must be text, not {name!r}: write Collector("cni")')
        if tier is not None and (not isinstance(tier, str) or tier not in TIERS):
            raise ValueError(f"there is no tier {tier!r}: choose one of {', '.join(TIERS)}, or None for the best here")
        if not _is_ring_size(ring_bytes):
            raise ValueError(
                f"ring_bytes must be a power of two of at least {mmap.PAGESIZE} and at most {_LARGEST_RING}, "
                f"not {ring_bytes!r}"
            )
        if not isinstance(coalesce, int | float) or not 0 <= coalesce <= 60:
            raise ValueError(f"coalesce must be between 0 and 60 seconds, not {coalesce!r}")
        if node is not None and not isinstance(node, str):
            raise ValueError(f"node must be text, or None for the host name, not {node!r}")
        if audit is not None and (
            isinstance(audit, bool) or not isinstance(audit, int | float) or not 1 <= audit <= RAREST_AUDIT
        ):
            huge = isinstance(audit, int) and abs(audit) > 1e99  # Python does not write any integer out
            raise ValueError(
                f"audit must be between 1 second and {RAREST_AUDIT:,} (a day), or None for no audits at intervals, "
                f"not {'so many' if huge else repr(audit)}"
            )
        self.name = name
        self._wanted = ALL if types is None else _chosen(types)
        self._tier = tier
        self._ring_bytes = ring_bytes
        self._coalesce = coalesce
        self._node = node
        self._paths = CgroupPaths(kubelet_roots)
        self._audit = audit
        # Both are reentrant, because stop() may be called by a signal handler.
        self._starting = threading.RLock()
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._stopping = False
        self._reader: _Reader | None = None
        # What a signal handler of the same thread must not do in between. An exception of one cannot leave these set:
        # each is set inside `try`, and the first thing in `finally`, without a call before it, is to set it back.
        self._attaching = False
        self._working = False  # the session is being read, or closed, under the lock
        self._holder: tuple[_Reader] | None = None  # waits: then the session stays open, and nobody else may read
        self._error: Exception | None = None
        self._pending: collections.deque[list[Event]] = collections.deque()
        self._last: list[Event] | None = None  # what comes after all that is pending
        self._stats = Stats()

    def start(self) -> None:
        """Attaches to the kernel, and takes stock of the namespaces that exist.

        Raises:
            UnsupportedError: this platform, kernel or libbpf cannot do it.
            PrivilegeError: the process may not.
            CollectorError: any other reason; also a second start.
        """
        with self._starting:
            if self._session or self._attaching:
                raise CollectorError(f"collector {self.name!r} was started already: make a new one")
            self._stopping = False
            try:
                self._attaching = True
                session = Session(self._wanted, self._tier, self._ring_bytes, self._node, self._paths, self._audit)
                self._pending, self._session = collections.deque([session.opening]), session
            except OSError as error:
                raise of_the_system("start collecting", error) from error
            finally:
                self._attaching = False
        if self._stopping:
            self.stop()

    def stop(self) -> None:
        """Detaches from the kernel. Iteration goes on until what was reported is read, then ends.

        May be called from any thread, from a signal handler, and more than once. It returns when all is detached; in a
        signal handler that interrupts `start` or `stop` it returns at once, and the interrupted call detaches.
        """
        with self._starting:  # a start that is under way in another thread ends first
            session = self._session
            if self._attaching:
                self._stopping = True
                return
        if not session or session.closed:
            return
        self._stopping = True
        session.detach()  # takes a while, in which others may read: so without the lock
        self._settle()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        import asyncio

        try:
            await _in_a_thread(self.start)
        except asyncio.CancelledError:
            await _in_a_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _in_a_thread(self.stop)

    def events(self) -> EventStream:
        """All events, one by one, for `for` and for `async for`. Ends when the collector is stopped.

        One loop at a time. A loop may be left at any event, and the next one goes on with the event after it; the one
        that was left cannot be taken up again then.

        Raises (when iterated):
            ClosedError: the collector was not started.
            CollectorError: reading failed; another loop is waiting for events, or took over from this one.
        """
        return EventStream(self)

    def batches(self) -> Iterator[list[Event]]:
        """All events, in lists as they were read: what `events` is made of. No list is empty.

        Raises (when iterated):
            ClosedError: the collector was not started.
            CollectorError: reading failed; another loop is waiting for events, or took over from this one.
        """
        return self._batches(_Reader(by_event=False))

    def audit(self) -> None:
        """Asks for an audit: what exists is compared with what was told, and a `Checkpoint` comes among the events.

        It comes soon or, where something was missed, a second later. There is one also when the kernel has skipped
        programs. May be called from any thread, and from a signal handler.

        Raises:
            ClosedError: the collector is not running.
        """
        session = self._session
        if not session or session.closed or self._stopping:
            raise ClosedError(f"collector {self.name!r} is not running")
        session.audit()

    @property
    def stats(self) -> Stats:
        """What was counted so far, or until the stop."""
        with self._lock:
            if self._session and not self._session.closed:
                self._stats = self._session.stats()
            return self._stats

    @property
    def healthy(self) -> bool:
        """Whether the collector is attached and its reader has not failed."""
        return self._session is not None and not self._stopping and self._error is None

    def fileno(self) -> int:
        """A descriptor that polls as readable when there may be events to read, for event loops of other kinds.

        It is readable also where no event comes of it: at a look for what was lost, or an audit. Then the next
        `next(batches())` waits until there is an event. Where nothing may wait, read in a thread, or use `async for`.

        Raises:
            ClosedError: the collector is not running.
        """
        with self._lock:
            if not self._session or self._session.closed:
                raise ClosedError(f"collector {self.name!r} is not running")
            return self._session.fileno()

    def _batches(self, reader: _Reader) -> Iterator[list[Event]]:
        while (batch := self._next(reader)) is not None:
            if batch:
                if not reader.by_event:
                    reader.rest = _NOTHING
                yield batch
                if reader.session and self._more(reader.session):
                    continue
            hold = (reader,)
            try:
                session = self._begin(reader, hold)
                if not batch and not session.closed:  # nothing has come during a whole pause
                    session.wait()
                time.sleep(self._coalesce)
            finally:
                if self._holder is hold:
                    self._holder = None
                self._settle()

    async def _fetch(self, reader: AsyncEvents) -> bool:
        """Has `reader.rest` give the next batch, once there is one; False at the end.

        It may be cancelled wherever it waits: nothing has been read then, and the next time it does not wait as long.
        """
        import asyncio  # here, because importing it takes as long as all the rest

        hold = (reader,)
        try:
            session = self._begin(reader, hold)
            if reader.gave:
                reader.gave = False
                await asyncio.sleep(0 if self._more(session) else self._coalesce)  # others get their turn anyway
            while True:
                with self._lock:
                    batch = self._take(session, reader)
                if batch is None:
                    return False
                if batch:
                    reader.gave = True
                    return True
                loop, ready = asyncio.get_running_loop(), asyncio.Event()
                loop.add_reader(session.fileno(), ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_reader(session.fileno())
                await asyncio.sleep(self._coalesce)
        finally:
            if self._holder is hold:
                self._holder = None
            self._settle()

    def _next(self, reader: _Reader) -> list[Event] | None:
        """The next batch for this reader; an empty one where it is time to wait, None at the end."""
        with self._lock:
            session = reader.session
            if not session or self._reader is not reader or self._working or self._holder:
                session = self._admit(reader)
            batch = self._take(session, reader)
            if session.detached:  # meanwhile: it may be that this reader does not come again
                self._finish(session)
            return batch

    def _begin(self, reader: _Reader, hold: tuple[_Reader]) -> Session:
        """As long as `hold` is the holder nobody else may read or close the session."""
        with self._lock:
            session = self._admit(reader)
            self._holder = hold
            return session

    def _settle(self) -> None:
        """Finishes a session that is detached, unless somebody is about to."""
        with self._lock:
            session = self._session
            if session and session.detached and not self._working and not self._holder:
                self._finish(session)

    def _admit(self, reader: _Reader) -> Session:
        """The session, if this reader may have it: one that is new takes over from the one before it."""
        session, last = self._session, self._reader
        if not session:
            raise ClosedError(f"collector {self.name!r} was not started: call start() or use it in a with block")
        if last is not reader and reader.session:
            raise CollectorError(f"collector {self.name!r} has one reader at a time: another loop took over")
        if self._working or self._holder:
            raise CollectorError(f"collector {self.name!r} is being read already: one reader at a time")
        if last is not reader:
            self._take_back()
            self._reader = reader
            reader.session = session
        return session

    def _take_back(self) -> None:
        """What the last loop has not given of its batch is for the next one."""
        last = self._reader
        if last and (rest := list(copy.copy(last.rest))):
            taken, last.rest = last.rest, _NOTHING
            self._pending.appendleft(rest)
            list(taken)  # the loop itself may hold it, too

    def _leave(self, reader: _Reader) -> None:
        """This reader does not come again."""
        with self._lock:
            if self._holder and self._holder[0] is reader:
                raise RuntimeError("aclose(): another task waits for the next event of this loop")
            if self._reader is reader:
                self._take_back()
                self._reader = None

    def _take(self, session: Session, reader: _Reader) -> list[Event] | None:
        """The next batch, under the lock; an empty one where it is time to wait, None at the end."""
        if session.detached:
            self._finish(session)
        if not self._pending:
            if self._error:
                raise self._error
            try:
                self._working = True
                if session.closed:
                    last, self._last = self._last, None
                    if not last:
                        return None
                    self._pending.append(last)
                elif batch := session.read():
                    self._pending.append(batch)
                else:
                    return batch
            except CollectorError as error:  # any other is of a signal handler: the session goes on
                self._fail(session, error)
                raise
            finally:
                self._working = False
        batch = self._pending[0]
        rest = iter(batch)
        # Without a call in between: what interrupts this loses no batch, and gives none twice.
        reader.rest = rest
        del self._pending[0]
        return batch

    def _more(self, session: Session) -> bool:
        """Whether to go on without a pause."""
        return session.more or session.detached

    def _finish(self, session: Session) -> None:
        """Reads what is left, so that nothing need stay open for whoever comes to fetch it.

        Where an exception interrupts it, the next stop or loop goes on.
        """
        try:
            self._working = True
            if session.closed:
                return
            while batch := session.read():
                self._pending.append(batch)
            self._stats = session.stats()
            self._last = [session.closing()]
            session.close()
        except CollectorError as error:
            self._fail(session, error)
        finally:
            self._working = False

    def _fail(self, session: Session, error: Exception) -> None:
        self._error = error
        self._stopping = True
        self._stats = session.stats()
        session.close()


_NOTHING: Final[Iterator[Event]] = iter(())


class _Reader:
    """One loop over a collector's events.

    Attributes:
        by_event: it gives events one by one, out of `rest`.
        rest: what it has not given yet of a batch; a loop that takes over takes it away.
        session: what it reads from, once it has asked for events.
    """

    def __init__(self, by_event: bool) -> None:
        self.by_event = by_event
        self.rest: Iterator[Event] = _NOTHING
        self.session: Session | None = None


class EventStream:
    """Events one by one, for `for` and for `async for`: what `Collector.events` gives."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def __iter__(self) -> Iterator[Event]:
        reader = _Reader(by_event=True)
        for _ in self._collector._batches(reader):
            yield from reader.rest

    def __aiter__(self) -> AsyncEvents:
        return AsyncEvents(self._collector)


class AsyncEvents(_Reader):
    """One `async for`: what `aiter` makes of an `EventStream`. A wait for its next event may be cancelled.

    No generator: an event loop ends those some time after a `break`, and a wait that is cancelled would end it at once.

    Attributes:
        gave: it has given a batch, and not paused since.
    """

    def __init__(self, collector: Collector) -> None:
        super().__init__(by_event=True)
        self._collector = collector
        self._closed = False
        self.gave = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            for event in self.rest:
                return event
            if self._closed:
                raise StopAsyncIteration
            if not await self._collector._fetch(self):
                raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends this loop. The next one goes on with the next event. Safe to call twice.

        Raises:
            RuntimeError: another task waits for this loop's next event; cancel that first.
        """
        self._collector._leave(self)
        self._closed = True


def _chosen(types: Collection[str | type[Event]]) -> EventTypes:
    """The classes of these types, given as classes or by name."""
    if isinstance(types, str | bytes | type):
        example = types.__name__ if isinstance(types, type) else repr(types)
        raise ValueError(f"types must be a list, not {example} alone: write types=[{example}]")
    try:
        asked_for = list(types)
    except TypeError:
        raise ValueError(f'types must be a list, not {types!r}: write types=["netns_create"]') from None
    choice = f"choose from {', '.join(_BY_NAME)}"
    if not asked_for:
        raise ValueError(f"types is empty, so nothing would be reported: {choice}, or leave it out for all")
    kinds = [_BY_NAME.get(kind) if isinstance(kind, str) else kind for kind in asked_for]
    unknown = [asked for asked, kind in zip(asked_for, kinds, strict=True) if kind not in _BY_NAME.values()]
    if unknown:
        names = ", ".join(one.__name__ if isinstance(one, type) else repr(one) for one in unknown)
        raise ValueError(f"unknown event types {names}: {choice}; {_IN_EVERY_STREAM} are in every stream")
    return frozenset(filter(None, kinds))


def _is_ring_size(size: object) -> bool:
    return isinstance(size, int) and mmap.PAGESIZE <= size <= _LARGEST_RING and not size & (size - 1)


async def _in_a_thread(work: Callable[[], None]) -> None:
    """Runs it in a thread, to its end also where this is cancelled: the cancellation comes after it.

    A thread of its own: those of the event loop may all be busy, and for as long as it takes this to run.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the event loop was closed, and nobody waits
            loop.call_soon_threadsafe(*((done.set_exception, error) if error else (done.set_result, None)))

    threading.Thread(target=run, name="cni-collector").start()
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled from done.exception()
    done.result()
