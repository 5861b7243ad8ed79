"""`cni-collector watch`: the live stream of events."""

from __future__ import annotations

import contextlib
import signal

import click

from ..collector import RAREST_AUDIT, RING_BYTES, Collector
from ..exporters.outputs import Outputs
from ..kernel.hooks import TIERS
from ..privileges import drop
from .exporting import Exporting, exporting
from .options import TYPES, Seconds, Selection, kubelet_roots, selection
from .options import output as output_option
from .printing import lines_for, not_ended_by, say, stopped_by_signals, write


def _moved(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            "recorded events have a command of their own: cni-collector replay SOURCE [--since TIME]"
        )


@click.command()
@output_option("none", also="; with --file, none")
@selection
@click.option("--tier", type=click.Choice(list(TIERS)), help="Set of hooks to use. Default: the best that works here.")
@click.option(
    "--coalesce",
    type=click.FloatRange(0, 1000),
    default=5,
    show_default=True,
    metavar="MS",
    help="Batch events for up to this many milliseconds; 0 writes each at once.",
)
@click.option(
    "--ring",
    "ring_megabytes",
    type=click.Choice(["1", "2", "4", "8", "16", "32", "64"]),
    default=str(RING_BYTES >> 20),
    show_default=True,
    metavar="MB",
    help="Size of the kernel's ring buffer, 1 to 64: 4 MB buffers about 37,000 events.",
)
@click.option(
    "--node",
    envvar="CNI_COLLECTOR_NODE",
    show_envvar=True,
    metavar="NAME",
    help="What this machine is called. Default: its host name.",
)
@kubelet_roots
@click.option(
    "--user",
    metavar="USER",
    help="Drop privileges to this user (name or number) after attaching. root keeps everything. Default: nobody; with "
    "--file, which has to be rotated, root.",
)
@click.option(
    "--audit",
    type=Seconds(1, RAREST_AUDIT),
    metavar="SECONDS",
    help="Compare what exists with what was reported at such intervals, and report what was missed. SIGUSR1 does it "
    "once.",
)
@click.option("--from", "source", hidden=True, callback=_moved, expose_value=False)
@click.option("--since", hidden=True, callback=_moved, expose_value=False)
@exporting
def watch(
    output: str | None,
    selection: Selection,
    tier: str | None,
    coalesce: float,
    ring_megabytes: str,
    node: str | None,
    kubelet_roots: tuple[str, ...],
    user: str | None,
    audit: float | None,
    exporting: Exporting,
) -> None:
    """Show what happens to network namespaces and in CNI plugins, as it happens.

    Ends with Ctrl-C or SIGTERM, after everything that was seen has been written.

    \b
    Examples:
      cni-collector watch --failed
      cni-collector watch --pod shop/web-0
      cni-collector watch -o json --type netns_create --type netns_destroy
      cni-collector watch --prometheus :9464 --nats nats://10.0.0.5:4222 -o none
    """  # noqa: D301 - click wants the very character
    wanted = selection.wanted_types()
    collector = Collector(
        "cni",
        types=TYPES if exporting.metrics else wanted,
        tier=tier,
        ring_bytes=int(ring_megabytes) << 20,
        coalesce=coalesce / 1000,
        node=node,
        kubelet_roots=kubelet_roots,
        audit=audit,
    )
    # Metrics are of all types: then what is shown is chosen here, and not in the kernel.
    filters = selection.filters(wanted if exporting.metrics else frozenset())
    silent = output == "none" or (output is None and exporting.path)
    lines = None if silent else lines_for(output)
    # SIGUSR1 asks for an audit. While it starts and ends there is nothing to audit, but it does not end the process.
    with not_ended_by(signal.SIGUSR1), collector, contextlib.ExitStack() as stack:
        if user or not exporting.path:
            drop(user)  # first of all: threads and files are to be the user's
        stack.enter_context(
            stopped_by_signals(collector, selection.duration, collector.audit)
        )  # until all is delivered, and stopped
        stack.callback(collector.stop)
        outputs = stack.enter_context(Outputs(exporting.queue, say))
        exporting.start(outputs, collector)
        write(collector, filters, lines, selection.count, outputs.feed)
