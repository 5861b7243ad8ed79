"""Options for the exporters of `watch`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ..collector import Collector
from ..exporters.outputs import Outputs
from ..exporters.relay import QUEUE
from .options import grouped


@dataclasses.dataclass(frozen=True)
class Exporting:
    """Where events go besides stdout."""

    path: str | None
    file_size: int
    file_keep: int
    nats: str | None
    receiver: str | None
    metrics: tuple[str, int] | None
    queue: int

    def start(self, outputs: Outputs, collector: Collector) -> None:
        """Starts what is asked for.

        Raises:
            CollectorError: it cannot be had.
        """
        if self.path:
            outputs.file(Path(self.path), self.file_size * 1_000_000, self.file_keep)
        if self.nats:
            outputs.nats(self.nats)
        if self.receiver is not None:
            outputs.otlp(self.receiver.rstrip("/"))
        if self.metrics:
            outputs.prometheus(collector, *self.metrics)


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    address, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not an address; use :9464 or 0.0.0.0:9464")
    return address.strip("[]") or "127.0.0.1", int(port)


exporting = grouped(
    "exporting",
    Exporting,
    [
        click.option(
            "--file", "path", type=click.Path(dir_okay=False), metavar="PATH", help="Append JSON lines to this file."
        ),
        click.option(
            "--file-size",
            type=click.IntRange(min=0),
            default=100,
            show_default=True,
            metavar="MB",
            help="Size at which the file is rotated, to PATH.1 and so on; 0 never rotates.",
        ),
        click.option(
            "--file-keep",
            type=click.IntRange(min=0),
            default=5,
            show_default=True,
            metavar="N",
            help="Older files to keep.",
        ),
        click.option(
            "--nats",
            envvar="CNI_COLLECTOR_NATS",
            show_envvar=True,
            metavar="URL",
            help="Publish events in NATS JetStream, as nats://HOST:4222; their subjects are cni.NODE.TYPE.",
        ),
        click.option(
            "--otlp",
            "receiver",
            metavar="URL",
            help="Send events as log records, and CNI calls as spans, to an OpenTelemetry receiver, as "
            "http://127.0.0.1:4318.",
        ),
        click.option(
            "--prometheus",
            "metrics",
            callback=_address,
            metavar="[ADDR]:PORT",
            help="Serve metrics of all events there, whatever else is filtered. Without ADDR: 127.0.0.1.",
        ),
        click.option(
            "--queue",
            type=click.IntRange(min=1000),
            default=QUEUE,
            show_default=True,
            metavar="N",
            help="Events that may wait for --file, --nats, --otlp and --prometheus each; 1,000 take 0.6 MB.",
        ),
    ],
)
"""The options of `Exporting`."""
