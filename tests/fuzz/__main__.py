"""`python -m tests.fuzz`: feeds the parsers, and prints how each took it. The exit code is 1 if one failed."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import click
from bench.table import aligned

from .run import Outcome, run
from .targets import TARGETS

_SAY = 10.0
"""Seconds between two lines of progress."""


@click.command()
@click.argument("names", nargs=-1, metavar="[TARGET]...", type=click.Choice(list(TARGETS)))
@click.option(
    "--runs", default=1_000_000, show_default=True, type=click.IntRange(min=1), help="Inputs for each target."
)
@click.option(
    "--seed", type=click.IntRange(1, 2**32 - 1), help="Of the random numbers: the same gives the same inputs."
)
@click.option(
    "--input",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Give this file to one target, and nothing else: an input that something failed with.",
)
def main(names: tuple[str, ...], runs: int, seed: int | None, path: Path | None) -> None:
    """Feed parsers with inputs that are mutated from good ones, guided by which code they reach.

    TARGETs are all unless some are named.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("fuzz: terminated"))  # what was started is ended on the way out
    if path:
        if len(names) != 1:
            raise click.UsageError("--input is for one target: name it")
        TARGETS[names[0]].check(path.read_bytes())
        return
    seed = seed or random.randrange(1, 2**32)
    print(f"fuzz: seed {seed}", file=sys.stderr)
    outcomes = [_run(name, runs, seed) for name in names or TARGETS]
    print(aligned([("target", "inputs", "seconds", "result"), *(outcome.cells() for outcome in outcomes)]))
    sys.exit(any(outcome.failure for outcome in outcomes))


def _run(name: str, runs: int, seed: int) -> Outcome:
    started = said = time.monotonic()

    def progress(count: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > _SAY:
            said = now
            print(f"fuzz: {name}: {count:,} of {runs:,} inputs, {now - started:.0f} s", file=sys.stderr)

    outcome = run(name, runs, seed, progress)
    if outcome.failure:
        print(outcome.log, file=sys.stderr)
    return outcome


if __name__ == "__main__":
    main()
