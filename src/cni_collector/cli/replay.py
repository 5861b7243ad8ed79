"""`cni-collector replay`: events that were recorded."""

from __future__ import annotations

import click

from ..sources import is_cluster, open_source
from ..version import VERSION
from .options import Selection, selection, since_option
from .options import output as output_option
from .printing import lines_for, say, stopped_by_signals, write


@click.command()
@click.argument("source")
@output_option()
@selection
@click.option(
    "--since",
    callback=since_option,
    metavar="TIME",
    help="Only what happened since: 10m, 2h or 2026-01-31T12:00:00Z. Default: a file whole, a cluster from now on.",
)
def replay(source: str, output: str | None, selection: Selection, since: str | None) -> None:
    """Show recorded events, through the same filters as `watch`.

    SOURCE is a file that `watch -o json` or `watch --file` has written, `-` for stdin, or the URL of a NATS server, as
    nats://HOST:4222: then it shows what the nodes of a cluster have sent, and follows the stream until Ctrl-C or
    SIGTERM.

    Events of types that this version does not know are left out and counted on stderr.

    \b
    Examples:
      cni-collector replay /var/log/cni.json --pod shop/web-0
      cni-collector replay nats://10.0.0.5:4222 --since 10m --failed
    """  # noqa: D301 - click wants the very character
    filters = selection.filters(selection.wanted_types())
    recording = open_source(source, since)
    with stopped_by_signals(recording, selection.duration):
        try:
            write(recording, filters, lines_for(output, nodes=is_cluster(source)), selection.count)
        finally:
            if recording.unknown:
                types = ", ".join(f"{kind} ({count})" for kind, count in sorted(recording.unknown.items()))
                say(
                    f"left out {sum(recording.unknown.values())} events of types that version {VERSION} does not know: "
                    f"{types}"
                )
