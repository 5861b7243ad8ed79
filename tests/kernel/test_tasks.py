"""Threads and exec: the state of a task belongs to the task, whatever becomes of its process, tid or program."""

from __future__ import annotations

import os
import threading

import pytest

from ..support.actors import CLONE_NEWNET, Puppet, a_netns, act, cookie, setns, unshare
from ..support.watch import Scene, Watch


def test_a_thread_ends_while_its_process_lives(scene: Scene, watch: Watch) -> None:
    def play(self: Puppet) -> None:
        told: list[int] = []

        def in_thread() -> None:
            unshare(CLONE_NEWNET)
            told.extend((threading.get_native_id(), cookie()))

        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        self.say(told)
        self.hear()

    with Puppet(play) as process:
        tid, a = process.hear()
        watch.destroyed(a)
        assert scene.story({"A": a}, {"main": process.pid, "thread": tid}) == [
            "create A unshare thread prev=host",
            "enter A unshare thread prev=host",
            "exit A exit thread",
            "destroy A",
        ]
        assert {event.pid for event in scene.events({"A": a}, {})} == {process.pid, None}
        process.end()


def test_exec_inside(scene: Scene) -> None:
    with a_netns() as (holder, a):

        def play() -> None:
            setns(os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
            os.execv("/bin/sh", ["sh", "-c", "echo null"])

        pid = _run_and_exec(play)
        assert scene.story({"A": a}, {"main": pid, "holder": holder.pid})[2:] == [
            "enter A setns main prev=host",
            "exit A exit main",
        ]
        leave = scene.events({}, {"main": pid})[-1]
        assert leave.comm == "sh"
        assert leave.entered_tid is None  # type: ignore[attr-defined]


def test_exec_by_a_thread_that_is_not_the_leader(scene: Scene) -> None:
    """The kernel ends the leader and gives its tid to the thread: the exit says under which tid it entered."""
    with a_netns() as (holder, a):
        to_parent, from_child = os.pipe()

        def play() -> None:
            def in_thread() -> None:
                setns(os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
                os.write(from_child, str(threading.get_native_id()).encode())
                os.execv("/bin/sh", ["sh", "-c", "echo null"])

            thread = threading.Thread(target=in_thread)
            thread.start()
            thread.join()

        pid = _run_and_exec(play)
        tid = int(os.read(to_parent, 20))
        os.close(to_parent)
        os.close(from_child)
        assert tid != pid
        assert scene.story({"A": a}, {"leader": pid, "thread": tid, "holder": holder.pid})[2:] == [
            "enter A setns thread prev=host",
            "exit A exit leader",
        ]
        assert scene.events({}, {"leader": pid})[-1].entered_tid == tid  # type: ignore[attr-defined]


def test_leader_and_thread_both_inside_when_the_thread_execs(scene: Scene) -> None:
    """Two tasks entered, so two leave: the leader when exec ends it, the thread as the new leader."""
    with a_netns() as (holder, a):
        to_parent, from_child = os.pipe()

        def play() -> None:
            fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
            home = os.open("/proc/self/ns/net", os.O_RDONLY)

            def in_thread() -> None:
                setns(home, CLONE_NEWNET)  # a thread starts where its creator is
                setns(fd, CLONE_NEWNET)
                os.write(from_child, str(threading.get_native_id()).encode())
                os.execv("/bin/sh", ["sh", "-c", "echo null"])

            setns(fd, CLONE_NEWNET)
            thread = threading.Thread(target=in_thread)
            thread.start()
            thread.join()

        pid = _run_and_exec(play)
        tid = int(os.read(to_parent, 20))
        os.close(to_parent)
        os.close(from_child)
        assert scene.story({"A": a}, {"leader": pid, "thread": tid, "holder": holder.pid})[2:] == [
            "enter A setns leader prev=host",
            "exit A setns thread next=host",
            "enter A setns thread prev=host",
            "exit A exit leader",
            "exit A exit leader",
        ]
        first, second = scene.events({}, {"leader": pid})[-2:]
        assert first.entered_tid is None  # type: ignore[attr-defined]
        assert second.entered_tid == tid  # type: ignore[attr-defined]


def _run_and_exec(play: object) -> int:
    """Runs a function that ends by exec'ing a shell which says what a puppet would."""

    def wrapped(_: Puppet) -> None:
        os.dup2(_._out.fileno(), 1)  # the shell inherits it
        play()  # type: ignore[operator]

    child = Puppet(wrapped)
    child.end()
    return child.pid


@pytest.mark.any_tier
def test_act_reports_what_the_child_returned() -> None:
    """Guards the guard: a puppet that fails must fail the test."""
    assert act(lambda: 42)[1] == 42
