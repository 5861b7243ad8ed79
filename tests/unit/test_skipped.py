"""How often the kernel skipped a program: what it says, or an error, never a nought that nobody said."""

from __future__ import annotations

import errno
import io
from typing import Any

import pytest

from cni_collector import CollectorError
from cni_collector.kernel import objects


class Library:
    """libbpf, as far as it is asked here."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def bpf_program__fd(self, _handle: int) -> int:
        """Some descriptor."""
        return 3

    def bpf_obj_get_info_by_fd(self, _fd: int, info: Any, _size: Any) -> int:
        """Says 7, or that it may not be asked."""
        if not self._answer:
            info[208:216] = (7).to_bytes(8, "little")
        return -self._answer


def _skipped(monkeypatch: pytest.MonkeyPatch, answer: int, fdinfo: str) -> int:
    monkeypatch.setattr(objects, "libbpf", lambda: Library(answer))
    monkeypatch.setattr("builtins.open", lambda _path, encoding: io.StringIO(fdinfo))
    return objects.Program("cni_one", 1).skipped()


def test_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _skipped(monkeypatch, 0, "") == 7


def test_who_may_not_ask_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the descriptor's file has it (bpf_prog_show_fdinfo())."""
    assert _skipped(monkeypatch, errno.EPERM, "pos:\t0\nrun_cnt:\t5\nrecursion_misses:\t12\n") == 12


def test_what_nobody_says_is_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CollectorError, match="how often the kernel skipped cni_one"):
        _skipped(monkeypatch, errno.EPERM, "pos:\t0\n")
