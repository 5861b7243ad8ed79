"""Where namespaces are mounted, and where the paths of CNI calls lead: by what the kernel has at that moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_collector import CniEnd, CniStart, Event, NetnsDestroy, NetnsEnter

from ..support.actors import (
    CLONE_NEWNET,
    CLONE_NEWPID,
    Puppet,
    a_netns,
    act,
    bind_all,
    bind_mount,
    cookie,
    execute,
    mount_proc,
    mount_tmpfs,
    private_mounts,
    reap,
    setns,
    unmount,
    unshare,
)
from ..support.listing import listed_by_cookie
from ..support.watch import EMULATED, Watch, watching

NETNS_DIRECTORY = Path("/run/netns")
MINE = f"paths-{os.getpid()}"
"""The namespace of the pods of these tests: there may be other CNI calls on this machine."""

pytestmark = pytest.mark.any_tier  # a path is looked up at the exec, in the same function


def plugin(path: Path | str, name: str = "web-0", command: str = "ADD") -> int:
    """A CNI call of this process that enters nothing: its pid."""
    args = f"K8S_POD_NAME={name};K8S_POD_NAMESPACE={MINE}"
    environment = [f"CNI_COMMAND={command}", f"CNI_CONTAINERID={name}", f"CNI_NETNS={path}", f"CNI_ARGS={args}"]
    pid = execute([variable.encode() for variable in environment], "/bin/true")
    reap(pid)
    return pid


def now(watch: Watch) -> int:
    """How many events there are, those of the tests before included."""
    watch.settle()
    return len(watch.events)


def led(watch: Watch, since: int) -> list[int | None]:
    """Where the paths of the CNI calls led, in their order: a cookie, or None."""
    watch.settle()
    calls = [e for e in watch.events[since:] if isinstance(e, CniStart) and e.pod and e.pod.namespace == MINE]
    return [call.netns.cookie if call.netns else None for call in calls]


@contextlib.contextmanager
def mounted(source: Path | str, target: Path | str) -> Iterator[None]:
    """A bind mount."""
    bind_mount(str(source), str(target))
    try:
        yield
    finally:
        unmount(str(target))


@contextlib.contextmanager
def covered(directory: Path) -> Iterator[None]:
    """A directory under an empty file system."""
    mount_tmpfs(str(directory))
    try:
        yield
    finally:
        unmount(str(directory))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file to mount on, in a directory of its own."""
    made = tmp_path / "directory" / "place"
    made.parent.mkdir()
    made.touch()
    return made


def of(holder: Puppet) -> str:
    """The path of the namespace that a process is in."""
    return f"/proc/{holder.pid}/ns/net"


# Names.


def names(*cookies: int) -> list[list[str]]:
    listed = listed_by_cookie()
    return [listed[one]["names"] for one in cookies]


def test_of_stacked_mounts_the_topmost_has_the_name(place: Path) -> None:
    with a_netns() as (one, a), a_netns() as (two, b), mounted(of(one), place):
        assert names(a, b) == [[str(place)], []]
        with mounted(of(two), place):
            assert names(a, b) == [[], [str(place)]]
            with mounted(of(one), place):
                assert names(a, b) == [[str(place)], []]
        assert names(a, b) == [[str(place)], []]


def test_what_lies_under_another_mount_has_no_name(place: Path) -> None:
    with a_netns() as (one, a), mounted(of(one), place):
        for directory in (place.parent, place.parent.parent):
            with covered(directory):
                assert names(a) == [[]]
        assert names(a) == [[str(place)]]


def test_a_name_below_other_mounts(place: Path) -> None:
    """A directory that is mounted on itself, as `ip netns` leaves it, and the same one in another place."""
    with a_netns() as (one, a), mounted(place.parent, place.parent):
        with mounted(of(one), place):
            assert names(a) == [[str(place)]]
        elsewhere = place.parent.parent / "elsewhere"
        elsewhere.mkdir()
        with mounted(place.parent, elsewhere), mounted(of(one), elsewhere / "place"):
            # Below /tmp these mounts may be shared: then the namespace is in both places.
            assert str(elsewhere / "place") in names(a)[0]


def test_what_others_have_mounted_for_themselves_is_no_name(place: Path) -> None:
    def play(self: Puppet) -> None:
        private_mounts()
        bind_mount(of(one), str(place))
        self.say("mounted")
        self.hear()

    with a_netns() as (one, a), Puppet(play) as other:
        other.hear()
        assert names(a) == [[]]
        other.end()


def test_names_are_those_that_the_first_process_sees(place: Path) -> None:
    """In a container that has pids of its own, as a machine that systemd runs, that is the container's."""
    with a_netns() as (one, a):
        script = f'mount --bind {of(one)} {place}; exec unshare --pid --fork --mount-proc "$@"'
        inside = listed_by_cookie("unshare", "--mount", "sh", "-ec", script, "sh")
        assert (inside[a]["names"], names(a)) == ([str(place)], [[]])


def test_a_name_moves_with_the_topmost_mount(watch: Watch, place: Path) -> None:
    since = now(watch)
    with a_netns() as (one, a), a_netns() as (two, b):
        with mounted(of(one), place), mounted(of(two), place):
            watch.settle()
            watch.settle()
            one.end()
            two.end()
            watch.settle()
            left = {e.netns.cookie: e.name for e in watch.events[since:] if e.type == "netns_exit" and e.netns}
            assert left[b] == str(place)
            assert left[a] in (None, str(place))  # it has the name for good if it was seen on top meanwhile
        watch.destroyed(a, b)


# Paths of CNI calls.


def test_a_path_leads_to_what_is_mounted_there(watch: Watch, place: Path) -> None:
    since = now(watch)
    with a_netns() as (one, a), a_netns() as (two, b):
        with mounted(of(one), place):
            plugin(place)
            with mounted(of(two), place):
                plugin(place)
            with covered(place.parent):
                plugin(place)
        plugin(place)
        assert led(watch, since) == [a, b, None, None]


def test_a_path_by_a_link(watch: Watch, tmp_path: Path) -> None:
    """/var/run is /run. Other links are not followed: that could take forever."""
    since = now(watch)
    NETNS_DIRECTORY.mkdir(exist_ok=True)
    real, link = NETNS_DIRECTORY / f"cni-test-{os.getpid()}", tmp_path / "link"
    real.touch()
    link.symlink_to(real)
    try:
        with a_netns() as (one, a), mounted(of(one), real):
            for path in (real, f"/var{real}", link, f"/run/../run/netns/{real.name}", f"/x/run/netns/{real.name}"):
                plugin(path)
            assert led(watch, since) == [a, a, None, None, None]
    finally:
        real.unlink()


def test_a_path_is_the_plugins_own(watch: Watch, place: Path) -> None:
    """In mount namespaces of their own, as in the nodes of kind, the same path leads to other namespaces."""
    since = now(watch)
    with a_netns() as (one, a), a_netns() as (two, b), mounted(of(one), place):

        def other() -> None:
            private_mounts()
            bind_mount(of(two), str(place))
            plugin(place)
            unmount(str(place))
            plugin(place)
            unmount(str(place))
            plugin(place)

        act(other)
        plugin(place)
        assert led(watch, since) == [b, a, None, a]


def test_a_path_begins_at_the_plugins_root(watch: Watch, tmp_path: Path) -> None:
    """Delegates of thick plugins are executed under chroot, in a mount namespace of their own."""
    since = now(watch)
    root, place = tmp_path / "root", tmp_path / "place"
    root.mkdir()
    place.touch()
    with a_netns() as (one, a), a_netns() as (two, b), mounted(of(two), place):

        def delegate() -> None:
            private_mounts()
            bind_all("/", str(root))
            inside = Path(f"{root}{place}")
            bind_mount(of(one), str(inside))
            os.chroot(root)
            os.chdir("/")
            plugin(place)
            plugin(inside)

        act(delegate)
        assert led(watch, since) == [a, None]
        assert b


def test_a_process_by_its_number(watch: Watch) -> None:
    since = now(watch)
    with a_netns() as (one, a), a_netns() as (two, b):
        pid = one.pid
        for path in (f"/proc/{pid}/ns/net", f"/proc/{pid}/task/{pid}/ns/net", f"/proc/{two.pid}/ns/net"):
            plugin(path)
        for path in (
            *(f"/proc/0{pid}/ns/net", f"/proc/{pid}/ns/net/", f"/proc/{pid}/ns/mnt", f"//proc/{pid}/ns/net"),
            *(f"/proc/{pid}/task/{two.pid}/ns/net", f"/proc/{pid}/task/ns/net", "/proc/self/ns/net", "/proc//ns/net"),
            *("/proc/4194305/ns/net", "/proc/999999999/ns/net", "/proc/9999999999/ns/net", f"/x/proc/{pid}/ns/net"),
        ):
            plugin(path)
        assert led(watch, since) == [a, a, b, *[None] * 12]


def test_a_process_is_where_it_is_at_that_time(watch: Watch) -> None:
    """It may have gone on when the reader comes, and its number may be another's."""

    def play(self: Puppet) -> list[int]:
        seen = []
        for _ in range(3):
            unshare(CLONE_NEWNET)
            seen.append(cookie())
            plugin(f"/proc/{os.getpid()}/ns/net")
        return seen

    since = now(watch)
    os.kill(watch.pid, signal.SIGSTOP)
    try:
        with Puppet(play) as mover:
            seen = mover.end()
    finally:
        os.kill(watch.pid, signal.SIGCONT)
    assert led(watch, since) == seen


def in_a_pid_namespace(play: Callable[[], None]) -> None:
    """Runs a function as the second process of a pid namespace, with a mount namespace of its own."""

    def outer() -> None:
        private_mounts()
        unshare(CLONE_NEWPID)
        first = os.fork()
        if not first:
            status = 1
            try:
                second = os.fork()
                if not second:
                    play()
                    os._exit(0)
                status = os.waitpid(second, 0)[1]
            finally:
                os._exit(bool(status))
        reap(first)

    act(outer)


def test_a_number_is_that_of_the_proc_that_the_plugin_sees(watch: Watch) -> None:
    """In a pid namespace of its own it is another process', unless the outer /proc is mounted there still."""
    since = now(watch)
    with a_netns() as (one, a):

        def play() -> None:
            plugin(of(one))
            mount_proc("/proc")
            plugin(of(one))
            with a_netns() as (inner, c):
                assert inner.pid < 100
                plugin(of(inner))
                told.write_text(str(c))

        told = Path(f"/run/cni-test-{os.getpid()}")
        try:
            in_a_pid_namespace(play)
            assert led(watch, since) == [a, None, int(told.read_text())]
        finally:
            told.unlink()


def test_a_proc_under_another_mount_says_nothing(watch: Watch) -> None:
    since = now(watch)
    with a_netns() as (one, a):

        def hidden() -> None:
            private_mounts()
            plugin(of(one))
            number = f"/proc/{one.pid}"
            bind_mount(f"/proc/{os.getpid()}", number)
            plugin(of(one))
            unmount(number)
            for part in ("ns", "task"):  # on the way there
                bind_mount(f"/proc/{os.getpid()}/{part}", f"{number}/{part}")
                plugin(of(one))
                unmount(f"{number}/{part}")
            mount_tmpfs("/proc")
            plugin(of(one))

        act(hidden)
        assert led(watch, since) == [a, None, None, None, None]


def _ip(*words: str) -> None:
    subprocess.run(["ip", "netns", *words], check=True)


def cookie_of(fd: int) -> int:
    """The cookie of the namespace behind a descriptor."""

    def visit() -> int:
        setns(fd, CLONE_NEWNET)
        return cookie()

    return int(act(visit)[1])


def _a_reused_name(watch: Watch, name: str, number: int, reader: signal.Signals) -> None:
    """`ip netns add`, ADD, a leaked descriptor, `ip netns del`; at once the same name again, and another ADD."""
    path = f"/run/netns/{name}"
    descriptors, cookies = [], []
    since = now(watch)
    os.kill(watch.pid, reader)
    pods = [f"{which}-{number}" for which in "ab"]
    for pod in pods:
        _ip("add", name)
        descriptors.append(os.open(path, os.O_RDONLY))
        plugin(path, pod)
        _ip("del", name)
    for fd in descriptors:
        cookies.append(cookie_of(fd))
        os.close(fd)
    os.kill(watch.pid, signal.SIGCONT)
    watch.destroyed(*cookies)
    assert led(watch, since) == cookies
    events: list[Event] = watch.events[since:]
    deaths = [e for e in events if isinstance(e, NetnsDestroy) and e.netns and e.netns.cookie in cookies]
    told = {e.netns.cookie: e.pod.name for e in deaths if e.netns and e.pod}
    assert told == dict(zip(cookies, pods, strict=True))
    ends = [e for e in events if isinstance(e, CniEnd) and e.netns and e.pod and e.pod.namespace == MINE]
    assert [(e.netns and e.netns.cookie, e.pod and e.pod.name) for e in ends] == list(zip(cookies, pods, strict=True))


def test_a_name_that_is_used_again_at_once() -> None:
    name = f"cni-test-{os.getpid()}"
    with watching() as watch:
        for number in range(3 if EMULATED else 10):
            _a_reused_name(watch, name, number, signal.SIGCONT)


def test_a_name_that_is_used_again_while_the_reader_stands_still() -> None:
    name = f"cni-test-{os.getpid()}"
    with watching() as watch:
        for number in range(2 if EMULATED else 4):
            _a_reused_name(watch, name, number, signal.SIGSTOP)


def test_mounts_that_come_and_go_lead_nobody_astray(watch: Watch, place: Path) -> None:
    """Others mount and unmount without a pause: a path leads where it does, or the event does not say."""

    def storm(self: Puppet) -> int:
        rounds = 0
        self.say("ready")
        while not self.spoken_to():
            bind_mount(of(two), str(other))
            unmount(str(other))
            rounds += 1
        return rounds

    other = place.parent / "other"
    other.touch()
    since = now(watch)
    calls = 20 if EMULATED else 100
    with a_netns() as (one, a), a_netns() as (two, _), mounted(of(one), place), Puppet(storm) as busy:
        busy.hear()
        for _ in range(calls):
            plugin(place)
        assert busy.end() > 0
        found = led(watch, since)
    assert len(found) == calls
    assert set(found) <= {a, None}
    assert found.count(a) > calls * 0.9
    assert not [e for e in watch.events[since:] if isinstance(e, NetnsEnter) and e.name == str(other) and e.pod]
