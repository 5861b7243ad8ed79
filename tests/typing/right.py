"""Code that users write: no type checker finds anything in it, however strict. It is checked, not run."""
# pyright: strict

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Iterator
from typing import assert_type

import msgspec

from cni_collector import (
    AnyCollector,
    AnyEvent,
    Checkpoint,
    CniCall,
    CniEnd,
    CniStart,
    Collector,
    CollectorError,
    CollectorStart,
    CollectorStop,
    Event,
    ExistingNetns,
    LoadError,
    LockdownError,
    Lost,
    Netns,
    NetnsCreate,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    NetnsFound,
    Pod,
    Recording,
    Stats,
    Task,
    available,
    create,
    existing,
    json_schema,
    replay,
)


def births() -> None:
    with Collector("cni", types=[NetnsCreate, "netns_exit"]) as collector:
        for event in collector.events():
            assert_type(event, Event)
            assert_type(event.netns, Netns | None)
            assert_type(event.time, str)
            assert_type(event.time_ns, int)
            assert_type(event.type, str)
            if isinstance(event, NetnsCreate):
                print("created", event.netns.cookie, "by", event.comm.upper(), event.pid + 1, event.prev.inum)
                assert_type(event.netns, Netns)
                assert_type(event.userns, int)
                assert_type(event.pod, Pod | None)
                break


def all_kinds(event: Event) -> str:
    match event:
        case NetnsCreate(netns=netns, comm=comm, pid=pid) | NetnsEnter(netns=netns, comm=comm, pid=pid):
            return f"{netns.cookie} {comm} {pid + 1}"
        case NetnsExit(cause="exit"):
            return f"{event.netns.cookie} {event.entered_tid or event.tid}"
        case NetnsExit(next=Netns(cookie=cookie)):
            return f"{event.netns.cookie} -> {cookie}"
        case NetnsDestroy():
            return f"{event.netns.inum} {(event.lifetime_ns or 0) / 1e6:.1f} ms"
        case NetnsEnterFailed():
            return event.error + event.cause + str(event.prev.cookie) + str(event.netns and event.netns.cookie)
        case NetnsFound():
            return f"{event.netns.cookie} {event.userns} {event.members or 0}"
        case CniStart():
            return event.plugin + str(event.parent + event.pid)
        case CniEnd():
            return f"{event.command} took {event.duration_ns / 1e6:.1f} ms: {event.exit_code}"
        case CniCall():
            return event.cni_container_id or ""
        case Lost():
            return f"{event.count + 1} {sum(event.by_type.values())}"
        case Checkpoint():
            return f"{event.namespaces + event.healed} {event.members or 0}"
        case CollectorStart():
            return f"{event.node} {event.host_netns.cookie} {event.schema} {', '.join(event.missing)}"
        case CollectorStop():
            return f"{event.events + event.lost}"
        case _:
            return event.type


async def on_an_event_loop() -> None:
    async with Collector(types={"netns_create", NetnsDestroy}, coalesce=0) as collector:
        assert_type(collector, Collector)
        async for event in collector.events():
            assert_type(event, Event)
            if isinstance(event, NetnsCreate):
                print(event.netns.cookie, event.time_ns // 1_000_000)
                break
        stream = aiter(collector.events())
        event = await asyncio.wait_for(anext(stream), 1)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(anext(stream))
        assert_type(event, Event)
        assert_type(task.result(), Event)
        async with contextlib.aclosing(aiter(collector.events())) as closing:
            assert_type(await anext(closing), Event)


def in_batches(types: list[str], more: tuple[type[Event], ...]) -> None:
    first, second = Collector(types=types), Collector(types=more)
    for collector in first, second:
        collector.start()
        ready, _, _ = select.select([collector], [], [], 1)
        batches = collector.batches()
        assert_type(batches, Iterator[list[Event]])
        for batch in batches:
            print(len(batch), batch[-1].type, len(ready))
            collector.stop()
        assert_type(collector.stats, Stats)
        assert_type(collector.stats.lost_by_type, dict[str, int])
        print(collector.healthy, collector.stats.skipped + collector.stats.unreadable)


def by_name(name: str) -> None:
    with create("cni", types=[CniStart, "cni_end"], tier="tracepoint") as own:
        assert_type(own, Collector)
        print(own.stats.received)
    with create(name, depth=3) as other:
        assert_type(other, AnyCollector)
        for event in other.events():
            assert_type(event, Event)
    if isinstance(other, Collector):
        print(other.healthy)
    print(sorted(available()), available()[name].value)
    takes_any(own)


def takes_any(collector: AnyCollector) -> None:
    collector.start()
    collector.stop()


def what_exists() -> dict[int, str]:
    found = existing()
    assert_type(found, list[ExistingNetns])
    for one in found:
        assert_type(one.netns, Netns)
        assert_type(one.member, Task | None)
        assert_type(one.names, tuple[str, ...])
        assert_type(one.pod, Pod | None)
        if one.member:
            print(one.member.pid + 1, one.member.comm.upper())
    return {one.netns.cookie: one.names[0] if one.names else "-" for one in found}


def recorded(line: bytes) -> int:
    event: AnyEvent = msgspec.json.decode(line, type=AnyEvent)
    print(all_kinds(event), json_schema()["$defs"])
    events = replay("events.json", since="2026-01-31T12:00:00Z")
    assert_type(events, Recording)
    assert_type(next(events), Event)
    return sum(event.time_ns for event in events)


def errors() -> str:
    try:
        Collector("cni", node="n1", ring_bytes=1 << 20).start()
    except LockdownError as error:
        return str(error)
    except LoadError as error:
        return error.log
    except CollectorError:
        return ""
    return "started"
