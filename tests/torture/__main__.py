"""`python -m tests.torture`: what goes wrong on real machines, done on purpose, with exact counts."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from ..support.outcome import Outcome, table
from .faults import FAULTS, Options

DEFAULTS = Options()


def _say(what: str) -> None:
    print(f"torture: {what}", file=sys.stderr, flush=True)


def _run(name: str, options: Options) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="torture-") as directory:
        home = Path(directory)
        home.chmod(0o755)  # ordinary users have something to do there
        try:
            return FAULTS[name].run(home, options, lambda what: _say(f"{name}: {what}"))
        except Exception as error:
            return Outcome(wrong=[f"it did not end: {type(error).__name__}: {error}"])


def _tried(name: str, options: Options, tries: int) -> Outcome:
    """Does a fault until nothing goes wrong, or often enough."""
    before: list[str] = []
    for attempt in range(tries):
        _say(f"{name}: {FAULTS[name].about}")
        begun = time.monotonic()
        outcome = _run(name, options)
        _say(f"{name}: {outcome.verdict}, {time.monotonic() - begun:.0f} s")
        for what in outcome.wrong:
            _say(f"{name}: {what}")
        outcome.notes += before
        if not outcome.wrong:
            break
        before += [f"run {attempt + 1} went wrong: {what}" for what in outcome.wrong]
    return outcome


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("wanted", nargs=-1, metavar="[FAULT]...", type=click.Choice(list(FAULTS)))
@click.option("--list", "listing", is_flag=True, help="Say which faults there are, and do nothing.")
@click.option(
    "--soak", default=DEFAULTS.soak, show_default=True, type=click.FloatRange(min=1), metavar="SECONDS", help="Of work."
)
@click.option(
    "--namespaces",
    default=DEFAULTS.namespaces,
    show_default=True,
    type=click.IntRange(1, 65_000),
    help="Alive at once.",
)
@click.option("--kills", default=DEFAULTS.kills, show_default=True, type=click.IntRange(min=1), help="By SIGKILL.")
@click.option(
    "--tries",
    default=2,
    show_default=True,
    type=click.IntRange(min=1),
    help="Do what went wrong again, as others who make namespaces may have interfered; it is told.",
)
def main(wanted: tuple[str, ...], listing: bool, soak: float, namespaces: int, kills: int, tries: int) -> None:
    """Do all FAULTs, or some, and print what happened, what arrived and what was counted as lost.

    Exit code 1 if anything does not add up, or is not true.
    """
    if listing:
        for name, fault in FAULTS.items():
            print(f"{name:<18}{fault.about}")
        return
    if os.geteuid():
        sys.exit("torture: this needs root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # what was started is ended on the way out
    options = Options(soak, namespaces, kills)
    outcomes: dict[str, Outcome] = {}
    try:
        for name in wanted or FAULTS:
            outcomes[name] = _tried(name, options, tries)
    finally:  # also where it is ended before the last
        print(table(outcomes), flush=True)
    sys.exit(any(outcome.wrong for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
