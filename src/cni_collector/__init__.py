"""Reports every network-namespace event and CNI plugin call on a Linux node: who, when, which pod, what result.

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
    LockdownError,
    PrivilegeError,
    UnsupportedError,
)
from .events import (
    AnyEvent,
    Checkpoint,
    CniCall,
    CniEnd,
    CniExec,
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
from .sources import Recording, replay
from .stream.session import Stats
from .stream.snapshot import ExistingNetns, existing
from .version import VERSION as __version__

__all__ = [
    "AnyCollector",
    "AnyEvent",
    "AttachError",
    "Checkpoint",
    "ClosedError",
    "CniCall",
    "CniEnd",
    "CniExec",
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
    "Recording",
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
