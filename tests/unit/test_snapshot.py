"""What exists now: mounts, tasks, tracked namespaces and libcni's results, put together."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cni_collector import CollectorError
from cni_collector.events import Netns, NetnsFound, Pod, Task
from cni_collector.identity import cni_cache
from cni_collector.stream import snapshot
from cni_collector.stream.snapshot import ExistingNetns, existing, take

from .records import cgroup_record, decoder, netns_record

POD = Pod("shop", "web-0", "11111111-2222-3333-4444-555555555555")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where libcni keeps its results, empty: whatever this machine has there is not read."""
    path = tmp_path / "results"
    path.mkdir()
    monkeypatch.setattr(cni_cache, "CACHE", path)
    return path


def test_found_becomes_an_event_with_its_member_and_its_first_name() -> None:
    member = Task(10, 11, 1, 0, "sh", cgroup="/c", pod_uid="p")
    found = ExistingNetns(Netns(9, 8), 7, 3, member, ("/run/netns/a", "/run/netns/b"), POD, "cni_cache")
    assert found.event("now") == NetnsFound(
        "now",
        Netns(9, 8),
        pid=10,
        tid=11,
        ppid=1,
        uid=0,
        comm="sh",
        userns=7,
        cgroup="/c",
        pod_uid="p",
        members=3,
        name="/run/netns/a",
        pod=POD,
    )


def test_found_without_members_says_so() -> None:
    found = ExistingNetns(Netns(9, 8), 7, 0, None, (), None, None)
    assert found.event("now") == NetnsFound("now", Netns(9, 8), userns=7, members=0)


Tracked = tuple[int, int, int]
"""Cookie, inode number, whether an event in the ring says that it exists."""


def kernel(tracked: list[Tracked], *records: bytes) -> Any:
    """A loaded object: its programs find these records and namespaces."""

    def iterate() -> bytes:
        return b"".join(records)

    def items(_key: int, _value: int) -> list[tuple[bytes, bytes]]:
        return [
            (struct.pack("=Q", cookie), struct.pack("=QQIIQ", 1, 0, inum, 7, told)) for cookie, inum, told in tracked
        ]

    return SimpleNamespace(
        program={"cni_snapshot": SimpleNamespace(iterate=iterate)}.__getitem__,
        map={"tracked": SimpleNamespace(items=items)}.__getitem__,
    )


def mounts(mounted: dict[int, list[str]] | None) -> Any:
    """A list of mounts that has these; None: they change all the time."""
    return SimpleNamespace(read=lambda: mounted)


@pytest.mark.parametrize("cut", [1, 3, 8, 15, 20, 103])
def test_records_that_end_too_early_are_counted(cut: int) -> None:
    decode = decoder()
    whole = netns_record(type=7, cookie=9, inum=8, pid=10)
    for record in (whole, cgroup_record(b"n" * 200, ident=1)):
        (found,) = take(kernel([(9, 8, 0)], whole, record[:cut]), decode, mounts({}))
        assert found.members == 1
    assert decode.undecodable == 2


def test_take_joins_namespaces_with_their_tasks_and_their_names() -> None:
    path = b"n" * 87  # with its NUL, its record is as long as that of a namespace
    records = [
        cgroup_record(path, ident=1),
        netns_record(type=7, cookie=20, inum=200, pid=31, tid=32, cgroup=1),
        netns_record(type=7, cookie=20, inum=200, pid=31, tid=31, cgroup=1),
        cgroup_record(b"other", ident=2),
        netns_record(type=7, cookie=20, inum=200, pid=40, tid=40, cgroup=2),
    ]
    loaded = kernel([(20, 200, 0), (10, 100, 0), (30, 300, 1)], *records)
    empty, lived_in = take(loaded, decoder(), mounts({10: ["/b", "/a"], 11: ["/c"]}))
    assert empty == ExistingNetns(Netns(10, 100), 7, 0, None, ("/a", "/b"), None, None)
    assert (lived_in.netns, lived_in.members, lived_in.names) == (Netns(20, 200), 3, ())
    assert lived_in.member is not None
    assert (lived_in.member.pid, lived_in.member.tid) == (31, 31)
    assert lived_in.member.cgroup == f"/{path.decode()}"


def test_nothing_has_a_name_where_the_mounts_change_all_the_time() -> None:
    (found,) = take(kernel([(10, 100, 0)]), decoder(), mounts(None))
    assert found.names == ()


UIDS = ("11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555")
NO_UID, WEB_1 = Pod("shop", "web-0"), Pod("shop", "web-1")


def keep(cache: Path, path: str, pod: Pod) -> None:
    """Has libcni keep the result of an ADD."""
    args = {"K8S_POD_NAMESPACE": pod.namespace, "K8S_POD_NAME": pod.name, "K8S_POD_UID": pod.uid or ""}
    number = len(list(cache.iterdir()))
    (cache / f"net-{number}").write_text(json.dumps({"netns": path, "cniArgs": list(args.items())}), encoding="utf-8")


@pytest.mark.parametrize(
    ("kept", "inside", "pod", "pod_from"),
    [
        ([], [], None, None),
        ([("/run/netns/a", POD)], [], POD, "cni_cache"),
        ([("/var/run/netns/a", POD)], [], POD, "cni_cache"),
        ([("/run/netns/b", POD)], [], POD, "cni_cache"),
        ([("/run/netns/c", POD)], [], None, None),
        ([("/run/netns/a", POD), ("/run/netns/b", POD)], [], POD, "cni_cache"),
        ([("/run/netns/a", POD), ("/run/netns/b", WEB_1)], [], None, None),
        ([], [UIDS[0], UIDS[0]], Pod(uid=UIDS[0]), "cgroup"),
        ([], [UIDS[0], None], Pod(uid=UIDS[0]), "cgroup"),
        ([], [None], None, None),
        ([], UIDS, None, None),
        ([("/run/netns/a", POD)], [UIDS[0]], POD, "cni_cache"),
        ([("/run/netns/a", POD)], [None], POD, "cni_cache"),
        ([("/run/netns/a", NO_UID)], [UIDS[0]], NO_UID, "cni_cache"),
        ([("/run/netns/a", POD)], [UIDS[1]], None, None),
        ([("/run/netns/a", POD)], UIDS, None, None),
    ],
)
def test_a_pod_is_told_where_all_that_is_known_agrees(
    cache: Path,
    kept: list[tuple[str, Pod]],
    inside: Sequence[str | None],
    pod: Pod | None,
    pod_from: str | None,
) -> None:
    for path, told in kept:
        keep(cache, path, told)
    records = []
    for number, uid in enumerate(inside, 1):
        group = [f"pod{uid}".encode()] if uid else []
        records.append(cgroup_record(b"leaf", *group, b"kubepods", ident=number))
        records.append(netns_record(type=7, cookie=10, inum=100, pid=number, tid=number, cgroup=number))
    (found,) = take(kernel([(10, 100, 0)], *records), decoder(), mounts({10: ["/run/netns/b", "/run/netns/a"]}))
    assert (found.pod, found.pod_from) == (pod, pod_from)
    event = found.event("now")
    assert (event.name, event.pod) == ("/run/netns/a", pod)


def test_what_the_system_refuses_is_an_error_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/1/mountinfo")

    monkeypatch.setattr(snapshot, "open_object", refuse)
    with pytest.raises(CollectorError, match=r"^cannot list network namespaces: No such file or directory: /proc/1/"):
        existing()
