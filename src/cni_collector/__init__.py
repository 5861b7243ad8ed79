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
    json_schema,
)
from .registry import available, create
from .stream.session import Stats
from .version import VERSION as __version__

__all__ = [
    "AnyEvent",
    "AttachError",
    "ClosedError",
    "CniEnd",
    "CniStart",
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
    "Pod",
    "PrivilegeError",
    "Stats",
    "UnsupportedError",
    "__version__",
    "available",
    "create",
    "json_schema",
]
