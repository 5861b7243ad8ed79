"""Hooks are attached as a whole or not at all, also where they share a program."""

from __future__ import annotations

from typing import Any

import pytest

from cni_collector.errors import AttachError
from cni_collector.kernel import tiers
from cni_collector.kernel.hooks import Hook
from cni_collector.kernel.tiers import AttachedHooks

FIRST = Hook(("cni_both", "cni_first"), "one fact", frozenset())
SECOND = Hook(("cni_both", "cni_second"), "another", frozenset())
THIRD = Hook(("cni_syscall",), "a third", frozenset(), syscall="setns")


TARGETS = {"cni_both": "tp_btf/a", "cni_first": "kprobe/b", "cni_second": "fentry/c", "cni_syscall": "tp"}
EDGES = ["sys_exit_setns", "sys_enter_setns"]
"""What is seen to begin is also seen to end."""


class Loaded:
    """An object whose programs note what becomes of them; some cannot be attached."""

    def __init__(self, refused: str) -> None:
        self.refused = refused
        self.attached: list[str] = []

    def program(self, name: str) -> Program:
        """One of its programs."""
        return Program(self, name)


class Program:
    """One program."""

    def __init__(self, loaded: Loaded, name: str) -> None:
        self.loaded = loaded
        self.name = name

    @property
    def target(self) -> str:
        """As `libbpf.Program.target`."""
        return TARGETS[self.name]

    def attach(self, tracepoint: str | None, _cookie: int) -> Link:
        """As `libbpf.Program.attach`."""
        place = tracepoint or self.name
        if place == self.loaded.refused:
            raise AttachError("no", self.name, "", 1)
        return Link(self.loaded.attached, place)


class Link:
    """One attachment, among the others."""

    def __init__(self, attached: list[str], place: str) -> None:
        self.attached = attached
        self.place = place
        attached.append(place)

    def close(self) -> None:
        """As `libbpf.Link.close`."""
        self.attached.remove(self.place)


@pytest.mark.parametrize(
    ("refused", "attached", "missing"),
    [
        ("", ["cni_both", "cni_first", "cni_second", *EDGES], []),
        ("cni_first", ["cni_both", "cni_second", *EDGES], [FIRST]),
        ("cni_second", ["cni_both", "cni_first", *EDGES], [SECOND]),
        ("cni_both", EDGES, [FIRST, SECOND]),
        ("sys_enter_setns", ["cni_both", "cni_first", "cni_second"], [THIRD]),
    ],
)
def test_a_hook_is_attached_or_missing(refused: str, attached: list[str], missing: list[Hook]) -> None:
    """What two hooks share is attached once, and let go of only if neither has it."""
    loaded: Any = Loaded(refused)
    hooks = AttachedHooks("", loaded, {})
    for hook in (FIRST, SECOND, THIRD):
        hooks.attach(hook)
    assert loaded.attached == attached
    assert list(hooks.missing) == missing
    hooks.detach()
    assert loaded.attached == []


@pytest.mark.parametrize(("preempted", "skippable"), [(True, [FIRST, THIRD]), (False, [])])
def test_what_a_preempted_reader_of_maps_hides(
    monkeypatch: pytest.MonkeyPatch, preempted: bool, skippable: list[Hook]
) -> None:
    """Programs of kprobes and of the tracepoints of system calls, on a kernel that preempts."""
    monkeypatch.setattr(tiers, "programs_are_preempted", lambda: preempted)
    loaded: Any = Loaded("")
    hooks = AttachedHooks("", loaded, {})
    for hook in (FIRST, SECOND, THIRD):
        hooks.attach(hook)
    assert hooks.skippable() == skippable


@pytest.mark.parametrize(("tier", "preempted"), [("tracepoint", True), ("kprobe", False), ("fentry", False)])
def test_where_what_seccomp_answers_does_not_show(monkeypatch: pytest.MonkeyPatch, tier: str, preempted: bool) -> None:
    monkeypatch.setattr(tiers, "programs_are_preempted", lambda: preempted)
    loaded: Any = Loaded("")
    assert not AttachedHooks(tier, loaded, {}).see_seccomp()
