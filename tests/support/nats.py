"""A nats-server of the tests' own, with one stream."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import nats
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig

from .actors import CLONE_NEWNET, setns
from .exporting import Server, free_port
from .watch import PATIENCE

STREAM = "cni"


class Stored(NamedTuple):
    """One message of the stream."""

    subject: str
    ident: str
    payload: bytes


class NatsServer(Server):
    """A server with JetStream, that keeps what it has stored when it is killed.

    Args:
        home: an empty directory.
        store: bytes that the server may store.
        address: where it listens.
        host: name of the network namespace that it is in, where that is one of the test's own.
    """

    def __init__(self, home: Path, store: int = 1 << 30, address: str = "127.0.0.1", host: str | None = None) -> None:
        self._listen = f"{address}:{free_port()}"
        self.url = f"nats://{self._listen}"
        self._host = host
        self._home = home
        self.configure(store)

    @property
    def _config(self) -> Path:
        return self._home / "nats.conf"

    @property
    def _log(self) -> Path:
        return self._home / "nats.log"

    def refusals(self) -> int:
        """How often it has refused a client."""
        return self._log.read_text(encoding="utf-8").count("authentication error") if self._log.exists() else 0

    def configure(self, store: int, more: str = "") -> None:
        """Says what it may store, and other settings, from its next start on."""
        self._config.write_text(
            f'listen: "{self._listen}"\nlog_file: "{self._log}"\n'
            f'jetstream {{ store_dir: "{self._home}", max_file_store: {store} }}\n{more}'
        )

    def start(self) -> None:
        """Starts it, where it listens in a moment."""
        before = ["ip", "netns", "exec", self._host] if self._host else []
        command = [*before, "nats-server", "--config", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, question: Callable[[JetStreamContext], Awaitable[Any]]) -> Any:
        """Does something with its streams, once it is there."""

        async def asked() -> Any:
            client = await nats.connect(self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_silent)
            streams = client.jetstream(timeout=PATIENCE)
            try:
                deadline = time.monotonic() + PATIENCE
                while True:
                    try:
                        return await question(streams)
                    except nats.js.errors.ServiceUnavailableError:  # JetStream comes up after the server
                        if time.monotonic() > deadline:
                            raise
                    except nats.errors.NoRespondersError:
                        if time.monotonic() > deadline:
                            raise
                    await asyncio.sleep(0.1)
            finally:
                await client.close()

        def ask() -> Any:
            if self._host:
                fd = os.open(f"/run/netns/{self._host}", os.O_RDONLY)
                setns(fd, CLONE_NEWNET)
                os.close(fd)
            return asyncio.run(asked())

        # By a thread of its own, which may join the server's network namespace.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(ask).result()

    def add_stream(self, **options: Any) -> None:
        """The stream of events, which refuses what finds no room."""
        self.ask(lambda streams: streams.add_stream(_stream(options)))

    def update_stream(self, **options: Any) -> None:
        """Changes it."""
        self.ask(lambda streams: streams.update_stream(_stream(options)))

    def count(self) -> int:
        """How many messages are stored."""

        async def counted(streams: JetStreamContext) -> int:
            return (await streams.stream_info(STREAM)).state.messages

        return int(self.ask(counted))

    def taken(self) -> int:
        """How many messages were ever stored: also those that the server has given up since."""

        async def counted(streams: JetStreamContext) -> int:
            return (await streams.stream_info(STREAM)).state.last_seq

        return int(self.ask(counted))

    def size(self) -> int:
        """How many bytes they take."""

        async def sized(streams: JetStreamContext) -> int:
            return (await streams.stream_info(STREAM)).state.bytes

        return int(self.ask(sized))

    def stored(self, after: int = 0) -> list[Stored]:
        """All messages but the first, in their order.

        Args:
            after: how many to leave out; it must be a stream that gives none up.
        """

        async def read(streams: JetStreamContext) -> list[Stored]:
            left = (await streams.stream_info(STREAM)).state.messages - after
            config = ConsumerConfig(
                mem_storage=True, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1
            )
            reader = await streams.pull_subscribe("cni.>", config=config)
            found: list[Stored] = []
            while len(found) < left:
                for message in await reader.fetch(1000, timeout=PATIENCE):
                    found.append(Stored(message.subject, (message.headers or {})["Nats-Msg-Id"], message.data))
                    await message.ack()
            return found

        stored: list[Stored] = self.ask(read)
        return stored


def _stream(options: dict[str, Any]) -> StreamConfig:
    return StreamConfig(STREAM, subjects=["cni.>"], storage=StorageType.FILE, discard=DiscardPolicy.NEW, **options)


async def _silent(_error: Exception) -> None:
    pass
