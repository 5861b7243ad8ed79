"""Machines that forbid or lack something: the best that still works, or one clear sentence."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..support.actors import NOBODY

pytestmark = pytest.mark.alone  # some change settings of the machine

CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 2, 21, 38, 39
MINE = {CAP_PERFMON, CAP_BPF}
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT = 24, 28, 47
_NO_SETUID_FIXUP = 1 << 2  # keeps the capabilities over setuid()

_libc = ctypes.CDLL(None, use_errno=True)


def _watch(tier: str, prepare: Callable[[], None], *before: str) -> subprocess.CompletedProcess[str]:
    """A short `watch` in a process that has prepared itself."""
    command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json", "--tier", tier, "--duration", "0.1"]
    return subprocess.run([*before, *command], capture_output=True, text=True, check=False, preexec_fn=prepare)


def _works(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert "collector_start" in done.stdout
    assert '"missing"' not in done.stdout


def _keep_only(capabilities: set[int]) -> None:
    """What root has left after the next exec."""
    for capability in range(64):
        if capability not in capabilities:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@contextlib.contextmanager
def _sysctl(path: Path, value: int) -> Iterator[None]:
    before = path.read_text(encoding="ascii")
    path.write_text(str(value), encoding="ascii")
    try:
        yield
    finally:
        path.write_text(before, encoding="ascii")


def test_addresses_of_the_kernel_are_hidden(tier: str) -> None:
    with _sysctl(Path("/proc/sys/kernel/kptr_restrict"), 2):
        _works(_watch(tier, lambda: None))


def test_no_bpffs_and_no_debugfs(tier: str) -> None:
    script = 'for at in /sys/fs/bpf /sys/kernel/debug; do while umount "$at" 2>/dev/null; do :; done; done; exec "$@"'
    _works(_watch(tier, lambda: None, "unshare", "-m", "sh", "-c", script, "sh"))


def test_no_tracefs_where_it_cannot_be_mounted(tier: str) -> None:
    """Only the tracepoint tier needs it."""
    script = (
        "for at in /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug; do "
        'while umount "$at" 2>/dev/null; do :; done; done; '
        'exec setpriv --bounding-set=-sys_admin "$@"'
    )
    with _sysctl(PARANOID, 2):
        done = _watch(tier, lambda: None, "unshare", "-m", "sh", "-c", script, "sh")
    if tier != "tracepoint":
        _works(done)
        return
    assert done.returncode == 1
    assert "as root: mount -t tracefs" in done.stderr


def test_little_locked_memory(tier: str) -> None:
    limit = 64 << 10
    _works(_watch(tier, lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))))


def test_root_with_two_capabilities(tier: str) -> None:
    """CAP_BPF and CAP_PERFMON; the tiers that use perf events need more where the machine restricts those."""
    done = _watch(tier, lambda: _keep_only(MINE))
    if tier == "fentry" or int(PARANOID.read_text(encoding="ascii")) <= 2:
        _works(done)
        return
    assert done.returncode == 1
    assert "perf_event_paranoid is above 2" in done.stderr
    assert done.stderr.count("\n") == 1
    _works(_watch(tier, lambda: _keep_only(MINE | {CAP_SYS_ADMIN})))
    with _sysctl(PARANOID, 2):
        _works(_watch(tier, lambda: _keep_only(MINE)))


@pytest.mark.parametrize("capability", sorted(MINE))
def test_root_with_one_capability(tier: str, capability: int) -> None:
    done = _watch(tier, lambda: _keep_only({capability}))
    other = {CAP_BPF: "CAP_PERFMON", CAP_PERFMON: "CAP_BPF"}[capability]
    assert done.returncode == 1
    assert f"without {other}:" in done.stderr


def test_an_ordinary_user_with_capabilities(tier: str) -> None:
    """Who is not root needs CAP_DAC_READ_SEARCH to look into tracefs, and so only in the tracepoint tier."""

    def become_a_user(capabilities: set[int]) -> None:
        _libc.prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0)
        _libc.setgroups(0, None)
        _libc.setresgid(NOBODY, NOBODY, NOBODY)
        _libc.setresuid(NOBODY, NOBODY, NOBODY)
        _raise_ambient(capabilities)

    with _sysctl(PARANOID, 2):
        _works(_watch(tier, lambda: become_a_user(MINE | {CAP_DAC_READ_SEARCH})))
    # What this user may not read is the interpreter's files, too: the third goes once they are loaded.
    script = (
        "from cni_collector.kernel.tiers import try_tier; "
        "from tests.kernel.test_hard_machines import MINE, set_capabilities; "
        "set_capabilities(MINE); print(try_tier('tracepoint'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: become_a_user(MINE | {CAP_DAC_READ_SEARCH}),
    )
    assert "give the process CAP_DAC_READ_SEARCH" in done.stdout


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def set_capabilities(capabilities: set[int]) -> None:
    """capset(2): effective, permitted and inheritable."""
    low, high = (sum(1 << n % 32 for n in capabilities if n // 32 == half) for half in (0, 1))
    words = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    assert _libc.capset(ctypes.byref(_Header(0x20080522, 0)), words) == 0  # _LINUX_CAPABILITY_VERSION_3


def _raise_ambient(capabilities: set[int]) -> None:
    """What an ordinary user keeps over exec."""
    set_capabilities(capabilities)
    for capability in capabilities:
        assert _libc.prctl(_PR_CAP_AMBIENT, 2, capability, 0, 0) == 0
