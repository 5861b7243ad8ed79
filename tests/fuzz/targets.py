"""What is fed: functions of bytes that raise where a promise is broken."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Final, NamedTuple
from unittest import mock

from cni_collector.errors import LayoutError
from cni_collector.events import CniCall, CniEnd, CniExec, CniStart, Event, Pod
from cni_collector.identity import cni, cni_cache, cni_environment, mounts
from cni_collector.identity.cgroups import CgroupPaths
from cni_collector.identity.namespaces import Namespaces
from cni_collector.kernel.ring import Ring, membarrier
from cni_collector.kernel.wire import CGROUP, CNI_END, CNI_ENTERED, CNI_EXEC, CNI_START, TYPES
from cni_collector.sources.lines import Lines
from cni_collector.stream import snapshot
from cni_collector.stream.decoder import Decoder, cgroup_path

from ..unit.records import BOOT
from . import mutators, seeds
from .mutators import Mutator
from .properties import are_ids, came_of_a_record, can_be_written, is_named
from .ring import BUSY, DISCARD, HEADER, FakeRing


class Target(NamedTuple):
    """One parser.

    Attributes:
        check: takes an input, and raises where the parser does not keep a promise.
        seeds: inputs that mutation starts from.
        words: what mutation puts in.
        size: bytes of the longest input.
        mutate: knows the form of inputs.
    """

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    size: int = 2048
    mutate: Mutator | None = None


# Records of the kernel.


def records(content: bytes) -> None:
    """What a ring holds, read in runs and one by one: the same comes of both."""
    content = content[: len(content) & ~7]  # every position in a ring is a multiple of 8
    decoder, other = _decoder(), _decoder()
    with mock.patch.object(cni, "read_environment", _environment):
        expected, end = _one_by_one(content, decoder)
        events: list[Event] = []
        ring = _ring()
        ring.fill(content)
        limit, more = 1 + len(content) // 8 % 16, True
        fence = membarrier if limit % 2 else None
        with contextlib.closing(Ring(ring, other.decode, other.decode_run, fence)) as reader:  # type: ignore[arg-type]
            try:
                while more:
                    batch, more = reader.read(limit)
                    assert len(batch) <= limit
                    events += batch
            except LayoutError:
                assert end is None
                return
    assert (events, other.undecodable, ring.consumed) == (expected, decoder.undecodable, end)
    _tell_the_truth(events)


def _one_by_one(content: bytes, decoder: Decoder) -> tuple[list[Event], int | None]:
    """The events in a ring, and where reading it ends; None where its memory is corrupt."""
    events: list[Event] = []
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], sys.byteorder)
        if size & BUSY:
            break
        discarded, size = bool(size & DISCARD), size & ~DISCARD
        if size > len(content) - at - HEADER:
            return events, None
        if not discarded and (event := _decode(decoder, content, at + HEADER, size)):
            events.append(event)
        at += HEADER + (size + 7 & ~7)
    return events, at


def _decode(decoder: Decoder, content: bytes, at: int, size: int) -> Event | None:
    """The event of one record: of the type that it says, or it is counted, or it is of a kind that may give none."""
    kind, counted = content[at] if size else None, decoder.undecodable
    event = decoder.decode(memoryview(content), at, size)
    if event:
        made = {CNI_EXEC: (), CNI_END: (CniEnd, CniExec)}.get(content[at], (TYPES[content[at]],))
        assert type(event) in made
        assert decoder.undecodable == counted
    else:
        assert decoder.undecodable == counted + 1 or (
            decoder.undecodable == counted and kind in (CGROUP, CNI_START, CNI_EXEC, CNI_ENTERED, CNI_END)
        )
    return event


def _tell_the_truth(events: list[Event]) -> None:
    """Only a trusted ADD says which pod a namespace is for; a call says what it was asked to do, or how it ended."""
    believed: set[Pod] = set()
    for event in events:
        came_of_a_record(event)
        if not isinstance(event, CniCall):
            assert event.pod is None or event.pod in believed, event
            continue
        is_named(event.pod)
        if isinstance(event, CniStart):
            assert None not in (event.command, event.plugin), event
            assert event.trusted is None or event.pod is None, event
            if event.pod and event.command == "ADD":
                believed.add(event.pod)
        elif isinstance(event, CniEnd):
            assert (event.exit_code is None) != (event.signal is None), event
    can_be_written(events)


def tasks(written: bytes) -> None:
    """What the snapshot's iterator writes."""
    decoder = _decoder()
    found = snapshot._tasks(written, decoder)
    for cookie, members in found.items():
        assert 0 <= cookie < 1 << 64
        for member in members:
            came_of_a_record(member)


def _decoder() -> Decoder:
    """A decoder whose clock stands where it always does here, and that knows a namespace by its name."""
    namespaces = Namespaces()
    namespaces.name({seeds.BLUE[0]: [seeds.BLUE_PATH]})
    decoder = Decoder(namespaces, cni.CniCalls(namespaces))
    decoder._offset = BOOT
    return decoder


def _environment(pid: int, _started: int) -> list[bytes] | None:
    """In place of /proc: some processes are gone, others have an environment."""
    return (None, seeds.ENVIRONMENTS[0].split(b"\0"), [b"PATH=/bin"])[pid % 3]


@functools.cache
def _ring() -> FakeRing:
    return FakeRing()


# What others say.


def environment(raw: bytes) -> None:
    """An environment: the first of each name counts, as for getenv(3)."""
    variables = raw.split(b"\0")
    fields = cni_environment.parse_environment(variables)
    for name, field in cni_environment._FIELDS.items():
        sign = name.encode() + b"="
        values = [variable.removeprefix(sign) for variable in variables if variable.startswith(sign)]
        told = values and (values[0] or field == "command")
        assert fields.pop(field, None) == (cni_environment.text(values[0]) if told else None), field
    assert not fields


def arguments(raw: bytes) -> None:
    """CNI_ARGS: a pod is named by pairs that are there, in whatever order."""
    args = cni_environment.text(raw)
    pairs, pod = args.split(";"), cni_environment.parse_args(args)
    is_named(pod)
    if pod:
        uid = f"K8S_POD_UID={pod.uid}" if pod.uid else ""
        assert {f"K8S_POD_NAMESPACE={pod.namespace}", f"K8S_POD_NAME={pod.name}", uid} <= {*pairs, ""}
    assert cni_environment.parse_args(";".join(reversed(pairs))) == pod
    assert cni_environment.parse_args(args, cut=True) == cni_environment.parse_args(";".join(pairs[:-1]))


def cgroups(raw: bytes) -> None:
    """A cgroup's level and names: the ids stand in its path."""
    path = cgroup_path(raw[0] if raw else 0, raw[1:])
    assert path.startswith("/")
    for text in (path, cni_environment.text(raw)):
        container, pod = CgroupPaths().identify(text)
        are_ids(container, pod)
        assert (container or "") in text
        assert pod is None or re.search(rf"pod{pod}(\.slice|:|/|\Z)", text.replace("_", "-")), text


def replay(raw: bytes) -> None:
    """A file to be shown: each line is an event, or is counted as one of an unknown type, or as none."""
    lines = raw.count(b"\n") + bool(raw.rpartition(b"\n")[2])
    reader, size = Lines(), 1 + len(raw) % 257
    events = [event for at in range(0, len(raw), size) for event in reader.feed(raw[at : at + size])] + reader.end()
    assert len(events) + reader.bad + sum(reader.unknown.values()) == lines
    can_be_written(events)


def cache(raw: bytes) -> None:
    """Files of libcni's cache, one a line: together they tell what each tells alone, where they agree."""
    files = raw.split(b"\n")
    told: dict[str, set[Pod]] = {}
    for file in files:
        for path, pod in _cached([file]).items():
            assert mounts.real_path(path) == path, path
            assert not path.startswith(("/proc/", "/var/run/")), path
            is_named(pod)
            told.setdefault(path, set()).add(pod)
    assert _cached(files) == {path: pods.pop() for path, pods in told.items() if len(pods) == 1}


def _cached(files: list[bytes]) -> dict[str, Pod]:
    written = SimpleNamespace(st_mtime=time.time())
    directory = [SimpleNamespace(read_bytes=functools.partial(bytes, file), stat=lambda: written) for file in files]
    with mock.patch.object(cni_cache, "CACHE", SimpleNamespace(iterdir=lambda: directory)):
        return cni_cache.cached_pods()


TARGETS: Final = {
    "records": Target(records, seeds.RECORDS, [*seeds.NAMES, b"/proc/1/ns/net"], 8192, mutators.slots),
    "tasks": Target(tasks, seeds.SNAPSHOTS),
    "environment": Target(environment, seeds.ENVIRONMENTS, seeds.NAMES),
    "arguments": Target(arguments, seeds.ARGUMENTS, seeds.KEYS),
    "cgroups": Target(cgroups, seeds.CGROUPS, seeds.FORMS),
    "replay": Target(replay, seeds.LINES, seeds.JSON, mutate=mutators.json_lines),
    "cache": Target(cache, seeds.ENTRIES, seeds.JSON, mutate=mutators.json_lines),
}
