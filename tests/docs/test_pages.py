"""The README is short, the changelog knows the version, and names on the pages are those of the code."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest
import yaml

from cni_collector import AnyEvent, Stats
from cni_collector.cli.main import main
from cni_collector.events import type_name
from cni_collector.version import VERSION

from .pages import PAGES, ROOT, prose, spans

ARCHITECTURE = ROOT / "docs" / "architecture.md"
README = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README) <= 110


def test_the_readme_begins_with_a_command() -> None:
    assert any(line.startswith("$ ") for line in README[:40])


def test_the_readme_shows_a_kernel_of_debians() -> None:
    shown = re.findall(r"kernel=(\S+)", "\n".join(README))
    assert shown
    assert all(re.search(r"\+deb[0-9]+-(amd64|arm64)$", release) for release in shown)


def test_the_readme_says_what_make_test_installs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [recipe] = re.findall(r"^packages-test:.*\n\ttools/packages ((?:.*\\\n)*.*)\n", makefile, re.MULTILINE)
    [said] = re.findall(r"`make test` installs, by apt-get, what is missing of (.*?);", "\n".join(README), re.DOTALL)
    assert set(re.findall(r"[\w-]+", said)) - {"and"} == set(recipe.replace("\\", "").split())


def test_the_changelog_has_this_version_and_what_comes() -> None:
    versions = re.findall(r"^## \[(.+?)\](?: - [0-9]{4}-[0-9]{2}-[0-9]{2})?$", CHANGELOG, re.MULTILINE)
    assert versions[:2] == ["Unreleased", VERSION]


def _renamed() -> list[str]:
    """The names in the left column of "Upgrading", but for those of events, fields and commands that still are."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", CHANGELOG, re.MULTILINE)
    kinds = [*get_args(AnyEvent), Stats]
    fields = {field.name for kind in kinds for field in msgspec.structs.fields(kind)}
    kept = fields | {type_name(kind) for kind in get_args(AnyEvent)} | {"Stats", *main.commands}
    names = {name for row in rows for name in re.findall(r"`(\w[^`]+|\"[^`]+)`", row)} - kept
    assert "missed" in names
    return sorted(names)


@pytest.mark.parametrize("name", _renamed())
def test_pages_use_the_new_name(name: str) -> None:
    users = [page.name for page in PAGES if page.name != "CHANGELOG.md" and any(name in span for span in spans(page))]
    assert not users


def test_architecture_names_what_exists() -> None:
    paths = [path for path in ROOT.rglob("*") if not path.relative_to(ROOT).parts[0].startswith(".")]
    tails = {f"/{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}" for path in paths}
    text = ARCHITECTURE.read_text(encoding="utf-8")
    files = set(re.findall(r"[\w./]+\.(?:py|h|c|md|toml|json)\b", text))
    named = {name.removeprefix("../") for name in files | set(re.findall(r"(?<=`)[\w/]+/(?=`)", text))}
    named -= {name for name in named if "NAME" in name}
    assert {name for name in named if not any(tail.endswith(f"/{name}") for tail in tails)} == set()


def test_architecture_names_every_file_in_its_room() -> None:
    rows = re.findall(r"^\| (\S.*?) \| (.+?) \| .* \| .* \|$", prose(ARCHITECTURE), re.MULTILINE)
    named = {room.strip("`"): set(re.findall(r"`([\w.]+\.(?:py|h|c))`", files)) for room, files in rows}
    package = ROOT / "src" / "cni_collector"
    rooms = {"bpf/": ROOT / "bpf", "the face": package}
    rooms |= {f"{path.name}/": path for path in package.iterdir() if (path / "__init__.py").exists()}
    left_out = {"__init__.py"}, {"__main__.py"}
    files = {
        room: {path.name for path in directory.iterdir() if path.suffix in (".py", ".h", ".c")}
        - left_out[directory == package]
        for room, directory in rooms.items()
    }
    assert {room: named[room] ^ files[room] for room in rooms if named[room] != files[room]} == {}


@pytest.mark.parametrize("page", ["exporters.md", "operations.md"])
def test_metrics_are_those_that_are_served(page: str) -> None:
    served = (ROOT / "src/cni_collector/exporters/prometheus.py").read_text(encoding="utf-8")
    named = set(re.findall(r"\bcni_\w+", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    named -= {"cni_collector", "cni_start", "cni_end"}
    assert named
    assert {metric for metric in named if f'"{re.sub("_(total|info)$", "", metric)}"' not in served} == set()


def test_a_hosted_ci_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == ["sudo .ci/run"]
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    said = re.search(r"CI runs `.ci/run`[^`]*`make ([\w -]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert said
    assert said[1].split() == re.findall(r"^step make (\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
