"""What exists now: mounts, tasks and tracked namespaces, put together."""

from __future__ import annotations

import builtins
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cni_collector import snapshot
from cni_collector.events import Netns, NetnsFound
from cni_collector.snapshot import Found, mounted, take

from .records import cgroup_record, decoder, netns_record

ROOT = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


def mount(path: bytes, ident: int = 40, root: bytes = b"net:[4026532001]", kind: bytes = b"nsfs") -> bytes:
    """A line of mountinfo."""
    return b"%d 22 0:4 %s %s rw shared:2 - %s nsfs rw\n" % (ident, root, path, kind)


@pytest.fixture
def mountinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file to be read in place of /proc/self/mountinfo."""
    path = tmp_path / "mountinfo"
    path.write_bytes(ROOT)

    def open_it(_path: str, **options: Any) -> Any:
        return builtins.open(path, **options)

    monkeypatch.setattr(snapshot, "open", open_it, raising=False)
    return path


def test_only_network_namespaces_are_taken_from_the_mounts(mountinfo: Path) -> None:
    others = mount(b"/run/x", root=b"mnt:[4026532001]") + mount(b"/run/y", root=b"/net:[1]", kind=b"ext4")
    mountinfo.write_bytes(ROOT + others + mount(b"/run/netns/a") + mount(b"/run/netns/b", 41, b"net:[7]"))
    assert mounted() == {("40", 4026532001, "/run/netns/a"), ("41", 7, "/run/netns/b")}


def test_optional_fields_may_be_none_or_many(mountinfo: Path) -> None:
    mountinfo.write_bytes(
        b"1 2 0:4 net:[5] /a rw - nsfs nsfs rw\n" + b"2 2 0:4 net:[6] /b rw shared:1 master:2 - nsfs nsfs rw\n"
    )
    assert {path for _, _, path in mounted()} == {"/a", "/b"}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (rb"/a\040b\011c\012d\134e", "/a b\tc\nd\\e"),
        (rb"/back\134slash\134040", "/back\\slash\\040"),
        ("/netz/grün".encode(), "/netz/grün"),
        (b"/not-\xff-text", "/not-\\xff-text"),
        (b"/carriage\rre\rturn", "/carriage\rre\rturn"),
    ],
)
def test_paths_are_read_as_they_are(mountinfo: Path, raw: bytes, path: str) -> None:
    mountinfo.write_bytes(ROOT + mount(raw))
    assert mounted() == {("40", 4026532001, path)}


def test_found_becomes_an_event_with_its_member_and_its_first_name() -> None:
    member = NetnsFound("boot", Netns(9, 8), pid=10, tid=11, ppid=1, uid=0, comm="sh", cgroup="/c", pod_uid="p")
    assert Found(Netns(9, 8), 7, 3, member, ("/run/netns/a", "/run/netns/b")).event("now") == NetnsFound(
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
    )


def test_found_without_members_says_so() -> None:
    assert Found(Netns(9, 8), 7, 0, None, ()).event("now") == NetnsFound("now", Netns(9, 8), userns=7, members=0)


def test_take_joins_namespaces_with_their_tasks_and_the_names_that_lasted(mountinfo: Path) -> None:
    path = b"n" * 87  # with its NUL, its record is as long as that of a namespace
    records = [
        cgroup_record(path, ident=1),
        netns_record(type=7, cookie=20, inum=200, pid=31, tid=32, cgroup=1),
        netns_record(type=7, cookie=20, inum=200, pid=31, tid=31, cgroup=1),
        cgroup_record(b"other", ident=2),
        netns_record(type=7, cookie=20, inum=200, pid=40, tid=40, cgroup=2),
    ]
    lasting = mount(b"/b", 41, b"net:[100]") + mount(b"/a", 42, b"net:[100]")
    mountinfo.write_bytes(ROOT + mount(b"/gone", root=b"net:[100]") + lasting)

    def iterate() -> bytes:
        mountinfo.write_bytes(ROOT + lasting + mount(b"/new", 43, b"net:[200]"))
        return b"".join(records)

    def items(_key: int, _value: int) -> list[tuple[bytes, bytes]]:
        tracked = [(20, 200, 0), (10, 100, 0), (30, 300, 1)]  # cookie, inum, whether an event has told of it
        return [
            (struct.pack("=Q", cookie), struct.pack("=QQIIQ", 1, 0, inum, 7, told)) for cookie, inum, told in tracked
        ]

    loaded: Any = SimpleNamespace(
        program={"cni_snapshot": SimpleNamespace(iterate=iterate)}.__getitem__,
        map={"tracked": SimpleNamespace(items=items)}.__getitem__,
    )
    empty, lived_in = take(loaded, decoder())
    assert empty == Found(Netns(10, 100), 7, 0, None, ("/a", "/b"))
    assert (lived_in.netns, lived_in.members, lived_in.names) == (Netns(20, 200), 3, ())
    assert lived_in.member is not None
    assert (lived_in.member.pid, lived_in.member.tid) == (31, 31)
    assert lived_in.member.cgroup == f"/{path.decode()}"
