"""Options that several commands share, and what becomes of their values."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from ..events import NetnsCreateFailed, NetnsEnterFailed, type_name
from ..identity.cgroups import CgroupPaths
from ..kernel.hooks import ALL, CNI_EVENTS
from ..sources.since import moment
from ..views.filters import Filters, PodName

Command = TypeVar("Command", bound=Callable[..., Any])

TYPES: Final = sorted(map(type_name, ALL))
_FAILED: Final = frozenset(map(type_name, (NetnsCreateFailed, NetnsEnterFailed)))
_CNI: Final = frozenset(map(type_name, CNI_EVENTS))


class Seconds(click.FloatRange):
    """A number in a range. `nan` is in none: it compares as false with every bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return number


def grouped(name: str, kind: type[Any], options: Sequence[Callable[..., Any]]) -> Callable[[Command], Command]:
    """Gives a command options that reach it together, as one argument.

    Args:
        name: of the argument.
        kind: a dataclass with a field for each option.
        options: click's, in the order in which `--help` shows them.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(*arguments: Any, **values: Any) -> Any:
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
            return function(*arguments, **values)

        for option in reversed(options):
            command = option(command)
        return command  # type: ignore[return-value]

    return decorate


def output(*forms: str, also: str = "") -> Callable[[Command], Command]:
    """The option `-o`.

    Args:
        forms: what may be asked for besides a table and JSON lines.
        also: what its help says besides the default.
    """
    text = f"What goes to stdout. Default: a table on a terminal, JSON lines otherwise{also}."
    return click.option("-o", "--output", type=click.Choice(["table", "json", *forms]), help=text)


def _pod_names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> frozenset[PodName]:
    names = []
    for value in values:
        namespace, slash, name = value.rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace:
            raise click.BadParameter(f"{value!r} is not the name of a pod; use NAME or NAMESPACE/NAME")
        names.append((namespace or None, name))
    return frozenset(names)


def _container_prefixes(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]*", value):
            raise click.BadParameter(f"{value!r} is not the beginning of a container's id")
    return values


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which events a command is to show, and when it ends."""

    types: tuple[str, ...]
    pid: tuple[int, ...]
    netns: tuple[int, ...]
    pods: frozenset[PodName]
    containers: tuple[str, ...]
    cni: bool
    failed: bool | None
    duration: float | None
    count: int | None

    def wanted_types(self) -> frozenset[str]:
        """The types of event that can be shown.

        Raises:
            click.UsageError: there is none.
        """
        wanted = frozenset(self.types or TYPES)
        if self.failed is not None:
            wanted = wanted & _FAILED if self.failed else wanted - _FAILED
        if self.cni:
            wanted &= _CNI
        if not wanted:
            raise click.UsageError(
                f"nothing can match --type, --failed/--no-failed and --cni together: --failed covers "
                f"{', '.join(sorted(_FAILED))}; --cni covers {', '.join(sorted(_CNI))}"
            )
        return wanted

    def filters(self, types: frozenset[str] = frozenset()) -> Filters:
        """The filters.

        Args:
            types: of event that are to pass; all, if empty.
        """
        return Filters(frozenset(self.pid), frozenset(self.netns), self.pods, self.containers, types)


selection = grouped(
    "selection",
    Selection,
    [
        click.option(
            "--type",
            "types",
            type=click.Choice(TYPES),
            multiple=True,
            help="Only events of this type; may be repeated.",
        ),
        click.option(
            "--pid", type=click.IntRange(min=1), multiple=True, help="Only events by this process; may be repeated."
        ),
        click.option(
            "--netns",
            type=click.IntRange(min=1),
            multiple=True,
            help="Only events about this namespace, by cookie or inode number; may be repeated.",
        ),
        click.option(
            "--pod",
            "pods",
            callback=_pod_names,
            metavar="[NAMESPACE/]NAME",
            multiple=True,
            help="Only events about this pod's namespace, and its CNI calls; may be repeated.",
        ),
        click.option(
            "--container",
            "containers",
            callback=_container_prefixes,
            metavar="ID-PREFIX",
            multiple=True,
            help="Only events by tasks of the container whose id begins so, or CNI calls for it; may be repeated.",
        ),
        click.option("--cni", is_flag=True, help="Only CNI calls."),
        click.option(
            "--failed/--no-failed",
            default=None,
            help="Only failures: refused setns, unshare and clone; or everything else. Default: all events.",
        ),
        click.option(
            "--duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Stop after this time."
        ),
        click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N events."),
    ],
)
"""The options of `Selection`."""


def _cgroup_paths(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        CgroupPaths(value)
    except ValueError:
        raise click.BadParameter("write the absolute path of a cgroup, as /system.slice/k3s.service") from None
    return value


kubelet_roots = click.option(
    "--kubelet-root",
    "kubelet_roots",
    callback=_cgroup_paths,
    metavar="CGROUP",
    multiple=True,
    help="Cgroup below which a kubelet makes those of pods, as /system.slice/k3s.service; may be repeated. Known "
    "without: the root, and nodes that are containers, as kind's.",
)
"""Where pods are, in commands that look at the machine."""


def since_option(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """The callback of `--since`: the time as events have it."""
    try:
        return None if value is None else moment(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
