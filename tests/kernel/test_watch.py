"""The command `watch`: its output, its options and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from cni_collector import CollectorStop, NetnsCreate

from .actors import CLONE_NEWNET, a_life, a_netns, act, refused, setns, storm
from .watching import Watch, watching


def test_a_closed_stdout_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        while process.poll() is None:
            a_life()
        assert process.returncode == 0
        assert process.stderr.read() == b""


def test_a_blocked_stdout_loses_nothing_uncounted() -> None:
    """Nobody reads the pipe for ten seconds while more happens than pipe and ring can hold."""
    pairs = 30011
    with a_netns() as (holder, _), Watch() as mine:
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        blocked = time.monotonic()
        pid, _ = act(lambda: storm(fd, pairs))
        time.sleep(10 - (time.monotonic() - blocked))  # the ten seconds that the promise speaks of
        stop = mine.stop()
        os.close(fd)
        received = sum(event.pid == pid for event in mine.events)
        assert received + (stop.lost or 0) == 2 * pairs


def test_lines_come_within_50_ms() -> None:
    """Of 51 single events the median; not a timed test of the machine, whose worst case is anybody's."""
    with watching("--type", "netns_create") as watch:
        delays = []
        for _ in range(51):
            since = len(watch.events)
            a = a_life()
            made = time.monotonic()
            watch.wait(lambda e, a=a: isinstance(e, NetnsCreate) and e.netns is not None and e.netns.cookie == a, since)  # type: ignore[misc]
            delays.append(time.monotonic() - made)
        assert sorted(delays)[25] < 0.05
        watch.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_order(number: int) -> None:
    with watching() as watch:
        os.kill(watch.pid, number)
        assert isinstance(watch.ended(), CollectorStop)


def test_duration_and_count() -> None:
    with watching("--duration", "0.2") as watch:
        watch.ended()
    with watching("--count", "3") as watch:
        while watch._process.poll() is None:
            refused(lambda: setns(-1, CLONE_NEWNET))
        watch.ended()
        assert sum(event.netns is not None or event.pid is not None for event in watch.events[1:-1]) == 3


def test_tracefs_is_mounted_where_it_is_missing() -> None:
    """In a mount namespace of its own, so that the machine keeps its mounts."""
    script = (
        "umount /sys/kernel/tracing 2>/dev/null; umount /sys/kernel/debug 2>/dev/null; "
        "test ! -e /sys/kernel/tracing/events && "
        f"{sys.executable} -m cni_collector watch -o json --tier tracepoint --duration 0.1 && "
        "test -e /sys/kernel/tracing/events"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "collector_stop" in done.stdout


def test_without_privilege_one_clear_sentence() -> None:
    """The interpreter starts as root, since an ordinary user may not be able to reach it."""
    script = (
        "import os, sys; from cni_collector import cli; os.setgroups([]); os.setuid(65534); "
        "sys.argv = ['cni-collector', 'watch']; cli.run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "cni-collector: cannot load BPF programs without CAP_BPF and CAP_PERFMON: "
        "run as root, or give the process these capabilities\n"
    )
