"""Which tier comes first depends on whether the kernel preempts BPF programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_collector.kernel import hooks, preemption, tiers


@pytest.mark.parametrize(
    ("built", "modes", "arguments", "first"),
    [
        ("#1 SMP Debian 5.10", None, "quiet", "fentry"),
        ("#1 SMP PREEMPT Arch", None, "quiet", "kprobe"),
        ("#1 SMP PREEMPT_RT Debian", None, "quiet", "kprobe"),
        ("#1 SMP PREEMPT_DYNAMIC Debian", "none (voluntary) full\n", "quiet", "fentry"),
        ("#1 SMP PREEMPT_DYNAMIC Debian", "(none) voluntary full lazy\n", "quiet", "fentry"),
        ("#1 SMP PREEMPT_DYNAMIC Debian", "none voluntary (full)\n", "preempt=none", "kprobe"),
        ("#1 SMP PREEMPT_DYNAMIC Debian", "full (lazy)\n", "quiet", "kprobe"),
        ("#1 SMP PREEMPT_DYNAMIC Debian", None, "ro preempt=voluntary quiet", "fentry"),
        ("#1 SMP PREEMPT_DYNAMIC Debian", None, "ro quiet", "kprobe"),
    ],
)
def test_preference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: str, modes: str | None, arguments: str, first: str
) -> None:
    if modes:
        (tmp_path / "modes").write_text(modes)
    (tmp_path / "arguments").write_text(arguments)
    monkeypatch.setattr("platform.version", lambda: built)
    monkeypatch.setattr(preemption, "_MODES", str(tmp_path / "modes"))
    monkeypatch.setattr(preemption, "_COMMAND_LINE", str(tmp_path / "arguments"))
    order = tiers.preference()
    assert order[0] == first
    assert order[-1] == "tracepoint"
    assert sorted(order) == sorted(hooks.TIERS)
