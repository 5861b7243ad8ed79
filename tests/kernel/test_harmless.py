"""The collector holds nothing, leaves nothing behind, and gives no trouble to others or to itself."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from cni_collector import Collector, CollectorError, CollectorStart, CollectorStop, Event, NetnsCreate, NetnsEnterFailed
from cni_collector.bpf import libbpf

from .actors import CLONE_NEWNET, a_netns, act, cookie, refused, setns, unshare
from .watching import PATIENCE, Watch, watching


def _a_life() -> int:
    def play() -> int:
        unshare(CLONE_NEWNET)
        return cookie()

    return int(act(play)[1])


def test_it_pins_nothing(watch: Watch) -> None:
    """A namespace is destroyed while it is watched and listed, and no process of ours holds a descriptor of one."""
    with a_netns() as (holder, a):
        subprocess.run([sys.executable, "-m", "cni_collector", "list"], check=True, stdout=subprocess.DEVNULL)
        holder.end()
    watch.destroyed(a)
    links = [os.readlink(f"/proc/{watch.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{watch.pid}/fd")]
    assert not [link for link in links if link.startswith("net:")]


def _kernel_objects() -> set[str]:
    """Programs and maps of ours in the kernel, by kind and id."""
    found = set()
    for kind in ("prog", "map", "link"):
        listing = subprocess.run(["bpftool", "--json", kind], check=True, capture_output=True, text=True).stdout
        for item in json.loads(listing):
            if kind == "link" or str(item.get("name", "")).startswith(("cni_", "tracked", "told", "lost", "tasks")):
                found.add(f"{kind} {item['id']}")
    return found


def test_a_killed_watch_leaves_nothing() -> None:
    before = _kernel_objects()
    with watching() as watch:
        assert len(_kernel_objects() - before) > 10
        watch.kill()
    deadline = time.monotonic() + PATIENCE  # the kernel frees programs and maps after a grace period
    while _kernel_objects() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _kernel_objects() - before


def test_two_collectors_see_the_same(watch: Watch) -> None:
    with watching() as other:
        a = _a_life()
        for one in (watch, other):
            one.destroyed(a)
        stories = [[e for e in one.events if e.netns and e.netns.cookie == a] for one in (watch, other)]
        other.stop()
    assert [[(e.type, e.cause, e.pid) for e in story] for story in stories][0] == [
        (e.type, e.cause, e.pid) for e in stories[1]
    ]
    assert len(stories[0]) == 4


def test_fifty_starts_and_stops_leave_nothing_behind() -> None:
    def resources() -> tuple[list[str], int, int]:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            regions = sum("bpf" in line for line in maps)
        return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in _own_fds()), threading.active_count(), regions

    with Collector() as collector:  # what is loaded once, stays
        pass
    before = resources()
    rss = []
    for _ in range(50):
        with Collector() as collector:
            pass
        assert [e.type for e in collector.events() if not e.netns] == ["collector_start", "collector_stop"]
        rss.append(_rss())
    assert resources() == before
    assert rss[-1] - rss[9] < 1 << 20


def _own_fds() -> list[str]:
    own = os.listdir("/proc/self/fd")
    return [fd for fd in own if os.path.exists(f"/proc/self/fd/{fd}") or _is_anonymous(fd)]


def _is_anonymous(fd: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the descriptor with which the directory was listed
        return False
    return True


def _rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_stop_from_another_thread_ends_iteration_after_the_drain() -> None:
    seen: list[Event] = []
    armed = threading.Event()
    collector = Collector()
    collector.start()

    def read() -> None:
        for event in collector.events():
            seen.append(event)
            if isinstance(event, CollectorStart):
                armed.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert armed.wait(PATIENCE)
    for _ in range(7):
        assert refused(lambda: setns(-1, CLONE_NEWNET))
    collector.stop()
    collector.stop()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert sum(isinstance(event, NetnsEnterFailed) and event.pid == os.getpid() for event in seen) == 7
    assert isinstance(seen[-1], CollectorStop)
    assert not collector.healthy


def test_starting_twice_is_an_error() -> None:
    with Collector() as collector:
        assert collector.healthy
        with pytest.raises(CollectorError, match="started already"):
            collector.start()
    with pytest.raises(CollectorError, match="started already"):
        collector.start()


def test_types_are_switched_off_in_the_kernel() -> None:
    """With only births wanted nothing else reaches the ring, and programs for the rest are not loaded."""
    with Collector(types=["netns_create"]) as collector:
        _a_life()
        assert refused(lambda: setns(-1, CLONE_NEWNET))
        names = _program_names()
    assert "cni_setns_enter" not in names
    assert {e.type for e in collector.events()} == {"collector_start", "netns_create", "collector_stop"}
    assert set(collector.stats.received_by_type) == {"netns_create"}


def _program_names() -> set[str]:
    """Names of the programs that this process holds open."""
    own = subprocess.run(["bpftool", "--json", "prog"], check=True, capture_output=True, text=True).stdout
    ids = set()
    for fd in os.listdir("/proc/self/fdinfo"):
        try:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
                ids |= {int(line.split()[1]) for line in info if line.startswith("prog_id")}
        except FileNotFoundError:
            continue
    return {item["name"] for item in json.loads(own) if item["id"] in ids and "name" in item}


def test_a_closed_stdout_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        while process.poll() is None:
            _a_life()
        assert process.returncode == 0
        assert process.stderr.read() == b""


def test_a_blocked_stdout_loses_nothing_uncounted() -> None:
    """Nobody reads the pipe for ten seconds while more happens than pipe and ring can hold."""
    pairs = 30011
    with a_netns() as (holder, _), Watch() as mine:
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)

        def storm() -> None:
            home = os.open("/proc/self/ns/net", os.O_RDONLY)
            for _ in range(pairs):
                setns(fd, CLONE_NEWNET)
                setns(home, CLONE_NEWNET)

        blocked = time.monotonic()
        pid, _ = act(storm)
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
            a = _a_life()
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
        while select.select([watch._fd], [], [], 0)[0] == []:
            refused(lambda: setns(-1, CLONE_NEWNET))
        watch.ended()
        assert sum(event.netns is not None or event.pid is not None for event in watch.events[1:-1]) == 3


def test_tracefs_is_mounted_where_it_is_missing() -> None:
    """In a mount namespace of its own, so that the machine keeps its mounts."""
    script = (
        "umount /sys/kernel/tracing 2>/dev/null; umount /sys/kernel/debug 2>/dev/null; "
        "test ! -e /sys/kernel/tracing/events && "
        f"{sys.executable} -m cni_collector watch -o json --duration 0.1 && test -e /sys/kernel/tracing/events"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "collector_stop" in done.stdout


def test_without_privilege_one_clear_sentence() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "cni_collector", "watch"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "root" in done.stderr


def test_only_symbols_of_libbpf_1_0_are_used() -> None:
    """What 1.0 does not export would be missed only on machines that have it."""
    from cni_collector import bpf

    for name in bpf._PROTOTYPES:
        assert isinstance(getattr(libbpf(), name), ctypes._CFuncPtr)
        assert not name.startswith("ring__")
