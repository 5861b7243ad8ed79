"""An iterator's link and descriptor are closed, whatever interrupts it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from cni_collector.errors import AttachError
from cni_collector.kernel import libbpf, objects


class Interrupted(Exception):
    """What a signal handler raises."""


class Library:
    """libbpf, as far as it is asked here.

    Attributes:
        open: links that are not destroyed.
        fd: what is read; less than 0: what creating it says.
    """

    def __init__(self, fd: int) -> None:
        self.open = 0
        self.fd = fd

    def bpf_program__section_name(self, _program: int) -> bytes:
        """Some iterator's."""
        return b"iter/task"

    def bpf_program__attach_iter(self, _program: int, _options: Any) -> int:
        """Always succeeds."""
        self.open += 1
        return 1

    def bpf_link__fd(self, _link: int) -> int:
        """Some descriptor."""
        return 1000

    def bpf_iter_create(self, _link: int) -> int:
        """What is read."""
        return self.fd

    def bpf_link__destroy(self, _link: int) -> None:
        """Is counted."""
        self.open -= 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    fd, end = os.pipe()
    os.write(end, b"written")
    os.close(end)
    library = Library(fd)
    monkeypatch.setattr(objects, "libbpf", lambda: library)
    return library


def _iterate() -> bytes:
    return objects.Program("cni_one", 1).iterate()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_all_that_is_written(library: Library) -> None:
    assert _iterate() == b"written"
    assert not library.open
    assert not _is_open(library.fd)


def test_a_handlers_exception_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    def leave(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(libbpf.Log, "__exit__", leave)
    with pytest.raises(Interrupted):
        _iterate()
    assert not library.open
    assert not _is_open(library.fd)


def test_what_cannot_be_created(library: Library) -> None:
    os.close(library.fd)
    library.fd = -errno.EMFILE
    with pytest.raises(AttachError) as raised:
        _iterate()
    assert raised.value.errno == errno.EMFILE
    assert not library.open


def test_what_cannot_be_read(library: Library) -> None:
    os.close(library.fd)
    library.fd = os.open("/", os.O_RDONLY)
    with pytest.raises(AttachError, match="cannot iterate with cni_one: Is a directory") as raised:
        _iterate()
    assert raised.value.errno == errno.EISDIR
    assert not library.open
    assert not _is_open(library.fd)
