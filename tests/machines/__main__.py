"""`python -m tests.machines`: runs a command in an emulated machine, as root, in this checkout."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from . import kernels, roots, suite
from .cache import MachineError
from .machine import Machine

FAILED = 125
"""The exit status that tells of the machine, not of its command."""

_version = click.argument("version", metavar="KERNEL")
_flavour = click.argument("flavour", metavar="ARCH", type=click.Choice(["amd64", "arm64", "arm64-16k"]))
_directory = click.option(
    "--kernel",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Take the kernel from here, not from Debian: boot/vmlinuz-NAME and lib/modules/NAME.",
)


@click.group()
def main() -> None:
    """Emulated machines: KERNEL is a version of Debian's kernels or its beginning, such as 6.1, 6.12 or 7."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("machines: terminated"))  # what was started ends on the way out


@main.command()
@_version
@_flavour
@_directory
@click.option("--cpus", default=2, show_default=True, help="How many CPUs.")
@click.option("--memory", default=1536, show_default=True, metavar="MIB", help="How much memory.")
@click.option("--append", default="", metavar="ARGUMENTS", help="More arguments for the kernel.")
@click.option("--icount", is_flag=True, help="Count instructions as time: repeatable figures, on one CPU.")
@click.option("--timeout", default=600.0, show_default=True, metavar="SECONDS", help="How long all may take.")
@click.argument("command", nargs=-1, required=True)
def run(
    version: str,
    flavour: str,
    directory: Path | None,
    cpus: int,
    memory: int,
    append: str,
    icount: bool,
    timeout: float,
    command: tuple[str, ...],
) -> None:
    """Run a command in a machine, and end as it does; with exit status 125 where the machine fails."""
    kernel = kernels.chosen(version, flavour, directory)
    machine = Machine(kernel, roots.root(kernel.arch), cpus, memory, append, icount)
    sys.exit(machine.run(command, timeout))


@main.command("suite")
@click.argument("wanted", nargs=-1, required=True, metavar="KERNEL[/ARCH[/TIER]]...")
@_directory
def suite_(wanted: tuple[str, ...], directory: Path | None) -> None:
    """Run tests/kernel in every tier on these kernels, and write how it ended into docs/kernels.md."""
    sys.exit(0 if suite.run_all(wanted, directory) else 1)


@main.command()
@_version
@_flavour
def fetch(version: str, flavour: str) -> None:
    """Fetch the newest such kernel, and all else that a machine needs; `run` takes what is here."""
    kernel = kernels.fetch(version, flavour)
    roots.root(kernel.arch)
    print(kernel.directory)


try:
    main()
except MachineError as error:
    print(f"machines: {error}", file=sys.stderr)
    sys.exit(FAILED)
