"""Collectors by name: what the entry point group `cni_collector.collectors` registers.

A package adds one of its own with, in its pyproject.toml:

    [project.entry-points."cni_collector.collectors"]
    mine = "my_package:MyCollector"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .errors import CollectorError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "cni_collector.collectors"


def available() -> dict[str, EntryPoint]:
    """The registered collectors by name; nothing is imported yet."""
    from importlib.metadata import entry_points  # here, because importing it is slow and seldom needed

    return {point.name: point for point in entry_points(group=GROUP)}


def create(name: str, **config: Any) -> Any:
    """Builds the registered collector of that name.

    Args:
        name: as registered; also passed to the collector as its name.
        config: keyword arguments for the collector.

    Raises:
        CollectorError: no collector is registered under that name.
    """
    registered = available()
    if name not in registered:
        raise CollectorError(
            f"no collector {name!r} is registered: there are {', '.join(sorted(registered)) or 'none'}"
        )
    return registered[name].load()(name, **config)
