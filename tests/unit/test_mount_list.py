"""The kernel's list of mounts, as Python reads it out of the map."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cni_collector.kernel.mounts import MountList
from cni_collector.kernel.wire import MOUNTS, MOUNTS_BYTES


class Kernel:
    """A loaded object whose program writes what the test says.

    Attributes:
        results: what the program returns, run by run; the last one again and again.
        runs: how often it was run.
    """

    def __init__(self) -> None:
        self.results = [0]
        self.runs = 0
        self._file = os.memfd_create("mounts")
        os.truncate(self._file, MOUNTS.size + MOUNTS_BYTES)

    def list(self, *mounted: tuple[int, bytes]) -> None:
        entries = b""
        for cookie, path in mounted:
            entries += struct.pack("=QQ", cookie, len(path)) + path + b"\xff" * (-len(path) % 8)
        os.pwrite(self._file, struct.pack("=II", len(entries), 0) + entries, 0)

    def program(self, name: str) -> Any:
        assert name == "cni_mounts"
        return self

    def map(self, name: str) -> Any:
        assert name == "mounts"
        return SimpleNamespace(fd=self._file)

    def run(self) -> int:
        self.runs += 1
        return self.results[min(self.runs, len(self.results)) - 1]

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with contextlib.closing(Kernel()) as made:
        yield made


def read(kernel: Kernel) -> dict[int, list[str]] | None:
    with contextlib.closing(MountList(kernel)) as mounts:  # type: ignore[arg-type]
        return mounts.read()


def test_paths_by_cookie(kernel: Kernel) -> None:
    assert read(kernel) == {}
    kernel.list((10, b"/run/netns/a"), (2**64 - 1, b"/x"), (10, b"/longer/than/8"), (11, b"/of-8/by"))
    assert read(kernel) == {10: ["/run/netns/a", "/longer/than/8"], 2**64 - 1: ["/x"], 11: ["/of-8/by"]}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a b\tc\nd\\e", "/a b\tc\nd\\e"),
        ("/netz/grün".encode(), "/netz/grün"),
        (b"/not-\xff-text", "/not-\\xff-text"),
    ],
)
def test_paths_are_read_as_they_are(kernel: Kernel, raw: bytes, path: str) -> None:
    kernel.list((10, raw))
    assert read(kernel) == {10: [path]}


def test_a_walk_that_did_not_come_to_its_end_is_repeated(kernel: Kernel) -> None:
    kernel.list((10, b"/a"))
    kernel.results = [1, 1, 0]
    assert read(kernel) == {10: ["/a"]}
    assert kernel.runs == 3


def test_mounts_that_change_all_the_time_are_not_known(kernel: Kernel) -> None:
    kernel.list((10, b"/a"))
    kernel.results = [1]
    assert read(kernel) is None
    assert 1 < kernel.runs < 100
