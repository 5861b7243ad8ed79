"""Names of the kernel's functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_collector.kernel.symbols import local_name, variant

SYMBOLS = """\
0000000000000000 T copy_net_ns
0000000000000000 t setup_net.cold
0000000000000000 t setup_net.part.0
0000000000000000 t setup_net.isra.0
0000000000000000 t setup_net_ns.isra.0
0000000000000000 t cleanup_net.constprop.0\t[some_module]
0000000000000000 t halved.cold
"""


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("setup_net", "setup_net.isra.0"),
        ("cleanup_net", "cleanup_net.constprop.0"),
        ("copy_net_ns", None),  # it is there, and is no variant of itself
        ("halved", None),
        ("absent", None),
    ],
)
def test_what_the_compiler_left(tmp_path: Path, function: str, found: str | None) -> None:
    symbols = tmp_path / "kallsyms"
    symbols.write_text(SYMBOLS)
    assert variant(function, str(symbols)) == found


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "__x64_sys_setns"), ("aarch64", "__arm64_sys_setns"), ("riscv64", "__x64_sys_setns")],
)
def test_the_entry_of_a_system_call(monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert local_name("fentry/__x64_sys_setns") == f"fentry/{name}"
    assert local_name("ksys_unshare") == "ksys_unshare"
