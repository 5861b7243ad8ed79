"""Events in the stream of a cluster: NATS JetStream, one subject a node and type."""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.parse
from typing import Any, Final, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js.api import Header
from nats.js.errors import NoStreamResponseError

from ..errors import CollectorError
from ..events import CollectorStart, Event
from .relay import Idents

SUBJECTS: Final = "cni.>"
"""Where events are: `cni.<node>.<type>`."""
_ANSWER: Final = 5.0
"""Seconds that the server has to say that it has stored a batch."""


def token(node: str) -> str:
    """A node's name as a part of a subject: dots, which separate such parts, are written as `_`.

    What else a subject cannot have, and `_` itself, is written as %XX: so no two nodes have one token.
    """
    return re.sub(
        "[^A-Za-z0-9.-]", lambda match: urllib.parse.quote(match[0], safe="").replace("_", "%5F"), node
    ).replace(".", "_")


def node_of(subject: str) -> str:
    """The node whose event has this subject."""
    return urllib.parse.unquote(subject.split(".")[1].replace("_", "."))


def check_url(url: str) -> None:
    """Raises CollectorError unless these are URLs of NATS servers, separated by commas."""
    for one in url.split(","):
        try:
            parts = urllib.parse.urlsplit(one)
            good = parts.scheme in ("nats", "tls", "ws", "wss") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise CollectorError("this is not the URL of a NATS server; use nats://host:4222")


def server_name(url: str) -> str:
    """The server as messages may show it: without a password."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"


async def connect(client: Client, url: str, **options: Any) -> None:
    """Connects, and goes on trying for ever; as does the client later, unless it may not reconnect."""

    async def keep(_error: Exception) -> None:
        pass  # the client has it as `last_error`; printing it is nobody's task

    await client.connect(
        url, max_reconnect_attempts=-1, connect_timeout=2, reconnect_time_wait=1, error_cb=keep, **options
    )


class _Message(NamedTuple):
    ident: str
    subject: str
    payload: bytes


def _why_not_stored(answer: asyncio.Future[Any]) -> BaseException | None:
    if not answer.done():
        return TimeoutError(f"no answer within {_ANSWER:.0f} s")
    if answer.cancelled():
        return ConnectionClosedError()
    return answer.exception()


class NatsExporter:
    """Publishes every event, and waits until the server has stored it.

    A message that has to be sent again has the same id, so that the stream keeps it once, if its server has not
    forgotten the id meanwhile (`duplicate_window`, two minutes unless the stream says otherwise).

    The stream has them in their order: a client serves for one connection, as one that reconnects sends what it has
    buffered before what went with the old connection is sent again; and after a failure one message goes alone, as
    a server that is coming up may refuse the first and store the next.

    Args:
        url: the server's, as `nats://127.0.0.1:4222`; several are separated by commas.
    """

    def __init__(self, url: str) -> None:
        self.name = "nats"
        self._servers = ",".join(map(server_name, url.split(",")))
        self._subject = "cni.unknown."
        self._idents = Idents()
        self._encoder = msgspec.json.Encoder()
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="nats", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._connect()
        self._loop.run_forever()
        self._loop.close()

    def _connect(self) -> None:
        client = Client()
        answers: list[asyncio.Future[Any]] = []

        async def closed() -> None:  # perhaps when the next connection is there already
            for answer in answers:
                answer.cancel()

        async def connecting() -> None:
            try:
                await connect(client, self._url, allow_reconnect=False, closed_cb=closed)
            except (NatsError, OSError, TimeoutError):  # the client has it as `last_error`
                await client.close()

        self._client = client
        self._stream: Any = client.jetstream(timeout=_ANSWER)
        self._connecting = self._loop.create_task(connecting())
        self._answers = answers
        self._stores = False
        """Whether what was sent last was stored."""

    def prepare(self, events: list[Event]) -> list[_Message]:
        messages = []
        for event in events:
            if isinstance(event, CollectorStart):
                self._subject = f"cni.{token(event.node)}."
            messages.append(_Message(self._idents.next(), self._subject + event.type, self._encoder.encode(event)))
        return messages

    def deliver(self, messages: list[_Message]) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._publish(messages), self._loop).result()
        except NoStreamResponseError:
            raise OSError(
                f"{self._servers} has no stream that takes {SUBJECTS}: create one "
                f"(nats stream add cni --subjects '{SUBJECTS}' --discard new)"
            ) from None
        except (NatsError, TimeoutError) as error:
            raise OSError(f"{self._servers}: {error}") from error

    async def _publish(self, messages: list[_Message]) -> None:
        """Sends what is left of a parcel, and leaves there what was not stored."""
        if self._connecting.done() and not self._client.is_connected:
            self._connect()
        await asyncio.wait([self._connecting], timeout=_ANSWER)
        if not self._client.is_connected:
            reason = self._client.last_error
            raise TimeoutError(f"not connected{f' ({reason})' if reason else ''}")
        while messages:
            count = len(messages) if self._stores else 1
            self._stores = False
            await self._store(messages, count)
            self._stores = True

    async def _store(self, messages: list[_Message], count: int) -> None:
        """Sends the first so many, and takes away what was stored."""
        self._answers.clear()
        try:
            for message in messages[:count]:
                answer = await self._stream.publish_async(
                    message.subject, message.payload, wait_stall=_ANSWER, headers={Header.MSG_ID: message.ident}
                )
                self._answers.append(answer)
            await asyncio.wait(self._answers, timeout=_ANSWER)
        finally:
            errors = [_why_not_stored(answer) for answer in self._answers]
            for answer in self._answers:
                answer.cancel()
            sent = zip(messages, errors, strict=False)
            messages[: len(errors)] = [message for message, error in sent if error]
        if failed := next(filter(None, errors), None):
            raise failed

    async def _disconnect(self) -> None:
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        await self._client.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
