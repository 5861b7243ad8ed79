"""The tests of tests/kernel on many kernels, in every tier, and the table of docs/kernels.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from cni_collector.hooks import TIERS

from . import kernels, roots
from .cache import CHECKOUT, folder, say
from .in_guest import LOCKDOWN

SIDE_BY_SIDE: Final = 2
CPUS: Final = 1
"""As many as the emulator makes good use of: with two, a suite takes longer, and amd64 locks up (see machine.py)."""
TIMEOUT: Final = 1500
"""Seconds for one tier on one machine."""
NOT_OFFERED: Final = {("6.1", "arm64", "fentry")}
"""Where it is known that a tier cannot work; anywhere else that is a failure."""
TABLE: Final = CHECKOUT / "docs" / "kernels.md"
_ROW: Final = re.compile(r"^\| [0-9].*\|$", re.M)


class Run(NamedTuple):
    """All tests in one tier on one kernel; or, as the tier LOCKDOWN, those of a machine that is locked down."""

    version: str
    flavour: str
    tier: str

    @property
    def log(self) -> Path:
        """Where all that it wrote stands."""
        return folder() / "logs" / f"{self.version}-{self.flavour}-{self.tier}.log"


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        good: it ended as it must.
        kernel: the release that uname told; empty where the machine did not get so far.
        says: what the table says.
    """

    run: Run
    good: bool
    kernel: str
    says: str


def runs(wanted: Iterable[str]) -> list[Run]:
    """The runs for what a user names: `6.1` is both architectures, `6.18/arm64-16k` is one."""
    return [
        Run(version, flavour, tier)
        for name in dict.fromkeys(wanted)
        for version, _, only in [name.partition("/")]
        for flavour in ([only] if only else ["amd64", "arm64"])
        for tier in [*TIERS, LOCKDOWN]
    ]


def run_all(wanted: Iterable[str]) -> bool:
    """Runs everything, two machines side by side, tells how each run ended, and writes the table."""
    todo = runs(wanted)
    for version, flavour in dict.fromkeys((run.version, run.flavour) for run in todo):
        roots.root(kernels.kernel(version, flavour).arch)
    (folder() / "logs").mkdir(exist_ok=True)
    started = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for outcome in pool.map(_run, todo):
            outcomes.append(outcome)
            run = outcome.run
            say(
                f"{len(outcomes)} of {len(todo)}, {time.monotonic() - started:.0f} s: "
                f"{run.version} {run.flavour} {run.tier}: {'' if outcome.good else 'FAILED: '}{outcome.says}"
            )
            if not outcome.good:
                print(run.log.read_text(errors="replace")[-6000:], file=sys.stderr)
                say(f"the whole of it is in {run.log}")
    _write_table(outcomes)
    return all(outcome.good for outcome in outcomes)


def _run(run: Run) -> Outcome:
    """One machine, from its boot to its end."""
    command = [
        *(sys.executable, "-m", "tests.machines", "run", run.version, run.flavour, "--timeout", str(TIMEOUT)),
        *("--cpus", str(CPUS)),
        *(("--append", "lockdown=confidentiality") if run.tier == LOCKDOWN else ()),
        *("--", "python", "-m", "tests.machines.in_guest", run.tier),
    ]
    with run.log.open("w+") as log:
        status = subprocess.run(command, cwd=CHECKOUT, stdout=log, stderr=log, check=False).returncode
        log.seek(0)
        written = log.read()
    first = re.search(r"^\{.*\}$", written, re.M)
    if not first:
        return Outcome(run, False, "", f"the machine did not start the tests (exit status {status})")
    offer = json.loads(first[0])
    if offer["refusal"]:
        good = (run.version, run.flavour, run.tier) in NOT_OFFERED
        return Outcome(run, good, offer["kernel"], "not offered")
    counts = re.findall(r"^(?:=+ )?((?:\d+ \w+,? ?)+)in [\d.]+s", written, re.M)
    says = counts[-1].strip() if counts else f"no tests ended (exit status {status})"
    missing = "".join(f"; missing: {one}" for one in offer["missing"])
    return Outcome(run, status == 0 and bool(counts), offer["kernel"], says + missing)


def _write_table(outcomes: list[Outcome]) -> None:
    """Puts rows for what was run into the table; rows of other kernels stay as they are."""
    text = TABLE.read_text()
    rows = {tuple(row.split("|")[1:3]): row for row in _ROW.findall(text)}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for outcome in outcomes:
        if outcome.kernel:
            cell = outcome.says if outcome.good else f"**failed**: {outcome.says}"
            cells.setdefault((f" {outcome.kernel} ", f" {outcome.run.flavour} "), {})[outcome.run.tier] = cell
    for key, by_tier in cells.items():
        rows[key] = f"|{key[0]}|{key[1]}|" + "".join(f" {by_tier.get(tier, 'not run')} |" for tier in TIERS)
    ordered = sorted(rows.values(), key=lambda row: ([int(n) for n in re.findall(r"\d+", row.split("|")[1])], row))
    before, rest = _ROW.sub("", text).split("| --- | --- | --- | --- | --- |\n", 1)
    TABLE.write_text(before + "| --- | --- | --- | --- | --- |\n" + "\n".join(ordered) + "\n\n" + rest.lstrip("\n"))
