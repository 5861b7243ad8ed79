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

from cni_collector import record
from cni_collector.events import (
    AnyEvent,
    Event,
    Netns,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    NetnsFound,
)

from .records import BOOT, CGROUP, NETNS, NETNS_FIELDS, cgroup_record, decoder, full, netns_record

ID = "0123456789abcdef" * 4
POD = "11111111-2222-3333-4444-555555555555"
PATH = f"/kubepods/pod{POD}/{ID}"
TELL_PATH = full(cgroup_record(ID.encode(), f"pod{POD}".encode(), b"kubepods", ident=99, hierarchy=5))

TASK = {"time": 6, "pid": 10, "tid": 11, "ppid": 1, "comm": b"ip", "cgroup": 99, "hierarchy": 5}
WHO = {"pid": 10, "tid": 11, "ppid": 1, "uid": 0, "comm": "ip"}
WHERE = {"cgroup": PATH, "container_id": ID, "pod_uid": POD}
SUBJECT = {"cookie": 4097, "inum": 4026532001, "userns": 4026531837}
OTHER = {"other_cookie": 1, "other_inum": 4026531840}
A, HOST = Netns(4097, 4026532001), Netns(1, 4026531840)
TIME = "2026-01-02T03:04:05.000000006Z"

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
        netns_record(type=6, cause=3, error=1, **SUBJECT, **OTHER, **TASK),
        NetnsEnterFailed(TIME, A, HOST, cause="setns", error="EPERM", userns=4026531837, **WHO, **WHERE),
        f'{{"type":"netns_enter_failed","time":"{TIME}","netns":{JSON_A},"prev":{JSON_HOST},"cause":"setns",'
        f'"error":"EPERM",{JSON_WHO},{JSON_USERNS},{JSON_WHERE}}}',
    ),
    "found, by a task whose cgroup is not known": (
        netns_record(type=7, **SUBJECT, **(TASK | {"hierarchy": 6})),
        NetnsFound(TIME, A, userns=4026531837, **WHO),
        f'{{"type":"netns_found","time":"{TIME}","netns":{JSON_A},{JSON_WHO},{JSON_USERNS}}}',
    ),
}

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
VALUES = {"type": st.integers(1, 7), "cause": st.integers(0, 4), "error": u16, "comm": st.binary(max_size=16)}
LONG = {"time", "cookie", "other_cookie", "cgroup", "lifetime", "teardown"}
ANY_NETNS_RECORD = st.fixed_dictionaries(
    {name: VALUES.get(name, u64 if name in LONG else u32) for name in NETNS_FIELDS.split()}
)


def utc(nanoseconds: int) -> str:
    """A time as events carry it, by other means than the decoder's."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def round_trip(event: Event) -> Event:
    """The event, after it has been a line of JSON."""
    line = msgspec.json.encode(event)
    json.loads(line)
    return msgspec.json.decode(line, type=AnyEvent)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_records(name: str) -> None:
    raw, event, line = GOLDEN[name]
    decode = decoder()
    assert decode.decode(TELL_PATH, 0, len(TELL_PATH)) is None
    assert decode.decode(raw, 0, len(raw)) == event
    assert msgspec.json.encode(event).decode() == line
    assert decode.undecodable == 0


@given(ANY_NETNS_RECORD)
def test_whatever_a_record_says_is_in_the_event(fields: dict[str, Any]) -> None:
    assume(fields["cookie"] != fields["other_cookie"])
    raw = netns_record(**fields)
    event = decoder().decode(raw, 0, len(raw))
    assert type(event) is record.TYPES[fields["type"]]
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


@pytest.mark.parametrize(("number", "name"), [(1, "EPERM"), (9, "EBADF"), (524, "ENOTSUPP"), (4000, "4000")])
def test_errors_have_their_names_where_they_have_one(number: int, name: str) -> None:
    event = decoder().decode(netns_record(type=5, error=number), 0, NETNS.size)
    assert event is not None
    assert event.error == name


def test_a_record_is_read_in_place() -> None:
    raw, event, _ = GOLDEN["destroy"]
    assert decoder().decode(memoryview(bytes(24) + raw + bytes(24)), 24, len(raw)) == event


def test_all_events_about_a_namespace_share_one_object() -> None:
    decode = decoder()
    first, second = (decode.decode(GOLDEN[name][0], 0, NETNS.size) for name in ("create", "destroy"))
    assert first is not None
    assert second is not None
    assert first.netns is second.netns


@pytest.mark.parametrize("raw", [GOLDEN["create"][0], cgroup_record(b"leaf", b"parent", ident=1)])
def test_a_record_that_was_cut_is_counted(raw: bytes) -> None:
    decode = decoder()
    for size in range(len(raw)):
        assert decode.decode(raw[:size], 0, size) is None
    assert decode.undecodable == len(raw)


@pytest.mark.parametrize("size", [NETNS.size, 2048])
def test_a_type_from_another_version_is_counted(size: int) -> None:
    decode = decoder()
    for kind in range(8, 256):
        raw = netns_record(type=kind).ljust(size, b"\0")
        assert decode.decode(raw, 0, size) is None
    assert decode.undecodable == 248


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=NETNS.size, max_size=NETNS.size)))
def test_any_bytes_become_an_event_or_are_counted_or_are_a_path(raw: bytes) -> None:
    decode = decoder()
    event = decode.decode(raw, 0, len(raw))
    if event is not None:
        assert round_trip(event) == event
    elif raw[:1] != b"\0":
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
    assert [decode.decode(raw, 0, len(raw)).cgroup for raw in records] == ["/v2", "/v1"]


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
    assert len(decode._places) + len(decode._places._last) <= 8
