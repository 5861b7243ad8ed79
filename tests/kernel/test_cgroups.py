"""The cgroup of a task, read in the kernel at the moment of the event: v2, or v1 where v2 says nothing."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_collector import Collector, NetnsCreate

from ..support.actors import CLONE_NEWNET, Puppet, a_netns, act, cookie, unmount, unshare
from ..support.listing import listed_by_cookie
from ..support.watch import TIER, Scene, Watch, watching

CONTAINER = "0123456789abcdef" * 4
POD = str(uuid.UUID(int=os.getpid()))


def _mounted(kind: str, controller: str = "") -> Path | None:
    """Where a cgroup hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, after = line.split(" - ")
        fstype, _, options = after.split(" ")
        if fstype == kind and (not controller or controller in options.split(",")):
            return Path(before.split(" ")[4])
    return None


@pytest.fixture
def unified(tmp_path: Path) -> Iterator[Path]:
    """The v2 hierarchy."""
    if place := _mounted("cgroup2"):
        yield place
        return
    subprocess.run(["mount", "-t", "cgroup2", "none", tmp_path], check=True)
    yield tmp_path
    unmount(str(tmp_path))


@contextlib.contextmanager
def _cgroup(hierarchy: Path, path: str) -> Iterator[Path]:
    """A cgroup, and those above it, for as long as it is needed. Those of pods may be in use by others, too."""
    made = []
    place = hierarchy
    for name in path.strip("/").split("/"):
        place /= name
        if not place.exists():
            place.mkdir()
            made.append(place)
    try:
        yield place
    finally:
        for one in reversed(made):
            with contextlib.suppress(OSError):
                one.rmdir()


def _a_life_in(*cgroups: Path) -> int:
    """A process goes into these cgroups and makes a namespace: its cookie."""

    def play() -> int:
        for cgroup in cgroups:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        unshare(CLONE_NEWNET)
        return cookie()

    return int(act(play)[1])


def _told(scene: Scene, watch: Watch, a: int) -> set[tuple[str | None, str | None, str | None]]:
    """What is said about the tasks of a namespace."""
    watch.destroyed(a)
    return {(e.cgroup, e.container_id, e.pod_uid) for e in scene.events({"A": a}, {}) if e.pid}


@pytest.mark.parametrize("below", ["", "/init.scope", "/system.slice/a.service/b/c/d"])
def test_a_pods_container_on_v2(scene: Scene, watch: Watch, unified: Path, below: str) -> None:
    """Also where the task is levels below the cgroup that the runtime made."""
    path = (
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice"
        f"/cri-containerd-{CONTAINER}.scope{below}"
    )
    with _cgroup(unified, path) as cgroup:
        a = _a_life_in(cgroup)
        assert _told(scene, watch, a) == {(path, CONTAINER, POD)}


def test_many_levels_and_long_names(scene: Scene, watch: Watch, unified: Path) -> None:
    """What does not fit is cut at the top, and said to be."""
    names = [f"{level}-".ljust(255, "x") for level in range(9)]
    with _cgroup(unified, "/".join([f"cni-test-{os.getpid()}", *names])) as cgroup:
        [(path, _, _)] = _told(scene, watch, _a_life_in(cgroup))
        assert path == "/" + "/".join(["...", *names[-7:]])


def test_v1_where_v2_says_nothing(scene: Scene, watch: Watch, unified: Path) -> None:
    """The deepest of the v1 cgroups; and v2 as soon as it says something."""
    pids, freezer = (_mounted("cgroup", controller) for controller in ("pids", "freezer"))
    if not pids or not freezer:
        pytest.skip("this machine has no cgroup v1")
    name = f"cni-test-{os.getpid()}"
    with (
        _cgroup(pids, f"kubepods/pod{POD}/{CONTAINER}") as deep,
        _cgroup(freezer, name) as shallow,
        _cgroup(unified, name) as other,
    ):
        a = _a_life_in(shallow, deep)
        assert _told(scene, watch, a) == {(f"/kubepods/pod{POD}/{CONTAINER}", CONTAINER, POD)}
        b = _a_life_in(shallow, deep, other)
        assert _told(scene, watch, b) == {(f"/{name}", None, None)}


def test_a_path_is_sent_again_when_it_found_no_room(unified: Path) -> None:
    """A ring of a page has room for one path at most; the events come all the same, with the path or without.

    It has no room for a few dozens of other people's events either, so births go on until one is told with its path.
    """
    path, most = f"/cni-test-{os.getpid()}", 100

    def live(self: Puppet) -> None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        while not self.spoken_to():
            unshare(CLONE_NEWNET)
            time.sleep(0.01)

    told: list[str | None] = []
    with (
        _cgroup(unified, path) as cgroup,
        Collector(tier=TIER, ring_bytes=mmap.PAGESIZE, types=["netns_create"]) as collector,
        Puppet(live) as maker,
    ):
        for event in collector.events():
            told += [event.cgroup] if isinstance(event, NetnsCreate) and event.pid == maker.pid else []
            if path in told or len(told) == most:
                break
        maker.end()
    assert told == [None] * (len(told) - 1) + [path]


@pytest.mark.any_tier
def test_list_names_container_and_pod(unified: Path) -> None:
    path = f"/kubepods/pod{POD}/{CONTAINER}"
    with _cgroup(unified, path) as cgroup, a_netns() as (holder, a):
        (cgroup / "cgroup.procs").write_text(str(holder.pid), encoding="ascii")
        listed = listed_by_cookie()[a]
        assert (listed["cgroup"], listed["container_id"], listed["pod_uid"]) == (path, CONTAINER, POD)
        holder.end()


@pytest.mark.any_tier
def test_names_in_a_tree_that_was_given_away_are_nobodys_pod(scene: Scene, watch: Watch, unified: Path) -> None:
    """Whoever may make cgroups there may give them the names of another's pod; unless the kubelet is told to."""
    path = f"/cni-test-{os.getpid()}.slice/kubepods/pod{POD}/{CONTAINER}"
    with _cgroup(unified, path) as cgroup:
        a = _a_life_in(cgroup)
        assert _told(scene, watch, a) == {(path, CONTAINER, None)}
        with watching("--kubelet-root", f"/cni-test-{os.getpid()}.slice") as other:
            b = _a_life_in(cgroup)
            other.destroyed(b)
            told = {(e.cgroup, e.container_id, e.pod_uid) for e in other.events if e.netns and e.netns.cookie == b}
            assert told == {(path, CONTAINER, POD), (None, None, None)}
