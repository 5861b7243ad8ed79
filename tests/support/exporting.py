"""`watch` with exporters, and other processes that serve tests."""

from __future__ import annotations

import abc
import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from cni_collector import AnyEvent, CniStart, Event, NetnsDestroy, Pod

from .actors import a_netns, execute, reap
from .watch import PATIENCE


def until(wanted: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@contextlib.contextmanager
def watch(
    *options: str | Path, stdout: int | None = None, before: Sequence[str] = (), command: str = "watch"
) -> Iterator[subprocess.Popen[str]]:
    """`watch`, or another command that is stopped by SIGTERM, which ends in order."""
    arguments = [*before, sys.executable, "-m", "cni_collector", command, *map(str, options)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=stdout, text=True) as process:
        try:
            yield process
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def watch_into(
    path: Path, *options: str | Path, stdout: int | None = None, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """The same, writing a file, too; attached once the block is entered."""
    with watch("--file", path, *options, stdout=stdout, before=before) as process:
        until(lambda: path.exists() and path.stat().st_size > 0)
        yield process


def read_events(path: Path) -> list[Event]:
    """The events of the whole lines: the last one may be just being written."""
    return [msgspec.json.decode(line, type=AnyEvent) for line in path.read_bytes().split(b"\n")[:-1]]


def free_port() -> int:
    """A port of the loopback address that nobody listens on, and that is not given to those who connect."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as any_socket, contextlib.suppress(OSError):
            any_socket.bind(("127.0.0.1", port))
            return port


class Server(abc.ABC):
    """A process that serves from the block's beginning to its end, but for when it is killed and started anew."""

    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @abc.abstractmethod
    def start(self) -> None:
        """Starts it."""

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()


def make_plugin(directory: Path) -> Path:
    """A plugin whose name nobody else has."""
    path = directory / f"cni-test-{os.getpid()}"
    shutil.copy("/bin/sh", path)
    return path


POD: Final = Pod("cni-test", f"web-{os.getpid()}")
"""Nobody else's."""
OWN: Final = ("--pod", f"{POD.namespace}/{POD.name}")
"""Lets pass what is about that pod: whatever others do on the machine, what goes to a destination is known."""
VARIABLES: Final = (b"CNI_COMMAND=ADD", f"CNI_ARGS=K8S_POD_NAMESPACE={POD.namespace};K8S_POD_NAME={POD.name}".encode())


def call(plugin: Path, status: int = 0) -> None:
    """One call of it for our pod."""
    pid = execute([*VARIABLES], str(plugin), "-c", f"exit {status}")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status


def a_pods_life(plugin: Path, path: Path) -> None:
    """A namespace becomes our pod's by a call, is left, and dies; all of it is in a file that a collector writes."""

    def told(kind: type[Event]) -> bool:
        return any(isinstance(event, kind) and event.netns for event in read_events(path))

    with a_netns() as (holder, _):
        pid = execute([*VARIABLES, f"CNI_NETNS=/proc/{holder.pid}/ns/net".encode()], str(plugin), "-c", "exit 0")
        reap(pid)
        until(lambda: told(CniStart))  # by then the path was looked at
        holder.end()
    until(lambda: told(NetnsDestroy))
