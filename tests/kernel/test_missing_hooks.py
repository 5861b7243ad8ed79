"""Kernels that lack a function, or have it under another name: the rest works, and what is lost by it is told."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from cni_collector import AttachError, Collector, CollectorStart, LoadError
from cni_collector.kernel import objects, tiers
from cni_collector.kernel.symbols import local_name

from ..support.actors import a_life


def _start(collector: Collector) -> CollectorStart:
    start = next(iter(collector.events()))
    assert isinstance(start, CollectorStart)
    return start


def _hide(monkeypatch: pytest.MonkeyPatch, function: str, *tracepoints: str) -> None:
    """Makes a function of the kernel be missing, and tracepoints of system calls."""
    attach, name = objects.Program.attach, local_name

    def refuse(program: objects.Program, tracepoint: str | None = None, cookie: int = 0) -> objects.Link:
        if tracepoint in tracepoints:
            raise AttachError("cannot attach: hidden", program.name, program.target, 2)
        return attach(program, tracepoint, cookie)

    monkeypatch.setattr(objects.Program, "attach", refuse)
    monkeypatch.setattr(objects, "local_name", lambda hook: name(hook).replace(function, f"{function}_is_gone"))


def test_an_optional_function_is_missing(monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    _hide(monkeypatch, "copy_net_ns", "sys_exit_clone")
    with Collector(tier=tier) as collector:
        a = a_life()
        story = []
        for event in collector.events():
            if event.netns and event.netns.cookie == a:
                story.append(event.type)
            if event.type == "netns_destroy" and event.netns and event.netns.cookie == a:
                break
        collector.stop()
    assert story == ["netns_create", "netns_enter", "netns_exit", "netns_destroy"]


def test_what_is_lost_by_it_is_told(monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    _hide(monkeypatch, "copy_net_ns", "sys_exit_clone")
    with Collector(tier=tier) as collector:
        pass
    assert _start(collector).missing == [
        "refusals of clone" if tier == "tracepoint" else "birth in a system call that fails later"
    ]


def test_a_required_function_is_missing(monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    _hide(monkeypatch, "ksys_unshare", "sys_exit_unshare")
    with pytest.raises((AttachError, LoadError)):
        Collector(tier=tier).start()


def test_the_next_tier_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the function that both other tiers need, the tracepoint tier remains."""
    _hide(monkeypatch, "ksys_unshare")
    with Collector() as collector:
        pass
    assert _start(collector).tier == "tracepoint"


def test_a_return_probe_on_what_the_compiler_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some function that this kernel has as name.isra.0 or the like only; its entry is refused, its return is not."""
    if tiers.try_tier("kprobe"):
        pytest.skip("this kernel has no kprobes")
    functions = Path("/sys/kernel/tracing/available_filter_functions").read_text(encoding="ascii").split()
    whole = set(functions)
    changed = [name for name in functions if ".isra." in name and name.partition(".")[0] not in whole]
    with contextlib.closing(tiers.open_object(["cni_kr_copy", "cni_kp_clone"], ring_bytes=tiers.TRIAL_RING)) as opened:
        opened.load()
        base = changed[0].partition(".")[0]
        monkeypatch.setattr(objects, "local_name", lambda hook: f"{hook.partition('/')[0]}/{base}")
        opened.program("cni_kr_copy").attach().close()
        with pytest.raises(AttachError, match=rf"there is {base}\..*, but its arguments"):
            opened.program("cni_kp_clone").attach()
