"""True events about network namespaces, from the kernel.

from cni_collector import Collector

with Collector("cni") as collector:
    for event in collector.events():
        print(event.type, event.netns, event.pid, event.comm)
"""

from .collector import Collector, EventStream
from .errors import (
    AttachError,
    ClosedError,
    CollectorError,
    LayoutError,
    LoadError,
    PrivilegeError,
    UnsupportedError,
)
from .events import (
    AnyEvent,
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
    json_schema,
)
from .registry import available, create
from .session import Stats
from .version import VERSION as __version__

__all__ = [
    "AnyEvent",
    "AttachError",
    "ClosedError",
    "Collector",
    "CollectorError",
    "CollectorStart",
    "CollectorStop",
    "Event",
    "EventStream",
    "LayoutError",
    "LoadError",
    "Lost",
    "Netns",
    "NetnsCreate",
    "NetnsCreateFailed",
    "NetnsDestroy",
    "NetnsEnter",
    "NetnsEnterFailed",
    "NetnsExit",
    "NetnsFound",
    "PrivilegeError",
    "Stats",
    "UnsupportedError",
    "__version__",
    "available",
    "create",
    "json_schema",
]
