"""The table of docs/kernels.md, as the suite of emulated machines writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machines import suite
from tests.machines.suite import Outcome, Run

HEAD = "| Linux | architecture | fentry | kprobe | tracepoint |\n| --- | --- | --- | --- | --- |\n"
BEFORE = (
    "# Kernels\n\n| loop | a | b | c | d | e |\n| --- | --- | --- | --- | --- | --- |\n| x | 1 | 2 | 3 | 4 | 5 |\n\n"
)
AFTER = "\nWords.\n"


def test_what_was_run_is_put_in_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "kernels.md"
    table.write_text(BEFORE + HEAD + "| 6.12.1-amd64 | amd64 | 9 passed | not run | 9 passed |\n" + AFTER)
    monkeypatch.setattr(suite, "TABLE", table)
    for outcome in (
        Outcome(Run("6.1", "arm64", "fentry"), True, "6.1.9-arm64", "not offered"),
        Outcome(Run("6.12", "amd64", "kprobe"), False, "6.12.1-amd64", "1 failed, 8 passed"),
        Outcome(Run("6.12", "amd64", "lockdown"), True, "6.12.1-amd64", "6 passed"),
        Outcome(Run("7", "amd64", "kprobe"), False, "", "the machine did not start the tests"),
    ):
        suite._note(outcome)
    assert (
        table.read_text()
        == BEFORE
        + HEAD
        + (
            "| 6.1.9-arm64 | arm64 | not offered | not run | not run |\n"
            "| 6.12.1-amd64 | amd64 | 9 passed | **failed**: 1 failed, 8 passed | 9 passed |\n"
        )
        + AFTER
    )


def test_what_is_run() -> None:
    assert [(run.flavour, run.tier) for run in suite.runs(["6.1"])] == [
        (flavour, tier) for flavour in ("amd64", "arm64") for tier in ("fentry", "kprobe", "tracepoint", "lockdown")
    ]
    assert suite.runs(["7/amd64/kprobe", "7/amd64/kprobe"]) == [Run("7", "amd64", "kprobe")]
    assert {run.flavour for run in suite.runs(["6.18/arm64-16k"])} == {"arm64-16k"}
