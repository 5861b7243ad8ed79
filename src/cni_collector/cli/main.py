"""The group of commands, and what becomes of errors."""

from __future__ import annotations

import sys

import click

from ..errors import CollectorError, LoadError
from ..version import VERSION
from .check import check
from .list import list_
from .replay import replay
from .watch import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="cni-collector")
def main() -> None:
    """Reports the life of every network namespace on this machine.

    Namespaces are seen being born, entered, left and destroyed by eBPF programs in the kernel. Needs root.

    \b
    Example:
      cni-collector watch
    """  # noqa: D301 - click wants the very character


main.add_command(watch)
main.add_command(replay)
main.add_command(list_)
main.add_command(check)


def run() -> None:
    """Runs the command; errors become one sentence on stderr and exit code 1."""
    try:
        main()
    except CollectorError as error:
        print(f"cni-collector: {error}", file=sys.stderr)
        if isinstance(error, LoadError) and error.log:
            print(error.log, file=sys.stderr)
    except OSError as error:
        print(f"cni-collector: cannot go on: {error.strerror or error}", file=sys.stderr)
    except MemoryError:
        print("cni-collector: cannot go on: there is no memory left", file=sys.stderr)
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        print("cni-collector: cannot start a thread: too little memory, or too many threads", file=sys.stderr)
    else:
        return
    sys.exit(1)
