"""Hooks are attached as a whole or not at all, also where they share a program."""

from __future__ import annotations

from typing import Any

import pytest

from cni_collector.errors import AttachError
from cni_collector.kernel.hooks import Hook
from cni_collector.kernel.tiers import AttachedHooks

FIRST = Hook(("cni_both", "cni_first"), "one fact", frozenset())
SECOND = Hook(("cni_both", "cni_second"), "another", frozenset())


class Loaded:
    """An object whose programs note what becomes of them; some cannot be attached."""

    def __init__(self, refused: str) -> None:
        self.refused = refused
        self.attached: list[str] = []

    def program(self, name: str) -> Program:
        """One of its programs."""
        return Program(self, name)


class Program:
    """One program, and its link."""

    def __init__(self, loaded: Loaded, name: str) -> None:
        self.loaded = loaded
        self.name = name

    def attach(self) -> Program:
        """As `libbpf.Program.attach`."""
        if self.name == self.loaded.refused:
            raise AttachError("no", self.name, "", 1)
        self.loaded.attached.append(self.name)
        return self

    def close(self) -> None:
        """As `libbpf.Link.close`."""
        self.loaded.attached.remove(self.name)


@pytest.mark.parametrize(
    ("refused", "attached", "missing"),
    [
        ("", ["cni_both", "cni_first", "cni_second"], []),
        ("cni_first", ["cni_both", "cni_second"], [FIRST]),
        ("cni_second", ["cni_both", "cni_first"], [SECOND]),
        ("cni_both", [], [FIRST, SECOND]),
    ],
)
def test_a_program_of_two_hooks_is_attached_once(refused: str, attached: list[str], missing: list[Hook]) -> None:
    loaded: Any = Loaded(refused)
    hooks = AttachedHooks("", loaded, {})
    for hook in (FIRST, SECOND):
        hooks.attach(hook)
    assert loaded.attached == attached
    assert list(hooks.missing) == missing
    hooks.detach()
    assert loaded.attached == []
