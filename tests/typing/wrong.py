"""Code that is wrong: type checkers find something in each line that is marked, and in no other. It is not run."""

from __future__ import annotations

from cni_collector import (
    CniEnd,
    CniStart,
    Collector,
    Event,
    Lost,
    Netns,
    NetnsCreate,
    NetnsDestroy,
    NetnsEnterFailed,
    available,
    create,
    existing,
    replay,
)


def arguments() -> None:
    Collector(["netns_create"])  # error
    Collector(types=NetnsCreate)  # error
    Collector(types=[7])  # error
    Collector(types=[Netns])  # error
    Collector(type=["netns_create"])  # error
    Collector(tier=1)  # error
    Collector(ring_bytes="4 MB")  # error
    Collector(ring_bytes=0.5)  # error
    Collector(coalesce="5 ms")  # error
    Collector(coalesce=None)  # error
    Collector(node=b"n1")  # error
    Collector("cni", ["netns_create"])  # error


def fields(event: Event) -> None:
    print(event.netns.cookie)  # error
    print(event.pid + 1)  # error
    print(event.comm.upper())  # error
    print(event.cokie)  # error
    print(event.time_ns.year)  # error
    print(event.time_ns + event.time)  # error
    print(event.duration_ns)  # error
    if isinstance(event, NetnsCreate):
        print(event.netns.cookies)  # error
        print(event.pod.name)  # error
        print(event.cgroup.split("/"))  # error
        print(event.netns.cookie + event.comm)  # error
        event.pid = 1  # error
    if isinstance(event, NetnsDestroy):
        print(event.lifetime_ns / 1e6)  # error
    if isinstance(event, NetnsEnterFailed):
        print(event.netns.cookie)  # error
    if isinstance(event, CniStart):
        print(event.duration_ns)  # error
    if isinstance(event, CniEnd):
        print(event.exit_code + 1)  # error
    if isinstance(event, Lost):
        print(event.missed)  # error


def loops(collector: Collector) -> None:
    for _ in collector:  # error
        pass
    for _ in collector.events:  # error
        pass
    for batch in collector.batches():
        print(batch.type)  # error
    print(next(collector.events()))  # error
    print(collector.stats.missed)  # error
    print(collector.stats())  # error
    with collector as entered:
        print(entered.event())  # error


async def async_loops(collector: Collector) -> None:
    async for _ in collector.batches():  # error
        pass
    for _ in aiter(collector.events()):  # error
        pass
    event = anext(aiter(collector.events()))
    print(event.type)  # error


def by_name(name: str) -> None:
    own: Collector = create(name)  # error
    print(create(name).stats, own)  # error
    print(create("cni").depth)  # error
    print(create(7))  # error
    print(create(name)())  # error
    print(available()[name].start())  # error


def others() -> None:
    print(existing()[0].member.pid)  # error
    print(existing()[0].cookie)  # error
    print(existing(1))  # error
    print(replay(1))  # error
    print(replay("events.json", 10))  # error
    print(replay("events.json").batches())  # error
