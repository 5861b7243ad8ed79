"""The command `watch`: its output, its options and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cni_collector
from cni_collector import CollectorStop, NetnsCreate, NetnsDestroy

from ..support.actors import CLONE_NEWNET, a_life, a_netns, act, refused, setns, storm
from ..support.loads import Amount
from ..support.overflow import beside_a_witness, unread
from ..support.reachable import prefix
from ..support.watch import Scene, Watch, watching


@pytest.mark.any_tier
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


def test_a_blocked_stdout_loses_nothing_uncounted(tmp_path: Path) -> None:
    """Nobody reads the pipe for the ten seconds of the promise, while more happens than pipe and ring can hold."""
    outcome = beside_a_witness(tmp_path, unread(10), Amount(pairs=5003), "--ring", "1", pipe=True)
    assert outcome.lost.total() > 0
    assert not outcome.wrong


@pytest.mark.any_tier
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


@pytest.mark.any_tier
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_order(number: int) -> None:
    with watching() as watch:
        os.kill(watch.pid, number)
        assert isinstance(watch.ended(), CollectorStop)


@pytest.mark.any_tier
def test_duration_and_count() -> None:
    with watching("--duration", "0.2") as watch:
        watch.ended()
    with watching("--count", "3") as watch:
        while watch.process.poll() is None:
            refused(lambda: setns(-1, CLONE_NEWNET))
        watch.ended()
        assert sum(event.netns is not None or event.pid is not None for event in watch.events[1:-1]) == 3


@pytest.mark.any_tier
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


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(("options", "user"), [((), 65534), (("--user", "daemon"), 1), (("--user", "4242"), 4242)])
def test_once_attached_it_is_an_ordinary_user_and_still_sees_everything(options: tuple[str, ...], user: int) -> None:
    """No thread has a capability left, and none can be had again."""
    with watching(*options, before=prefix()) as watch, a_netns() as (holder, cookie):
        threads = [int(thread.name) for thread in Path(f"/proc/{watch.pid}/task").iterdir()]
        assert len(threads) > 1
        for thread in threads:
            status = _status(thread)
            assert status["Uid"].split() == status["Gid"].split() == [str(user)] * 4
            assert status["Groups"] == ""
            assert [status[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Amb")] == ["0" * 16] * 4
            assert status["NoNewPrivs"] == "1"
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        watch.settle()
        scene = Scene(watch)
        pid, _ = act(lambda: storm(fd, 3))
        os.close(fd)
        named = a_named_netns(watch)
        told = scene.story({"A": cookie}, {"mover": pid})
        assert told == ["enter A setns mover prev=host", "exit A setns mover next=host"] * 3
        assert watch.wait(lambda e: isinstance(e, NetnsDestroy) and e.netns is not None and e.netns.cookie == named)
        assert watch.stop().lost == 0


def a_named_netns(watch: Watch) -> int:
    """The life of a namespace that has a name: its cookie."""
    name = f"cni-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        watch.settle()
        subprocess.run(["ip", "netns", "exec", name, "true"], check=True)
        told = watch.wait(lambda e: e.name == f"/run/netns/{name}")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    assert told.netns
    return told.netns.cookie


@pytest.mark.any_tier
def test_root_without_the_right_to_become_another_still_gives_its_capabilities_up() -> None:
    kept = "-all,+bpf,+perfmon,+sys_admin"
    command = ["setpriv", f"--bounding-set={kept}", sys.executable, "-m", "cni_collector", "watch", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        while int((status := _status(process.pid))["CapPrm"], 16):  # it has attached, and is about to
            assert process.poll() is None
        assert status["Uid"].split()[0] == "0"
        process.terminate()
        assert b"collector_stop" in process.stdout.read()
    refused = subprocess.run([*command, "--user", "daemon"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == "cni-collector: cannot go on as user daemon: Operation not permitted\n"


@pytest.mark.any_tier
def test_a_user_that_does_not_exist() -> None:
    command = [sys.executable, "-m", "cni_collector", "watch", "--user", "no-such-user"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no such user here" in done.stderr


def _hidden(place: Path, owner: str) -> list[str]:
    """What to put ahead of a command, so that the package lies in a directory that is its owner's alone."""
    hide = f"mount -t tmpfs -o mode=700,uid={owner},gid={owner} none {place} && mkdir {place}/p"
    copy = f"cp -r {Path(cni_collector.__file__).parent} {place}/p && cd /"
    return ["unshare", "-m", "sh", "-c", f'{hide} && {copy} && PYTHONPATH={place}/p exec "$@"', "sh"]


@pytest.mark.any_tier
def test_a_user_that_cannot_read_the_package_is_refused(tmp_path: Path) -> None:
    """Python would fail to import what it needs later."""
    command = [*_hidden(tmp_path, "0"), sys.executable, "-m", "cni_collector", "watch", "--user", "daemon"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "install the package where that user may read it" in done.stderr


@pytest.mark.any_tier
@pytest.mark.parametrize(("owner", "kept"), [("0", False), ("1", True)])
def test_a_package_in_somebodys_home(tmp_path: Path, owner: str, kept: bool) -> None:
    """In root's, it stays root's process; in another's, that needs its capabilities to read there."""
    with watching(before=_hidden(tmp_path, owner)) as watch:
        status = _status(watch.pid)
        assert status["Uid"].split()[0] == "0"
        assert (int(status["CapEff"], 16) != 0) is kept
        watch.stop()


@pytest.mark.any_tier
def test_without_privilege_one_clear_sentence() -> None:
    """The interpreter starts as root, since an ordinary user may not be able to reach it."""
    script = (
        "import os, sys; from cni_collector.cli import main as cli; os.setgroups([]); os.setuid(65534); "
        "sys.argv = ['cni-collector', 'watch']; cli.run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "cni-collector: cannot load BPF programs without CAP_BPF and CAP_PERFMON: "
        "run as root, or give the process these capabilities\n"
    )
