"""Collectors by name: what the entry point group `cni_collector.collectors` registers.

A package adds one of its own with, in its pyproject.toml:

    [project.entry-points."cni_collector.collectors"]
    mine = "my_package:MyCollector"

Its name and the keyword arguments of `create` are what it is called with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self, overload

from .errors import CollectorError
from .events import Event

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .collector import Collector

GROUP: Final = "cni_collector.collectors"


class AnyCollector(Protocol):
    """What every registered collector has. `Collector`, registered as `cni`, has more."""

    def start(self) -> None:
        """Begins to collect.

        Raises:
            CollectorError: it cannot, and why.
        """

    def stop(self) -> None:
        """Ends it. Iteration goes on until what was reported is read, then ends."""

    def events(self) -> Iterable[Event]:
        """All events, one by one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def available() -> dict[str, EntryPoint]:
    """The registered collectors by name; nothing is imported yet."""
    from importlib.metadata import entry_points  # here, because importing it is slow and seldom needed

    return {point.name: point for point in entry_points(group=GROUP)}


@overload
def create(
    name: Literal["cni"],
    *,
    types: Collection[str | type[Event]] | None = None,
    tier: str | None = None,
    ring_bytes: int = ...,
    coalesce: float = ...,
    node: str | None = None,
    kubelet_roots: Collection[str] = (),
    audit: float | None = None,
) -> Collector: ...
@overload
def create(name: str, **config: object) -> AnyCollector: ...
def create(name: str, **config: object) -> AnyCollector:
    """Builds the registered collector of that name.

    Args:
        name: as registered; also passed to the collector as its name.
        config: keyword arguments for the collector.

    Returns:
        The collector, not started: for `cni` a `Collector`, otherwise what its package has registered.

    Raises:
        CollectorError: no collector is registered under that name.
        ValueError: an argument that makes no sense to `Collector`; other collectors raise what they like.
    """
    registered = available()
    if name not in registered:
        raise CollectorError(
            f"no collector {name!r} is registered: there are {', '.join(sorted(registered)) or 'none'}"
        )
    created: AnyCollector = registered[name].load()(name, **config)
    return created
