"""The tests of tests/kernel on many kernels, in every tier, and the table of docs/kernels.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from cni_collector.kernel.hooks import TIERS

from . import kernels, roots
from .cache import CHECKOUT, folder, say
from .in_guest import LOCKDOWN

SIDE_BY_SIDE: Final = (os.cpu_count() or 1) + 1
"""Machines: each waits for a quarter of the time."""
CPUS: Final = 1
"""With two, which take turns (see machine.py), all takes a quarter longer."""
TIMEOUT: Final = 1500
"""Seconds for one tier on one machine."""
NOT_OFFERED: Final = {("6.1", "arm64", "fentry")}
"""Where it is known that a tier cannot work; anywhere else that is a failure."""
GAPS: Final = {("7", "fentry"), ("7", "tracepoint")}
"""Versions and tiers whose programs the kernel skips while another task is preempted in one: some tests miss events
there, and which is a matter of chance. The table says so. What is skipped is counted: tests/kernel/test_preemption.py.
"""
TABLE: Final = CHECKOUT / "docs" / "kernels.md"
_HEAD: Final = "\n| --- | --- | --- | --- | --- |\n"
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
    """The runs for what a user names: `6.1` is both architectures, `6.18/arm64-16k` one, `7/amd64/kprobe` one tier."""
    return [
        Run(version, flavour, tier)
        for name in dict.fromkeys(wanted)
        for version, flavours, tiers in [(*name.split("/"), "", "")[:3]]
        for flavour in ([flavours] if flavours else ["amd64", "arm64"])
        for tier in ([tiers] if tiers else [*TIERS, LOCKDOWN])
    ]


def run_all(wanted: Iterable[str], directory: Path | None = None) -> bool:
    """Runs everything, some machines side by side, and tells how each run ended; also in the table.

    Args:
        wanted: as `runs` has it.
        directory: where the kernels are; None for Debian's.
    """
    todo = runs(wanted)
    for version, flavour in dict.fromkeys((run.version, run.flavour) for run in todo):
        roots.root(kernels.chosen(version, flavour, directory).arch)
    (folder() / "logs").mkdir(exist_ok=True)
    started = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for outcome in pool.map(lambda run: _run(run, directory), todo):
            outcomes.append(outcome)
            _note(outcome)
            run = outcome.run
            say(
                f"{len(outcomes)} of {len(todo)}, {time.monotonic() - started:.0f} s: "
                f"{run.version} {run.flavour} {run.tier}: {'' if outcome.good else 'FAILED: '}{outcome.says}"
            )
            if not outcome.good:
                print(run.log.read_text(errors="replace")[-6000:], file=sys.stderr)
                say(f"the whole of it is in {run.log}")
    return all(outcome.good for outcome in outcomes)


def _run(run: Run, directory: Path | None) -> Outcome:
    """One machine, from its boot to its end."""
    command = [
        *(sys.executable, "-m", "tests.machines", "run", run.version, run.flavour, "--timeout", str(TIMEOUT)),
        *("--cpus", str(CPUS)),
        *(("--kernel", str(directory)) if directory else ()),
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
    if status and counts and (run.version, run.tier) in GAPS:
        return Outcome(run, True, offer["kernel"], f"gaps: {says}")
    missing = "".join(f"; missing: {one}" for one in offer["missing"])
    return Outcome(run, status == 0 and bool(counts), offer["kernel"], says + missing)


def _note(outcome: Outcome) -> None:
    """Puts an outcome into the table; what was not run stays as it is."""
    run, good, kernel, says = outcome
    if not kernel or run.tier not in TIERS:
        return
    text = TABLE.read_text()
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in _ROW.findall(text):
        *key, fentry, kprobe, tracepoint = (cell.strip() for cell in row.strip("|").split("|"))
        rows[key[0], key[1]] = dict(zip(TIERS, (fentry, kprobe, tracepoint), strict=True))
    cells = rows.setdefault((kernel, run.flavour), dict.fromkeys(TIERS, "not run"))
    cells[run.tier] = says if good else f"**failed**: {says}"
    lines = [
        f"| {' | '.join([*key, *cells.values()])} |\n"
        for key, cells in sorted(rows.items(), key=lambda row: [int(n) for n in re.findall(r"\d+", row[0][0])])
    ]
    before, rest = _ROW.sub("", text).split(_HEAD, 1)
    TABLE.write_text(before + _HEAD + "".join(lines) + "\n" + rest.lstrip("\n"))
