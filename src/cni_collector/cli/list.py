"""`cni-collector list`: the namespaces that exist now."""

from __future__ import annotations

import click
import msgspec

from ..snapshot import Found, existing
from .table import Column, header, row

_COLUMNS = (
    Column("COOKIE", 8),
    Column("INUM", 10),
    Column("TASKS", 5),
    Column("PID", 7),
    Column("COMM", 15),
    Column("CONTAINER", 12),
    Column("POD UID", 36),
    Column("NAMES", 5),
)


class Listed(msgspec.Struct, omit_defaults=True):
    """One line of `list -o json`; the field names are those of events."""

    cookie: int
    inum: int
    userns: int
    members: int
    names: tuple[str, ...]
    pid: int | None = None
    comm: str | None = None
    cgroup: str | None = None
    container_id: str | None = None
    pod_uid: str | None = None


@click.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_(output: str) -> None:
    """List the network namespaces that exist now, but for the host's.

    Also those that no task is in: held by a mount, a file descriptor or a socket. PID and COMM are one of the
    tasks inside. Nothing is attached, and no namespace is held.
    """
    found = existing()
    if output == "json":
        for one in found:
            click.echo(msgspec.json.encode(_listed(one)))
        return
    click.echo(header(_COLUMNS))
    for one in found:
        it = _listed(one)
        cells = [
            str(it.cookie),
            str(it.inum),
            str(it.members),
            str(it.pid or "-"),
            it.comm or "-",
            (it.container_id or "-")[:12],
            it.pod_uid or "-",
            " ".join(it.names) or "-",
        ]
        click.echo(row(_COLUMNS, cells))


def _listed(one: Found) -> Listed:
    task = one.member
    return Listed(
        one.netns.cookie,
        one.netns.inum,
        one.userns,
        one.members,
        one.names,
        task.pid if task else None,
        task.comm if task else None,
        task.cgroup if task else None,
        task.container_id if task else None,
        task.pod_uid if task else None,
    )
