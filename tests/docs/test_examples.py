"""Every example in README and docs does what it says."""

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

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(language: str) -> list[object]:
    """The code blocks of a language, each named after its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    assert found
    return found


@pytest.mark.parametrize("code", _blocks("python"))
def test_python(code: str) -> None:
    """It runs to its end; one that shows events until Ctrl-C is given some to show, and then that."""
    endless = "stop" not in code and "break" not in code and "collector.events()" in code.splitlines()[-2]
    command = [sys.executable, "-u", "-X", "dev", "-W", "error", "-c", code]
    with subprocess.Popen(
        command,
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


@pytest.mark.parametrize("lines", _blocks("json"))
def test_json(lines: str) -> None:
    """Each line is an event, written as the command writes it."""
    for line in lines.splitlines():
        event = msgspec.json.decode(line, type=AnyEvent)
        assert msgspec.json.encode(event).decode() == line


def test_the_schema_is_that_of_the_classes() -> None:
    assert json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
