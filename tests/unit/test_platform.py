"""Where nothing can be collected: importing works, and starting says in one sentence why not."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cni_collector import Collector, LoadError, PrivilegeError, UnsupportedError
from cni_collector.errors import CollectorError
from cni_collector.kernel import hooks, libbpf, objects, tiers

VMLINUX = "/sys/kernel/btf/vmlinux"


class FakeLibbpf:
    """A libbpf that opens anything and fails where it is told to."""

    def __init__(self, **results: int) -> None:
        sizes = {b".rodata": 4, b"lost": 96}
        functions: dict[str, Callable[..., int | bytes]] = {
            "bpf_object__find_map_by_name": lambda _object, name: sizes.get(name, 1),  # a map's handle is its size
            "bpf_map__value_size": lambda handle: handle,
            "bpf_program__section_name": lambda _program: b"?tp_btf/any",
        }
        for name, (result, *_) in libbpf._PROTOTYPES.items():
            value = results.get(name, int(result is ctypes.c_void_p))
            setattr(self, name, functions.get(name, self._always(value)))

    @staticmethod
    def _always(value: int) -> Callable[..., int | bytes]:
        return lambda *_: value


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A Linux with tracefs and BTF, whatever machine this is."""
    libbpf.libbpf.cache_clear()
    (tmp_path / "events").mkdir()
    (tmp_path / "events/header_page").touch()
    exists = os.path.exists
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(tiers, "TRACEFS", str(tmp_path))
    monkeypatch.setattr(os.path, "exists", lambda path: path == VMLINUX or exists(path))
    yield
    libbpf.libbpf.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, library: object | None) -> None:
    """Has the dynamic linker find this libbpf, or none."""
    load = ctypes.CDLL

    def find(name: str | None, *arguments: Any, **options: Any) -> Any:
        if name != "libbpf.so.1":
            return load(name, *arguments, **options)
        if library is None:
            raise OSError("libbpf.so.1: cannot open shared object file: No such file or directory")
        return library

    monkeypatch.setattr(ctypes, "CDLL", find)


def hold(monkeypatch: pytest.MonkeyPatch, capabilities: int) -> None:
    """Gives this process these effective capabilities, as far as it can see."""
    status = f"Name:\tpytest\nCapPrm:\t0\nCapEff:\t{capabilities:016x}\n"
    monkeypatch.setattr(objects, "open", lambda *_, **__: io.StringIO(status), raising=False)


def hide_tracefs(monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    """Has whoever looks for tracefs meet this error."""
    missing = f"{tiers.TRACEFS}/missing"  # nothing can be mounted there
    stat = os.stat

    def look(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith((missing, "/sys/kernel/debug/")):
            raise error(0, "hidden", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(tiers, "TRACEFS", missing)
    monkeypatch.setattr(os, "stat", look)


def refusal(kind: type[CollectorError]) -> str:
    """What starting says: one line, that begins with what was being done."""
    with pytest.raises(kind) as caught:
        Collector().start()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith("cannot ")
    assert "\n" not in message
    return message


def test_importing_needs_nothing_of_linux() -> None:
    without_linux = (
        "import ctypes, os, select, sys, time\n"
        "sys.platform, ctypes.CDLL = 'darwin', None\n"
        "for module, name in (os, 'eventfd'), (select, 'epoll'), (time, 'CLOCK_BOOTTIME'):\n"
        "    vars(module).pop(name, None)\n"
        "import cni_collector.cli\n"
        "cni_collector.Collector()\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", without_linux], check=True)


def test_not_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_tracefs(monkeypatch, FileNotFoundError)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "darwin" in refusal(UnsupportedError)


@pytest.mark.parametrize("library", [None, SimpleNamespace()], ids=["missing", "without a function"])
def test_no_libbpf_that_fits(monkeypatch: pytest.MonkeyPatch, library: object | None) -> None:
    hide_tracefs(monkeypatch, FileNotFoundError)
    install(monkeypatch, library)
    message = refusal(UnsupportedError)
    assert "libbpf 1.0 or newer" in message
    assert "apt install libbpf1" in message


def test_libbpf_is_looked_for_again_after_it_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    refusal(UnsupportedError)
    fake = FakeLibbpf()
    install(monkeypatch, fake)
    assert libbpf.libbpf() is fake


def test_a_kernel_without_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibbpf())
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path != VMLINUX and exists(path))
    message = refusal(UnsupportedError)
    assert VMLINUX in message
    assert "CONFIG_DEBUG_INFO_BTF" in message


@pytest.mark.parametrize(
    ("held", "named"),
    [(0, "CAP_BPF and CAP_PERFMON"), (1 << 39, "CAP_PERFMON"), (1 << 38, "CAP_BPF")],
)
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_missing_capabilities_are_named(monkeypatch: pytest.MonkeyPatch, held: int, named: str, number: int) -> None:
    install(monkeypatch, FakeLibbpf(bpf_object__load=-number))
    hold(monkeypatch, held)
    assert f"without {named}:" in refusal(PrivilegeError)


@pytest.mark.parametrize("held", [1 << 21, 1 << 38 | 1 << 39], ids=["CAP_SYS_ADMIN", "CAP_BPF and CAP_PERFMON"])
def test_a_refusal_that_no_capability_explains_is_no_lack_of_privilege(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    install(monkeypatch, FakeLibbpf(bpf_object__load=-errno.EPERM))
    hold(monkeypatch, held)
    message = refusal(UnsupportedError)
    for tier in hooks.TIERS:
        assert f"{tier}: " in message
    assert os.strerror(errno.EPERM) in message
    with pytest.raises(LoadError, match=os.strerror(errno.EPERM)):
        Collector(tier="tracepoint").start()


def test_an_ordinary_user_may_not_even_look_at_tracefs(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibbpf(bpf_object__load=-errno.EPERM))
    hold(monkeypatch, 0)
    hide_tracefs(monkeypatch, PermissionError)
    refusal(PrivilegeError)


def test_a_package_without_its_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tiers, "OBJECT", tmp_path / "cni.bpf.o")
    assert "reinstall" in refusal(LoadError)
