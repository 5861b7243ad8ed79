"""Events out of the stream of a cluster, from all its nodes."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from ..errors import CollectorError
from ..events import Event
from ..exporters.nats import SUBJECTS, check_url, connect, node_of, server_name
from .lines import Lines

_BATCH: Final = 512
_PATIENCE: Final = 5.0
"""Seconds within which the server must answer at first."""
_LINGER: Final = 2.0
"""Seconds that one request for messages waits on the server."""
_SKEW: Final = datetime.timedelta(minutes=1)
"""How far the clocks of nodes and server may be apart."""
_FORGET: Final = 60.0
"""Seconds after which the server forgets a reader that has gone."""

Result = TypeVar("Result")


class NatsSource:
    """Reads events as they are stored, and follows the stream until it is stopped.

    Args:
        url: the server's.
        since: time from which on, as events have it; from now on, if None.
    """

    def __init__(self, url: str, since: str | None) -> None:
        check_url(url)
        self._url = url
        self._since = since
        self._lines = Lines(since)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._stopped = asyncio.Event()
        """The same, for who waits in the loop."""
        self._client = Client()
        self._consumer: Any = None
        """Through which messages come; None until it is there, and after whatever trouble."""
        self._last: int | None = None
        """Number of the last message in the stream that was read."""
        self._read = 0
        """How many the consumer has given."""

    @property
    def unknown(self) -> Mapping[str, int]:
        return self._lines.unknown

    def stop(self) -> None:
        """Ends `batches` after the present one. Safe in a signal handler, and from any thread."""
        self._stopping = True
        if (loop := self._loop) and not loop.is_closed():
            loop.call_soon_threadsafe(self._stopped.set)

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists, each with its node.

        Raises:
            CollectorError: the server does not answer at first, or has no stream of events; at the end: there were
                messages that are no events.
        """
        if asyncio.events._get_running_loop():
            raise CollectorError(
                "cannot follow a cluster's stream in the thread of a running event loop: iterate in another one, as by "
                "asyncio.to_thread"
            )
        loop = self._loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._connect())
            while not self._stopping:
                messages = loop.run_until_complete(self._unless_stopped(self._fetch()))
                if batch := list(self._events(messages or [])):
                    yield batch
        finally:
            loop.run_until_complete(self._disconnect())
            loop.close()
        if self._lines.bad:
            raise CollectorError(
                f"{self._lines.bad} messages of {server_name(self._url)} are no events, and were left out"
                f"{self._lines.reason}: "
                f"see who else publishes on {SUBJECTS}"
            )

    async def _unless_stopped(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stopped.cancel()
            await asyncio.wait([task, stopped])

    async def _disconnect(self) -> None:
        """Closes the connection, and waits for what the client has left going."""
        await self._client.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _connect(self) -> None:
        try:
            await asyncio.wait_for(connect(self._client, self._url), _PATIENCE)
            streams = self._client.jetstream(timeout=_PATIENCE)
            info = await streams.stream_info(await streams.find_stream_name_by_subject(SUBJECTS))
            self._last = info.state.last_seq if self._since is None else None
        except NotFoundError:
            raise CollectorError(
                f"cannot read events from {server_name(self._url)}: it has no stream that takes {SUBJECTS}"
            ) from None
        except (NatsError, TimeoutError, OSError, ValueError) as error:
            reason = self._client.last_error or error or "no answer"
            raise CollectorError(f"cannot read events from {server_name(self._url)}: {reason}") from error

    async def _subscribe(self) -> None:
        """Makes a consumer that begins where the last one ended."""
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=_FORGET, mem_storage=True)
        if self._last is not None:
            config.deliver_policy, config.opt_start_seq = DeliverPolicy.BY_START_SEQUENCE, self._last + 1
        elif self._since is not None:
            start = datetime.datetime.fromisoformat(f"{self._since[:19]}+00:00") - _SKEW
            config.deliver_policy, config.opt_start_time = DeliverPolicy.BY_START_TIME, start
        self._read = 0
        self._consumer = await self._client.jetstream(timeout=_PATIENCE).pull_subscribe(SUBJECTS, config=config)

    async def _fetch(self) -> list[Msg]:
        """The next messages. Whatever breaks, the reading goes on behind the last one that came."""
        try:
            if self._consumer is None:
                await self._subscribe()
            try:
                messages: list[Msg] = await self._consumer.fetch(_BATCH, timeout=_LINGER)
            except TimeoutError:
                await self._consumer.consumer_info()  # raises, where the server has forgotten it
                return []
        except (NatsError, TimeoutError):
            self._consumer = None
            await asyncio.sleep(1)
            return []
        for index, message in enumerate(messages):
            sequence = message.metadata.sequence
            if sequence.consumer != self._read + 1:  # some were lost on the way
                self._consumer = None
                return messages[:index]
            self._read, self._last = sequence.consumer, sequence.stream
        return messages

    def _events(self, messages: list[Msg]) -> Iterator[Event]:
        for message in messages:
            if event := self._lines.parse(message.data):
                yield msgspec.structs.replace(event, node=node_of(message.subject))
