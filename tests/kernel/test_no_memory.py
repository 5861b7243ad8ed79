"""No memory for the state of a task: what is known at the end of a system call is told, and the rest is counted."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cni_collector import Collector
from cni_collector.kernel import tiers

from ..support.actors import CLONE_NEWNET, NOBODY, a_netns, act, clone, cookie, reap, refused, setns, unshare

_GET = rb"\x85\0\0\0\x9c\0\0\0"  # call bpf_task_storage_get, helper 156
_CREATE = re.compile(rb"([\xb4\xb7]\x04\0\0)\x01(\0\0\0(?:.{8}){0,4}?" + _GET + rb")", re.DOTALL)
"""The argument that has it make a state where there is none: r4 = BPF_LOCAL_STORAGE_GET_F_CREATE."""


@pytest.fixture(autouse=True)
def _no_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object whose programs never get a state, as if there were no memory."""
    code, count = _CREATE.subn(rb"\1\0\2", tiers.OBJECT.read_bytes())
    assert count >= 2
    path = tmp_path / "cni.bpf.o"
    path.write_bytes(code)
    monkeypatch.setattr(tiers, "OBJECT", path)


@pytest.mark.alone  # what others do is lost, too
def test_no_memory_for_the_states_of_tasks(tier: str) -> None:
    with a_netns() as (holder, a):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)

        def born_by_clone() -> int:
            to_parent, from_child = os.pipe()
            child = clone(CLONE_NEWNET)
            if not child:
                os.write(from_child, str(cookie()).encode())
                os._exit(0)
            reap(child)
            return int(os.read(to_parent, 20))

        def refusals() -> None:
            os.setuid(NOBODY)
            assert refused(lambda: setns(fd, CLONE_NEWNET))
            assert refused(lambda: unshare(CLONE_NEWNET))
            assert refused(lambda: clone(CLONE_NEWNET))

        def born_by_unshare() -> int:
            unshare(CLONE_NEWNET)
            return cookie()

        with Collector(tier=tier) as collector:
            b = act(born_by_clone)[1]
            nobody, _ = act(refusals)
            act(lambda: setns(fd, CLONE_NEWNET))
            c = act(born_by_unshare)[1]
            events = []
            gone: set[int] = set()
            for event in collector.events():
                events.append(event)
                if event.type == "netns_destroy" and event.netns:
                    gone.add(event.netns.cookie)
                if {b, c} <= gone:
                    break
            collector.stop()
            events += collector.events()
        os.close(fd)
    mine = [e for e in events if (e.netns and e.netns.cookie in (b, c)) or e.pid == nobody]
    assert [(e.type, e.cause, e.error) for e in mine if e.type != "netns_destroy"] == [
        ("netns_create", "clone", None),
        ("netns_enter", "clone", None),
        ("netns_enter_failed", "setns", "EPERM"),
        ("netns_create_failed", "unshare", "EPERM"),
        ("netns_create_failed", "clone", "EPERM"),
    ]
    assert [e.netns.cookie for e in mine if e.netns and e.type == "netns_enter_failed"] == [a]
    assert collector.stats.lost_by_type == {"netns_create": 1, "netns_enter": 2, "netns_exit": 2}
