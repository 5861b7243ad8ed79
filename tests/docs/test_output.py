"""The output that README and docs/pod.md show is what `watch` writes: the same lines, with other numbers."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.containerd import Containerd
from .pages import ROOT, blocks, words

_PATIENCE = 30.0
_PLUGIN = "/usr/lib/cni/bridge"
_NETWORK = b'{"cniVersion":"1.0.0","name":"pods","type":"bridge","hairpinMode":true,"promiscMode":true}'
"""What the plugin refuses: it cannot do both."""


@contextlib.contextmanager
def _table(path: Path) -> Iterator[None]:
    """`watch` writes its table into a file meanwhile, from before the block to all that happens in it."""
    with path.open("wb") as file:
        command = [sys.executable, "-m", "cni_collector", "watch", "-o", "table"]
        with subprocess.Popen(command, stdout=file) as process:
            try:
                _wait(path, "collector_start")
                yield
                process.send_signal(signal.SIGINT)
                assert process.wait(_PATIENCE) == 0
            finally:
                process.kill()


def _wait(path: Path, *wanted: str) -> list[str]:
    """The lines of a file, once one of them has all of these words."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        lines = path.read_text(encoding="utf-8").splitlines()
        if any(all(word in line for word in wanted) for line in lines):
            return lines
        time.sleep(0.05)
    raise AssertionError(f"no line with {wanted}")


def _shown(page: str) -> list[list[str]]:
    """The output in the `console` blocks of a page, block by block, without the commands."""
    found = [block.text.splitlines() for block in blocks("console") if block.page == ROOT / page]
    return [lines for block in found if (lines := [line for line in block if re.match("TIME|[0-9]", line)])]


@pytest.mark.alone  # a busy machine is slow to tear its namespace down
def test_the_readme(tmp_path: Path) -> None:
    name, table = f"doc{secrets.token_hex(4)}", tmp_path / "table"
    call = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "4c01db0b339c",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_PATH": os.path.dirname(_PLUGIN),
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
    }
    with _table(table):
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            inum = Path(f"/run/netns/{name}").stat().st_ino
            _wait(table, "netns_exit", f"/{inum} ")
            added = subprocess.run([_PLUGIN], env=call, input=_NETWORK, stdout=subprocess.PIPE, timeout=_PATIENCE)
            assert added.returncode == 1, added.stdout
            enter = ["setpriv", "--reuid", "65534", "nsenter", f"--net=/run/netns/{name}", "true"]
            assert subprocess.run(enter, stderr=subprocess.DEVNULL, timeout=_PATIENCE).returncode == 1
        finally:
            subprocess.run(["ip", "netns", "del", name], check=True)
        lines = _wait(table, "netns_destroy", f"/run/netns/{name}")
    born = max(number for number, line in enumerate(lines) if "netns_create" in line and f"/{inum} " in line)
    written = [*lines[:2], *(line for line in lines[born:] if f"/{inum} " in line)]
    [shown] = _shown("README.md")
    assert [words(line) for line in written] == [words(line) for line in shown]


@pytest.mark.timeout(300)
def test_the_life_of_a_pod(tmp_path: Path) -> None:
    table = tmp_path / "table"
    with Containerd() as containerd, _table(table):
        pod = containerd.run_pod("shop", "web-0", "0c4b8e6e-6b0a-4f8e-9b0f-3b1c5c1d2e3f")
        containerd.create_container(pod, "web", ["sleep", "1000"])
        containerd.stop_pod(pod)
        sandbox = pod.id[:12]
        calls = [line for line in _wait(table, "cni_start", sandbox) if "cni_start" in line and sandbox in line]
        cookie = calls[0].split()[2]
        _wait(table, "netns_destroy", cookie)
        containerd.remove_pod(pod)
    lines = table.read_text().splitlines()
    life = [line for line in lines if f" {cookie} " in line]
    second = [line for line in lines if sandbox in line and line not in life]
    for shown, written in zip(_shown("docs/pod.md"), (life, second), strict=True):
        lines_shown, lines_written = ([tuple(words(line)) for line in lines] for lines in (shown[1:], written))
        assert collections.Counter(lines_written) == collections.Counter(lines_shown)  # two plugins run at once
        assert lines_written[0] == lines_shown[0]
        assert lines_written[-1] == lines_shown[-1]
