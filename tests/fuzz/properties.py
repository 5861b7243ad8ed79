"""What holds of every event, whatever it was made of."""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from cni_collector.events import AnyEvent, Event, Pod, Task
from cni_collector.views.lines import JsonLines, TableLines

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")
_CONTAINER: Final = re.compile("[0-9a-f]{64}")
_POD: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_decode = msgspec.json.Decoder(AnyEvent).decode


def can_be_written(events: list[Event]) -> None:
    """Each is one line of JSON that says all of it, and one line of the table that a terminal would not obey."""
    lines = _lines(JsonLines().form(events), len(events))
    for event, line in zip(events, lines, strict=True):
        assert _TIME.fullmatch(event.time), line
        assert _decode(line) == event, line
        assert None not in json.loads(line).values(), line
    for row, line in zip(_lines(TableLines().form(events), len(events)), lines, strict=True):
        assert row.decode().isprintable(), row
        assert len(row) < 10 * len(line) + 100, row


def _lines(text: bytes, count: int) -> list[bytes]:
    *lines, rest = text.split(b"\n")
    assert (len(lines), rest) == (count, b""), text
    return lines


def came_of_a_record(who: Event | Task) -> None:
    """It has what every record of the kernel has, in the documented forms."""
    assert who.cgroup is None or who.cgroup.startswith("/"), who
    are_ids(who.container_id, who.pod_uid)


def are_ids(container: str | None, pod: str | None) -> None:
    """A container's id and a pod's UID are what they should look like, or None."""
    assert container is None or _CONTAINER.fullmatch(container), container
    assert pod is None or _POD.fullmatch(pod), pod


def is_named(pod: Pod | None) -> None:
    """Namespace and name are there, both or neither, and so is nothing that is empty."""
    assert pod is None or (pod.namespace and pod.name and pod.uid != ""), pod
