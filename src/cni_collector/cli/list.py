"""`cni-collector list`: the namespaces that exist now."""

from __future__ import annotations

import posixpath

import click
import msgspec

from ..events import Pod
from ..identity.cni_running import running_cni_calls
from ..stream.snapshot import ExistingNetns, existing
from ..views.lines import Nesting, pod_text
from ..views.table import Column, header, row
from .options import kubelet_roots

_COLUMNS = (
    Column("COOKIE", 8),
    Column("INUM", 10),
    Column("TASKS", 5),
    Column("PID", 7),
    Column("COMM", 15),
    Column("CONTAINER", 12),
    Column("POD", 36),
    Column("NAMES", 5),
)
_CNI_CALL_COLUMNS = (
    Column("PID", 7),
    Column("COMMAND", 7),
    Column("PLUGIN", 15),
    Column("AGE", 8),
    Column("POD", 36),
    Column("IFNAME", 8),
    Column("NETNS", 5),
)

_FROM = {"cni_cache": "CNI", "cgroup": "cgroup"}


class Listed(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of `list -o json`; the field names are those of events."""

    cookie: int
    inum: int
    userns: int
    members: int | None = None
    """None where not all tasks can be seen from here."""
    names: tuple[str, ...]
    pod: Pod | None = None
    pod_from: str | None = None
    """`cni_cache`: libcni's result cache; `cgroup`: the tasks inside."""
    pid: int | None = None
    tid: int | None = None
    """Where the task is not the first thread of its process, which is in another namespace."""
    comm: str | None = None
    cgroup: str | None = None
    container_id: str | None = None
    pod_uid: str | None = None


@click.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--cni", is_flag=True, help="List the CNI calls that are under way, instead of namespaces.")
@kubelet_roots
def list_(output: str, cni: bool, kubelet_roots: tuple[str, ...]) -> None:
    """List the network namespaces that exist now, but for the host's.

    Also those that no task is in: held by a mount, a file descriptor or a socket. PID and COMM are one of the
    tasks inside, CONTAINER comes from its cgroup. POD says in brackets where it is known from: libcni's result cache,
    or the cgroups of the tasks inside. NAMES are where it is mounted. Nothing is attached, and no namespace is held.
    """
    if cni:
        _list_cni_calls(output)
        return
    found = existing(kubelet_roots)
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
            "-" if it.members is None else str(it.members),
            str(it.pid or "-"),
            it.comm or "-",
            (it.container_id or "-")[:12],
            f"{pod_text(it.pod)} ({_FROM[it.pod_from]})" if it.pod and it.pod_from else it.pod_uid or "-",
            " ".join(it.names) or "-",
        ]
        click.echo(row(_COLUMNS, cells))


def _list_cni_calls(output: str) -> None:
    calls = running_cni_calls()
    if output == "json":
        for call in calls:
            click.echo(msgspec.json.encode(call))
        return
    click.echo(header(_CNI_CALL_COLUMNS))
    nesting = Nesting()
    for call in calls:
        cells = [
            str(call.pid),
            call.command,
            nesting.begin(call.pid, call.parent) + posixpath.basename(call.plugin or "-"),
            f"{call.age_ns / 1e9:.1f}s",
            pod_text(call.pod) if call.pod else "-",
            call.ifname or "-",
            call.netns_path or "-",
        ]
        click.echo(row(_CNI_CALL_COLUMNS, cells))


def _listed(one: ExistingNetns) -> Listed:
    task = msgspec.structs.asdict(one.member) if one.member else {}
    return Listed(
        cookie=one.netns.cookie,
        inum=one.netns.inum,
        userns=one.userns,
        members=one.members,
        names=one.names,
        pod=one.pod,
        pod_from=one.pod_from,
        tid=one.member.tid if one.member and one.member.tid != one.member.pid else None,
        **{field: task.get(field) for field in ("pid", "comm", "cgroup", "container_id", "pod_uid")},
    )
