"""Every example in Python and JSON does what it says."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cni_collector import AnyEvent, json_schema

from ..support.actors import a_life
from .pages import ROOT, Block, blocks

_PYTHON = blocks("python")


@pytest.mark.parametrize("block", _PYTHON, ids=[block.name for block in _PYTHON])
def test_python(block: Block, tmp_path: Path) -> None:
    """It runs to its end; one that shows events until Ctrl-C gets some to show, and then that."""
    code = block.text
    endless = "stop" not in code and "break" not in code and "collector.events()" in code.splitlines()[-2]
    with subprocess.Popen(
        [sys.executable, "-u", "-X", "dev", "-W", "error", "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    ) as process:
        if not endless:
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0, errors
            return
        assert process.stdout
        assert process.stdout.readline().startswith("collector_start")
        ours = re.compile(rf"\bcookie={a_life()}\b")
        lines = filter(ours.search, iter(process.stdout.readline, ""))
        shown = [line.split()[0] for line in itertools.islice(lines, 4)]
        assert shown == ["netns_create", "netns_enter", "netns_exit", "netns_destroy"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert errors.strip().endswith("KeyboardInterrupt")


def test_python_has_the_types_that_it_seems_to_have(tmp_path: Path) -> None:
    for number, block in enumerate(_PYTHON):
        name = f"example_{number}.py"
        (tmp_path / name).write_text(f"# {block.name}\n{block.text}", encoding="utf-8")
    cache = f"--cache-dir={ROOT / '.mypy_cache'}"
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", cache, *sorted(tmp_path.glob("*.py"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in blocks("json")])
def test_json(block: Block) -> None:
    """Each line is an event, written as the command writes it."""
    for line in block.text.splitlines():
        event = msgspec.json.decode(line, type=AnyEvent)
        assert msgspec.json.encode(event).decode() == line


def test_the_schema_is_that_of_the_classes() -> None:
    assert json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8")) == json_schema()
