"""Bytes to events: every type, every range, and whatever makes no sense."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cni_collector.events import (
    AnyEvent,
    CniCall,
    CniEnd,
    CniExec,
    CniStart,
    Event,
    Netns,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    Pod,
)
from cni_collector.identity import namespaces
from cni_collector.kernel import wire
from cni_collector.stream import decoder as record

from ..support.made import made
from .records import (
    ALWAYS,
    BOOT,
    CGROUP,
    CNI_END_FIELDS,
    CNI_START,
    NETNS,
    NETNS_FIELDS,
    cgroup_record,
    cni_end_record,
    cni_entered_record,
    cni_start_record,
    decoder,
    full,
    netns_record,
    slot,
)

ID = "0123456789abcdef" * 4
POD = "11111111-2222-3333-4444-555555555555"
PATH = f"/kubepods/pod{POD}/{ID}"
TELL_PATH = full(cgroup_record(ID.encode(), f"pod{POD}".encode(), b"kubepods", ident=99, hierarchy=5))

TASK: dict[str, Any] = {"time": 6, "pid": 10, "tid": 11, "ppid": 1, "comm": b"ip", "cgroup": 99, "hierarchy": 5}
WHO: dict[str, Any] = {"pid": 10, "tid": 11, "ppid": 1, "uid": 0, "comm": "ip"}
WHERE: dict[str, Any] = {"cgroup": PATH, "container_id": ID, "pod_uid": POD}
SUBJECT: dict[str, Any] = {"cookie": 4097, "inum": 4026532001, "userns": 4026531837}
OWN: dict[str, Any] = {"own_cookie": 1, "own_inum": 4026531840}
OTHER: dict[str, Any] = {"other_cookie": 1, "other_inum": 4026531840}
A, HOST = Netns(4097, 4026532001), Netns(1, 4026531840)
TIME = "2026-01-02T03:04:05.000000006Z"

ENVIRONMENT = (
    b"/opt/cni/bin/bridge",
    b"CNI_COMMAND=ADD",
    b"CNI_CONTAINERID=c1",
    b"CNI_NETNS=/var/run/netns/blue",
    b"CNI_IFNAME=eth0",
    b"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1",
    b"CNI_PATH=/opt/cni/bin",
    b"TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
CALL: dict[str, Any] = {
    "command": "ADD",
    "plugin": "/opt/cni/bin/bridge",
    "parent": 1,
    "cni_container_id": "c1",
    "ifname": "eth0",
    "netns_path": "/var/run/netns/blue",
    "args": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
WEB = Pod("shop", "web-0", "u-1")

JSON_WHO = '"pid":10,"tid":11,"ppid":1,"uid":0,"comm":"ip"'
JSON_USERNS = '"userns":4026531837'
JSON_WHERE = f'"cgroup":"{PATH}","container_id":"{ID}","pod_uid":"{POD}"'
JSON_A, JSON_HOST = '{"cookie":4097,"inum":4026532001}', '{"cookie":1,"inum":4026531840}'

GOLDEN: dict[str, tuple[bytes, Event, str]] = {
    "create": (
        netns_record(type=1, cause=1, **SUBJECT, **OTHER, **TASK),
        NetnsCreate(TIME, A, HOST, cause="unshare", userns=4026531837, **WHO, **WHERE),
        f'{{"type":"netns_create","time":"{TIME}","netns":{JSON_A},"prev":{JSON_HOST},"cause":"unshare",'
        f"{JSON_WHO},{JSON_USERNS},{JSON_WHERE}}}",
    ),
    "enter": (
        netns_record(type=2, cause=2, **SUBJECT, **OTHER, **TASK),
        NetnsEnter(TIME, A, HOST, cause="clone", userns=4026531837, **WHO, **WHERE),
        f'{{"type":"netns_enter","time":"{TIME}","netns":{JSON_A},"prev":{JSON_HOST},"cause":"clone",'
        f"{JSON_WHO},{JSON_USERNS},{JSON_WHERE}}}",
    ),
    "exit by moving": (
        netns_record(type=3, cause=3, entered_tid=11, **SUBJECT, **OTHER, **TASK),
        NetnsExit(TIME, A, next=HOST, cause="setns", userns=4026531837, **WHO, **WHERE),
        f'{{"type":"netns_exit","time":"{TIME}","netns":{JSON_A},"next":{JSON_HOST},"cause":"setns",'
        f"{JSON_WHO},{JSON_USERNS},{JSON_WHERE}}}",
    ),
    "exit by ending, entered under another tid": (
        netns_record(type=3, cause=4, entered_tid=12, **SUBJECT, **TASK),
        NetnsExit(TIME, A, cause="exit", userns=4026531837, entered_tid=12, **WHO, **WHERE),
        f'{{"type":"netns_exit","time":"{TIME}","netns":{JSON_A},"cause":"exit",'
        f'{JSON_WHO},{JSON_USERNS},{JSON_WHERE},"entered_tid":12}}',
    ),
    "destroy": (
        netns_record(type=4, time=6, lifetime=2_000_000_000, teardown=30_000_000, **SUBJECT),
        NetnsDestroy(TIME, A, userns=4026531837, lifetime_ns=2_000_000_000, teardown_ns=30_000_000),
        f'{{"type":"netns_destroy","time":"{TIME}","netns":{JSON_A},{JSON_USERNS},'
        '"lifetime_ns":2000000000,"teardown_ns":30000000}',
    ),
    "destroy of one whose birth was not seen": (
        netns_record(type=4, time=6, **SUBJECT),
        NetnsDestroy(TIME, A, userns=4026531837),
        f'{{"type":"netns_destroy","time":"{TIME}","netns":{JSON_A},{JSON_USERNS}}}',
    ),
    "refused creation": (
        netns_record(type=5, cause=1, error=28, **OTHER, **TASK),
        NetnsCreateFailed(TIME, prev=HOST, cause="unshare", error="ENOSPC", **WHO, **WHERE),
        f'{{"type":"netns_create_failed","time":"{TIME}","prev":{JSON_HOST},"cause":"unshare","error":"ENOSPC",'
        f"{JSON_WHO},{JSON_WHERE}}}",
    ),
    "refused entry": (
        netns_record(type=6, cause=3, error=1, lifetime=4026532500, **SUBJECT, **OTHER, **TASK),
        NetnsEnterFailed(
            TIME, A, HOST, cause="setns", error="EPERM", userns=4026531837, task_userns=4026532500, **WHO, **WHERE
        ),
        f'{{"type":"netns_enter_failed","time":"{TIME}","netns":{JSON_A},"prev":{JSON_HOST},"cause":"setns",'
        f'"error":"EPERM",{JSON_WHO},{JSON_USERNS},{JSON_WHERE},"task_userns":4026532500}}',
    ),
    "end of a task whose cgroup is not known": (
        netns_record(type=3, cause=4, **SUBJECT, **(TASK | {"hierarchy": 6})),
        NetnsExit(TIME, A, cause="exit", userns=4026531837, **WHO),
        f'{{"type":"netns_exit","time":"{TIME}","netns":{JSON_A},"cause":"exit",{JSON_WHO},{JSON_USERNS}}}',
    ),
    "beginning of a CNI call": (
        cni_start_record(*ENVIRONMENT, **OWN, **TASK, started=5),
        CniStart(TIME, **WHO, **WHERE, pod=WEB, **CALL),
        f'{{"type":"cni_start","time":"{TIME}",{JSON_WHO},{JSON_WHERE},'
        '"pod":{"namespace":"shop","name":"web-0","uid":"u-1"},'
        '"command":"ADD","plugin":"/opt/cni/bin/bridge","parent":1,"cni_container_id":"c1","ifname":"eth0",'
        '"netns_path":"/var/run/netns/blue",'
        '"args":"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1",'
        '"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}',
    ),
    "beginning of a CNI call that is for no namespace": (
        cni_start_record(b"/opt/cni/bin/bridge", b"CNI_COMMAND=VERSION", **OWN, **TASK, started=5),
        CniStart(TIME, **WHO, **WHERE, command="VERSION", plugin="/opt/cni/bin/bridge", parent=1),
        f'{{"type":"cni_start","time":"{TIME}",{JSON_WHO},{JSON_WHERE},'
        '"command":"VERSION","plugin":"/opt/cni/bin/bridge","parent":1}',
    ),
    "end of a CNI call whose beginning was lost": (
        cni_end_record(status=0x0100, duration=123, started=5, **TASK),
        CniEnd(TIME, **WHO, **WHERE, duration_ns=123, exit_code=1),
        f'{{"type":"cni_end","time":"{TIME}",{JSON_WHO},{JSON_WHERE},"duration_ns":123,"exit_code":1}}',
    ),
    "end of a CNI call by a signal": (
        cni_end_record(status=15, duration=123, started=5, **TASK),
        CniEnd(TIME, **WHO, **WHERE, duration_ns=123, signal="SIGTERM"),
        f'{{"type":"cni_end","time":"{TIME}",{JSON_WHO},{JSON_WHERE},"duration_ns":123,"signal":"SIGTERM"}}',
    ),
}

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
VALUES = {
    "type": st.integers(1, 6),
    "cause": st.integers(0, 4),
    "error": u16,
    "status": u16,
    "unreadable": st.just(0),
    "comm": st.binary(max_size=16),
    "trusted": st.integers(0, 1),
    "several": st.integers(0, 1),
    "nested": st.integers(0, 1),
    "helper": st.just(0),
}
LONG = {"time", "cookie", "other_cookie", "cgroup", "lifetime", "teardown", "started", "duration", "entered_cookie"}
ANY_NETNS_RECORD, ANY_CNI_END_RECORD = (
    st.fixed_dictionaries({name: VALUES.get(name, u64 if name in LONG else u32) for name in names.split()})
    for names in (NETNS_FIELDS, CNI_END_FIELDS)
)


def possible(fields: dict[str, Any]) -> dict[str, Any]:
    """A record's fields, as far as its type has them: what it always has is not zero, what it never has is."""
    always: dict[str, Any] = dict.fromkeys(ALWAYS[fields["type"]], 1)
    fixed = {"entered_tid": fields["entered_tid"] % len(wire.REFUSERS)} if fields["type"] in (5, 6) else {}
    return {name: fixed.get(name, value or always.get(name, value)) for name, value in fields.items()}


def utc(nanoseconds: int) -> str:
    """A time as events carry it, by other means than the decoder's."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def round_trip(event: Event) -> Event:
    """The event, after it has been a line of JSON."""
    line = msgspec.json.encode(event)
    json.loads(line)
    again: Event = msgspec.json.decode(line, type=AnyEvent)
    return again


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_records(name: str) -> None:
    raw, event, line = GOLDEN[name]
    decode = decoder()
    assert decode.decode(TELL_PATH, 0, len(TELL_PATH)) is None
    assert decode.decode(raw, 0, len(raw)) == event
    assert msgspec.json.encode(event).decode() == line
    assert decode.undecodable == 0


@given(ANY_NETNS_RECORD.map(possible))
def test_whatever_a_record_says_is_in_the_event(fields: dict[str, Any]) -> None:
    assume(fields["cookie"] != fields["other_cookie"])
    raw = netns_record(**fields)
    event = decoder().decode(raw, 0, len(raw))
    assert event
    assert type(event) is wire.TYPES[fields["type"]]
    assert round_trip(event) == event
    assert event.time == utc(fields["time"] + BOOT)
    assert event.netns == (Netns(fields["cookie"], fields["inum"]) if fields["cookie"] else None)
    if isinstance(event, NetnsDestroy):
        assert (event.lifetime_ns or 0, event.teardown_ns or 0) == (fields["lifetime"], fields["teardown"])
        assert event == NetnsDestroy(
            event.time,
            event.netns,
            userns=fields["userns"],
            lifetime_ns=event.lifetime_ns,
            teardown_ns=event.teardown_ns,
        )
        return
    here, there = (event.next, event.prev) if isinstance(event, NetnsExit) else (event.prev, event.next)
    assert here == (Netns(fields["other_cookie"], fields["other_inum"]) if fields["other_cookie"] else None)
    assert there is None
    assert event.cause == (None, "unshare", "clone", "setns", "exit")[fields["cause"]]
    assert event.comm == fields["comm"].split(b"\0")[0].decode("utf-8", "backslashreplace")
    assert [event.pid, event.tid, event.ppid, event.uid] == [fields[name] for name in ("pid", "tid", "ppid", "uid")]
    if event.netns:
        assert event.userns == fields["userns"]
    if isinstance(event, NetnsCreateFailed | NetnsEnterFailed):
        assert event.refused_by == wire.REFUSERS[fields["entered_tid"]]
        assert (event.task_userns or 0) == fields["lifetime"]


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind in ALWAYS for field in ALWAYS[kind] if field[-4:] != "inum"]
)
def test_a_record_that_lacks_what_its_type_always_has_is_counted(kind: int, field: str) -> None:
    decode = decoder()
    assert decode.decode(netns_record(**{"type": kind, field: 0}), 0, NETNS.size) is None
    assert decode.undecodable == 1


@pytest.mark.parametrize(("number", "name"), [(1, "EPERM"), (9, "EBADF"), (524, "ENOTSUPP"), (4000, "4000")])
def test_errors_have_their_names_where_they_have_one(number: int, name: str) -> None:
    event = decoder().decode(netns_record(type=5, error=number), 0, NETNS.size)
    assert event is not None
    assert event.error == name


@pytest.mark.parametrize("kind", [5, 6])
def test_a_refuser_from_another_version_is_counted(kind: int) -> None:
    decode = decoder()
    assert decode.decode(netns_record(type=kind, entered_tid=2), 0, NETNS.size) is None
    assert decode.undecodable == 1


def test_a_record_is_read_in_place() -> None:
    raw, event, _ = GOLDEN["destroy"]
    assert decoder().decode(memoryview(bytes(24) + raw + bytes(24)), 24, len(raw)) == event


def test_all_events_about_a_namespace_share_one_object() -> None:
    decode = decoder()
    first, second = (decode.decode(GOLDEN[name][0], 0, NETNS.size) for name in ("create", "destroy"))
    assert first is not None
    assert second is not None
    assert first.netns is second.netns


@pytest.mark.parametrize(
    "raw",
    [GOLDEN["create"][0], cgroup_record(b"leaf", b"parent", ident=1), cni_start_record(*ENVIRONMENT), cni_end_record()],
)
def test_a_record_that_was_cut_is_counted(raw: bytes) -> None:
    decode = decoder()
    for size in range(len(raw)):
        assert decode.decode(raw[:size], 0, size) is None
    assert decode.undecodable == len(raw)


@pytest.mark.parametrize("size", [NETNS.size, 2048])
def test_a_type_from_another_version_is_counted(size: int) -> None:
    decode = decoder()
    for kind in range(10, 256):
        raw = netns_record(type=kind).ljust(size, b"\0")
        assert decode.decode(raw, 0, size) is None
    assert decode.undecodable == 246


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=NETNS.size, max_size=NETNS.size)))
def test_any_bytes_become_an_event_or_are_counted_or_are_a_path(raw: bytes) -> None:
    decode = decoder()
    event = decode.decode(raw, 0, len(raw))
    if event is not None:
        assert round_trip(event) == event
    elif raw[:1] not in (b"\0", b"\x08", b"\x09"):  # a path, or perhaps no call
        assert decode.undecodable == 1


def test_a_path_is_read_also_where_its_record_is_as_long_as_that_of_a_namespace() -> None:
    decode = decoder()
    name = b"n" * (NETNS.size - CGROUP.size - 1)
    decode.decode(cgroup_record(name, ident=99, hierarchy=5), 0, NETNS.size)
    event = decode.decode(GOLDEN["create"][0], 0, NETNS.size)
    assert event is not None
    assert (event.cgroup, decode.undecodable) == (f"/{name.decode()}", 0)


def test_one_id_in_two_hierarchies_is_two_cgroups() -> None:
    decode = decoder()
    for raw in (cgroup_record(b"v2", ident=99), cgroup_record(b"v1", ident=99, hierarchy=5)):
        decode.decode(raw, 0, len(raw))
    records = [netns_record(**SUBJECT, **(TASK | {"type": 1, "hierarchy": number})) for number in (0, 5)]
    events = [decode.decode(raw, 0, len(raw)) for raw in records]
    assert [event.cgroup for event in events if event] == ["/v2", "/v1"]


@pytest.mark.parametrize(
    ("level", "names", "path"),
    [
        (0, b"", "/"),
        (2, b"leaf\0parent\0", "/parent/leaf"),
        (9, b"leaf\0parent\0", "/.../parent/leaf"),
        (1, b"\xff\n\0", "/\\xff\n"),
    ],
)
def test_paths(level: int, names: bytes, path: str) -> None:
    assert record.cgroup_path(level, names) == path


@given(st.integers(10**9, 2**62), st.integers(0, 2**62), st.lists(st.integers(0, 3 * 10**9), min_size=1, max_size=10))
@example(BOOT, 10**9, [999_999_999, 0, 10**9, 10**9 - 1, 2 * 10**9, 0])
@example(0, 0, [5])  # a board without a clock: it was booted in 1970
def test_times_cross_seconds_in_any_order(boot_time: int, base: int, steps: list[int]) -> None:
    decode = decoder(boot_time)
    for step in steps:
        event = decode.decode(netns_record(type=4, time=base + step), 0, NETNS.size)
        assert event is not None
        assert event.time == utc(boot_time + base + step) == decode.time(base + step)


@pytest.mark.parametrize(
    ("step", "seen"), [(3_600_000_000_000, True), (-3_600_000_000_000, True), (900_000, False), (-900_000, False)]
)
def test_a_step_of_the_clock_is_followed_and_noise_is_not(
    monkeypatch: pytest.MonkeyPatch, step: int, seen: bool
) -> None:
    decode = decoder()
    assert decode.time(42) == utc(BOOT + 42)
    monkeypatch.setattr(time, "time_ns", lambda: BOOT + 7 + step)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _clock: 7)
    decode.set_clock()
    assert decode.time(42) == utc(BOOT + 42 + step * seen)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_CACHE", 16)
    monkeypatch.setattr(namespaces, "_BOUND", 16)
    decode = decoder()
    for number in range(1, 100):
        raw = netns_record(type=2, cookie=number, inum=number, comm=f"task {number}".encode())
        event = decode.decode(raw, 0, len(raw))
        assert event is not None
        assert (event.netns, event.comm) == (Netns(number, number), f"task {number}")
    assert 0 < len(decode._comms) <= 16
    assert 0 < len(decode._namespaces) <= 16


def test_paths_are_forgotten_by_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_CACHE", 8 * 4)
    forgotten: list[int] = []
    decode = decoder(forget=lambda: forgotten.append(told))

    def path_of(number: int) -> str | None:
        event = decode.decode(netns_record(type=2, cgroup=number), 0, NETNS.size)
        return event.cgroup if event else None

    for told in range(1, 10):
        raw = cgroup_record(f"{told}".encode(), ident=told)
        decode.decode(raw, 0, len(raw))
        if told == 5:
            assert [path_of(number) for number in range(1, 6)] == ["/1", "/2", "/3", "/4", "/5"]
    assert forgotten == [5, 9]
    assert [path_of(number) for number in (1, 4, 5, 8, 9)] == [None, None, "/5", "/8", "/9"]
    assert len(decode._cgroups) + len(decode._cgroups._last) <= 8


@pytest.mark.parametrize(
    "raw",
    [
        cni_start_record(),
        cni_start_record(*ENVIRONMENT, length=0),
        cni_start_record(*ENVIRONMENT, length=2**16 - 1),
        cni_start_record(*ENVIRONMENT) + b"\0",
        cni_start_record(*ENVIRONMENT)[:-1],
        cni_start_record(*ENVIRONMENT, length=sum(len(one) + 1 for one in ENVIRONMENT) - 1)[:-1],
        cni_start_record()[:-1],
        cni_start_record(*ENVIRONMENT, args_length=257),
        cni_entered_record(1, 2, 3, 4) + b"\0",
        cni_start_record()[: CNI_START.size - 16],
        netns_record(type=8),
    ],
    ids=[
        *("no text", "shorter than it is", "longer than it is", "more text", "less text", "no NUL at the end"),
        *("no length", "args too long", "entered and more", "half a task", "nothing but a task"),
    ],
)
def test_a_call_that_makes_no_sense_is_counted(raw: bytes) -> None:
    decode = decoder()
    assert decode.decode(raw, 0, len(raw)) is None
    assert (decode.undecodable, decode._cni_calls.unreadable) == (1, 0)


@given(st.binary(max_size=600).map(lambda raw: raw + b"\0"), st.booleans(), st.integers(0, 2**63))
def test_whatever_the_text_of_a_call_is_there_is_an_event_or_none(text: bytes, cut: bool, started: int) -> None:
    for path in (b"", b"/x\0CNI_COMMAND=ADD\0"):
        decode = decoder()
        raw = cni_start_record((path + text)[:-1], cut=cut, pid=2**22 + 1, started=started)
        event = decode.decode(raw, 0, len(raw))
        assert event is None or (isinstance(event, CniStart) and round_trip(event) == event)
        assert event is not None or not path
        assert decode.undecodable == 0


@given(ANY_CNI_END_RECORD)
def test_whatever_the_end_of_a_call_says_is_in_the_event(fields: dict[str, Any]) -> None:
    decode = decoder()
    raw = cni_end_record(**fields)
    event = decode.decode(raw, 0, len(raw))
    assert isinstance(event, CniEnd)
    assert round_trip(event) == event
    assert event.time == utc(fields["time"] + BOOT)
    assert [event.pid, event.tid, event.ppid, event.uid] == [fields[name] for name in ("pid", "tid", "ppid", "uid")]
    assert event.comm == fields["comm"].split(b"\0")[0].decode("utf-8", "backslashreplace")
    entered = Netns(fields["entered_cookie"], fields["entered_inum"]) if fields["entered_cookie"] else None
    assert (event.duration_ns, event.netns, event.trusted) == (
        fields["duration"], entered, None if fields["trusted"] else False,
    )  # fmt: skip
    assert (event.prev, event.cause, event.error) == (None, None, None)
    assert event.exit_code == (None if fields["status"] & 0x7F else fields["status"] >> 8)
    assert decode.undecodable == 0


def test_the_end_of_a_call_tells_what_its_beginning_told() -> None:
    decode = decoder()
    raw = cni_start_record(*ENVIRONMENT, **OWN, **TASK, started=5)
    decode.decode(raw, 0, len(raw))
    for started, told in ((6, {}), (5, {"pod": WEB} | CALL), (5, {})):
        ended = cni_end_record(duration=123, started=started, **(TASK | {"ppid": 8}))
        assert decode.decode(ended, 0, len(ended)) == CniEnd(
            TIME, **(WHO | {"ppid": 8}), duration_ns=123, exit_code=0, **told
        )


@pytest.mark.parametrize("own", [1, 77])
def test_a_call_is_about_the_namespace_that_its_path_led_to(own: int) -> None:
    """From then on that namespace's events carry the pod, wherever the plugin is."""
    decode = decoder()
    create, enter, destroy = (netns_record(type=kind, **SUBJECT, **TASK) for kind in (1, 2, 4))
    decode.decode(create, 0, len(create))
    decode._namespaces.name({A.cookie: ["/run/netns/blue"]})
    led = {"path_cookie": A.cookie, "path_inum": A.inum}
    own_inum = HOST.inum if own == 1 else own
    raw = cni_start_record(*ENVIRONMENT, **TASK, **led, own_cookie=own, own_inum=own_inum, started=5)
    call = decode.decode(raw, 0, len(raw))
    assert call == CniStart(TIME, A, **WHO, name="/run/netns/blue", pod=WEB, **CALL)
    for raw in (enter, destroy):
        event = decode.decode(raw, 0, len(raw))
        assert event is not None
        assert (event.netns, event.name, event.pod) == (A, "/run/netns/blue", WEB)


def test_names_and_pods_are_on_events_until_the_end() -> None:
    decode = decoder()

    def told(kind: int, **fields: int) -> tuple[str | None, Pod | None]:
        raw = netns_record(**({"type": kind} | SUBJECT | fields))
        event = decode.decode(raw, 0, len(raw))
        assert event is not None
        assert round_trip(event) == event
        return event.name, event.pod

    assert told(1) == (None, None)
    decode._namespaces.name({A.cookie: ["/run/netns/blue"]})
    assert told(2) == ("/run/netns/blue", None)
    decode._namespaces.find_pod(A, WEB)
    for kind in (2, 3, 5, 6):
        assert told(kind) == ("/run/netns/blue", WEB)
        assert told(kind, cookie=5, inum=5) == (None, None)
        assert told(kind, cookie=5, inum=5, other_cookie=A.cookie, other_inum=A.inum) == (None, None)
    assert told(4) == ("/run/netns/blue", WEB), "the last event about it"
    assert told(2) == (None, None)
    assert told(1, cookie=A.cookie + 1) == (None, None), "another with the same inode number"


OUTER = {"outer": TASK["pid"], "outer_started": 5}


def test_a_helper_is_told_once_at_its_end() -> None:
    """By its own path and arguments, which the record closes by NUL; bytes that are no text are escaped."""
    decode = decoder()
    helper = TASK | {"pid": 77, "comm": b"iptables"}
    records = [
        cni_start_record(*ENVIRONMENT, **OWN, **TASK, started=5),
        cni_start_record(
            b"/sbin/iptables", *ENVIRONMENT[1:], type=10, **helper, **OUTER, started=6, args=b"iptables\0-t\0\xff\0"
        ),
        cni_end_record(nested=1, helper=1, status=0x0100, duration=9, started=6, **helper),
    ]
    told = [decode.decode(raw, 0, len(raw)) for raw in records]
    assert told[1:] == [
        None,
        CniExec(
            TIME, **(WHO | {"pid": 77, "comm": "iptables"}), executable="/sbin/iptables", call=TASK["pid"],
            args="iptables -t \\xff", duration_ns=9, exit_code=1,
        ),
    ]  # fmt: skip
    assert decode.undecodable == 0


def test_what_a_call_enters_is_no_event_and_its_end_has_it() -> None:
    decode = decoder()
    entered = cni_entered_record(TASK["pid"], 5, A.cookie, A.inum)
    for raw in (cni_start_record(*ENVIRONMENT, **OWN, **TASK, started=5), entered):
        told = decode.decode(raw, 0, len(raw))
    assert told is None
    assert decode._namespaces.remember(A.cookie, A.inum)[2] == WEB
    end = cni_end_record(started=5, **TASK)
    told = decode.decode(end, 0, len(end))
    assert told is not None
    assert (told.netns, told.pod, decode.undecodable) == (A, WEB, 0)


def test_a_call_in_a_user_namespace_is_told_as_one_that_is_not_trusted() -> None:
    decode = decoder()
    for raw in (
        cni_start_record(*ENVIRONMENT, **OWN, **TASK, started=5, trusted=0),
        cni_end_record(trusted=0, started=5, **TASK),
    ):
        told = decode.decode(raw, 0, len(raw))
        assert isinstance(told, CniCall)
        assert (told.trusted, told.pod, told.args) == (False, None, CALL["args"])


CREATE = netns_record(type=1, cookie=3, inum=3)
NONSENSE = netns_record(type=1, cause=200)
UNKNOWN = netns_record(type=200)
AS_LONG = cgroup_record(b"x" * 87)
"""The path of a cgroup that has as many bytes as a record of a namespace."""


@pytest.mark.parametrize(
    ("records", "taken", "types", "undecodable"),
    [
        ([], 0, [], 0),
        ([CREATE, CREATE], 2, [NetnsCreate, NetnsCreate], 0),
        ([CREATE, NONSENSE, CREATE], 2, [NetnsCreate], 1),
        ([NONSENSE, CREATE], 1, [], 1),
        ([CREATE, UNKNOWN, CREATE], 1, [NetnsCreate], 0),
        ([CREATE, AS_LONG, CREATE], 1, [NetnsCreate], 0),
        ([CREATE, cni_start_record(b"/x", b"CNI_COMMAND=ADD"), CREATE], 1, [NetnsCreate], 0),
        ([CREATE, cni_end_record(), CREATE, CREATE], 1, [NetnsCreate], 0),
        ([CREATE, cgroup_record(b"leaf"), CREATE], 1, [NetnsCreate], 0),
        ([AS_LONG], 0, [], 0),
    ],
)
def test_a_run_ends_where_it_should(
    records: list[bytes], taken: int, types: list[type[Event]], undecodable: int
) -> None:
    """The count is what the ring's reader goes on by: an error of one, and it reads between the records."""
    decode, before = decoder(), made(NetnsDestroy, "before")
    events: list[Event] = [before]
    slots = b"".join(map(slot, records))
    whole = len(slots) // wire.SLOT.size * wire.SLOT.size
    assert len(slot(AS_LONG)) == wire.SLOT.size
    assert decode.decode_run(slots[:whole], events) == taken
    assert list(map(type, events)) == [NetnsDestroy, *types]
    assert decode.undecodable == undecodable


def _about(cookie: int, kind: int, tid: int) -> bytes:
    return slot(netns_record(type=kind, cookie=cookie, inum=cookie, cause=3, **OTHER, **TASK | {"tid": tid}))


def test_a_birth_comes_before_what_others_did_in_the_namespace_meanwhile() -> None:
    """Two namespaces whose joiners were told first, and one between them that nobody joined."""
    decode, events = decoder(), list[Event]()
    run = [(5, 2, 1), (6, 2, 2), (5, 3, 1), (7, 1, 3), (7, 2, 3), (6, 1, 4), (6, 2, 4), (5, 1, 5), (5, 2, 5)]
    for part in (run[:6], run[6:]):  # the paths of cgroups may stand in between
        assert decode.decode_run(b"".join(_about(*one) for one in part), events) == len(part)
    decode.put_births_first(events)
    assert [(e.netns.cookie, e.type[6:], e.tid) for e in events if e.netns] == [
        *((5, "create", 5), (5, "enter", 1), (6, "create", 4), (6, "enter", 2), (5, "exit", 1)),
        *((7, "create", 3), (7, "enter", 3), (6, "enter", 4), (5, "enter", 5)),
    ]


def test_a_birth_stays_where_it_is_where_the_joiner_was_told_in_an_earlier_batch() -> None:
    decode, events = decoder(), list[Event]()
    decode.decode_run(_about(5, 2, 1), [])
    decode.decode_run(_about(6, 2, 1) + _about(5, 1, 5), events)
    decode.put_births_first(events)
    assert [(e.netns.cookie, e.type[6:]) for e in events if e.netns] == [(6, "enter"), (5, "create")]
