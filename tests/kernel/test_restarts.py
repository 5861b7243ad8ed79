"""A system call that a signal interrupts before it did anything is made again by the kernel: that is no refusal."""

from __future__ import annotations

import os
import signal

from cni_collector import Lost

from ..support.actors import CLONE_NEWNET, act, clone, reap
from ..support.watch import EMULATED, mark, watching

CLONES = 300
INTERVAL = 0.002 if EMULATED else 0.0001
"""Seconds between two signals: enough of them arrive between the beginning of a clone and its look for signals."""


def test_clone_with_signals_pending() -> None:
    """copy_process() gives ERESTARTNOINTR (513), and the system call is made again once the signal has been handled."""

    def play() -> None:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
        for _ in range(CLONES):
            child = clone(CLONE_NEWNET)
            if not child:
                os._exit(0)
            reap(child)
        signal.setitimer(signal.ITIMER_REAL, 0)

    with watching() as mine:
        pid, _ = act(play)
        mark(mine)
        mine.stop()
    told = [event.type for event in mine.events if event.pid == pid]
    assert told == ["netns_create"] * CLONES
    lost = [event.by_type for event in mine.events if isinstance(event, Lost)]
    assert not any("netns_create_failed" in by_type for by_type in lost)
