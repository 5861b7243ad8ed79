"""Every command that a page shows: run where it can be, otherwise looked up where it comes from.

`console` blocks hold commands (`$ ...`) and what they write. A command that is not known here is a failure.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cni_collector.cli.main import main

from .pages import PAGES, ROOT, blocks, indented, spans

_CHANGES_THE_MACHINE = {"git", "pip", "apt", "kubectl", "kustomize", "podman", "cp", "systemctl", "nats", "python3"}
"""Not run, and not looked up either."""


def _commands() -> dict[str, str]:
    """The commands of `console` blocks, without what privileges and comments add, and where each stands."""
    found: dict[str, str] = {}
    for block in blocks("console"):
        for line in block.text.splitlines():
            if line.startswith("$ "):
                command = re.sub(r"\s+#.*|\s+>.*", "", line[2:]).removeprefix("sudo ")
                found.setdefault(command, block.name)
    return found


_CONSOLE = _commands()
_OURS = [command for command in _CONSOLE if command.startswith("cni-collector ")]


def _parse(command: str) -> None:
    """Has the command take its arguments, and do nothing. Of a name alone: whether there is such a command."""
    _, name, *arguments = shlex.split(command)
    assert name in main.commands
    if arguments:
        main.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("command", _OURS)
def test_commands_run(command: str, tmp_path: Path) -> None:
    """Those that would go on for ever do so for half a second; `replay` gets a file that `watch` has written."""
    run = [sys.executable, "-m", "cni_collector"]
    if "replay" in command:
        first = [*run, "watch", "--file", "events.json", "--duration", "0.5"]
        subprocess.run(first, cwd=tmp_path, check=True, timeout=30)
    limit = ["--duration", "0.5"] if "watch" in command else []
    subprocess.run([*run, *shlex.split(command)[1:], *limit], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_options_exist(page: Path) -> None:
    """Also in the text, and of commands that would need a server. The changelog tells of options that are gone."""
    if page.name == "CHANGELOG.md":
        return
    for line in itertools.chain(spans(page), indented(page)):
        if re.match(r"cni-collector [a-z]", line):
            _parse(re.sub(r"\s+#.*", "", line))


@pytest.mark.parametrize("command", sorted(_CONSOLE.keys() - set(_OURS)))
def test_other_commands_exist(command: str) -> None:
    name, *arguments = shlex.split(command)
    if name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [argument for argument in arguments if "=" not in argument]
        assert all(re.search(f"^{target}:", makefile, re.MULTILINE) for target in targets)
    elif name in (".venv/bin/python", "python") and arguments[0] == "-m":
        module, *arguments = arguments[1:]
        assert importlib.util.find_spec(module), f"there is no module {module}"
        if module == "pytest":
            tests = [argument for argument in arguments if argument.startswith("tests/")]
            assert tests
            assert all((ROOT / test).exists() for test in tests)
        elif module == "bench":
            asked = subprocess.check_output([sys.executable, "-m", module, "--help"], cwd=ROOT, timeout=60)
            assert all(part.encode() in asked for part in arguments)
    elif name == ".venv/bin/python":
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    else:
        assert name in _CHANGES_THE_MACHINE
