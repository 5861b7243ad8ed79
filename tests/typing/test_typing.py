"""What type checkers say of code that uses the package, as users have it: mypy with --strict, and pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..docs.pages import blocks

HERE = Path(__file__).parent
USED = ["right.py", "wrong.py"]
EXAMPLES = {re.sub(r"\W", "_", block.name) + ".py": block.text for block in blocks("python")}

Places = dict[tuple[str, int], str]
"""File and line of what a checker has found, and what it says."""


def mypy(where: Path) -> Places:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=cache", "--output=json", "."]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found = map(json.loads, done.stdout.splitlines())
    return {(one["file"], one["line"]): one["message"] for one in found if one["severity"] == "error"}


def pyright(where: Path) -> Places:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "."]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1): one["message"]
        for one in found
        if one["severity"] == "error"
    }


@pytest.fixture(scope="module", params=[mypy, pyright])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """What a checker finds, where nothing of this repository is but what is installed."""
    where = tmp_path_factory.mktemp("user")
    for name in USED:
        (where / name).write_text((HERE / name).read_text(encoding="utf-8"), encoding="utf-8")
    for name, text in EXAMPLES.items():
        (where / name).write_text(text, encoding="utf-8")
    found: Places = request.param(where)
    return found


def test_nothing_is_found_in_code_that_is_right(places: Places) -> None:
    assert {place: told for place, told in places.items() if place[0] == "right.py"} == {}


def test_each_mistake_is_found(places: Places) -> None:
    lines = (HERE / "wrong.py").read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert {line for file, line in places if file == "wrong.py"} == marked


def test_nothing_is_found_in_the_examples_of_the_docs(places: Places) -> None:
    assert {place: told for place, told in places.items() if place[0] in EXAMPLES} == {}
