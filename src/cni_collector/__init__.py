"""True events about network namespaces, from the kernel.

from cni_collector import Collector

with Collector("cni") as collector:
    for event in collector.events():
        print(event.type, event.netns, event.pid, event.comm)
"""

from typing import TYPE_CHECKING

from .collector import Collector, EventStream
from .errors import (
    AttachError,
    ClosedError,
    CollectorError,
    LayoutError,
    LoadError,
    LockdownError,
    PrivilegeError,
    UnsupportedError,
)
from .events import (
    AnyEvent,
    CniCall,
    CniEnd,
    CniStart,
    CollectorStart,
    CollectorStop,
    Event,
    Lost,
    Netns,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    NetnsFound,
    Pod,
    Task,
    json_schema,
)
from .registry import AnyCollector, available, create
from .stream.session import Stats
from .stream.snapshot import ExistingNetns, existing
from .version import VERSION as __version__

if TYPE_CHECKING:
    from .sources import replay
else:

    def __getattr__(name: str) -> object:
        if name != "replay":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .sources import replay  # here, because few need it, and importing it takes time

        globals()[name] = replay
        return replay


__all__ = [
    "AnyCollector",
    "AnyEvent",
    "AttachError",
    "ClosedError",
    "CniCall",
    "CniEnd",
    "CniStart",
    "Collector",
    "CollectorError",
    "CollectorStart",
    "CollectorStop",
    "Event",
    "EventStream",
    "ExistingNetns",
    "LayoutError",
    "LoadError",
    "LockdownError",
    "Lost",
    "Netns",
    "NetnsCreate",
    "NetnsCreateFailed",
    "NetnsDestroy",
    "NetnsEnter",
    "NetnsEnterFailed",
    "NetnsExit",
    "NetnsFound",
    "Pod",
    "PrivilegeError",
    "Stats",
    "Task",
    "UnsupportedError",
    "__version__",
    "available",
    "create",
    "existing",
    "json_schema",
    "replay",
]
