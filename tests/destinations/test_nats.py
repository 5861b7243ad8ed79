"""The stream of a cluster: what was seen is stored once, whatever becomes of the server; or it is counted."""

from __future__ import annotations

import collections
import contextlib
import datetime
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cni_collector import AnyEvent, CniEnd

from ..support.actors import a_life
from ..support.exporting import OWN, a_pods_life, call, free_port, make_plugin, read_events, until, watch, watch_into
from ..support.nats import NatsServer
from ..support.watch import PATIENCE

CALLS = 31
NODE = "node-1.example"
LIVES = ("--type", "netns_create", "--type", "netns_destroy")
"""Lets pass a few events a namespace, whoever makes it; storms of other types pass by."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    (tmp_path / "nats").mkdir()
    with NatsServer(tmp_path / "nats") as running:
        running.add_stream()
        yield running


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return make_plugin(tmp_path)


def _compare(server: NatsServer, path: Path) -> None:
    """The stream holds what the file holds, in its order, each once."""
    stored = server.stored()
    assert b"".join(message.payload + b"\n" for message in stored) == path.read_bytes()
    assert len({message.ident for message in stored}) == len(stored)
    types = [event.type for event in read_events(path)]
    assert [message.subject for message in stored] == [f"cni.node-1_example.{kind}" for kind in types]


def test_what_was_seen_is_stored(server: NatsServer, tmp_path: Path, plugin: Path) -> None:
    path = tmp_path / "events.json"
    with watch_into(path, *OWN, "--nats", server.url, "--node", NODE):
        for _ in range(CALLS):
            call(plugin)
        a_pods_life(plugin, path)
    _compare(server, path)
    types = collections.Counter(event.type for event in read_events(path))
    lives = ("collector_start", "netns_exit", "netns_destroy", "collector_stop")
    assert types == {"cni_start": CALLS + 1, "cni_end": CALLS + 1, **dict.fromkeys(lives, 1)}


def test_a_server_that_is_killed_and_comes_back(server: NatsServer, tmp_path: Path, plugin: Path) -> None:
    """Nothing is missing, and nothing is there twice: also what was sent and not answered when it died."""
    path = tmp_path / "events.json"
    with watch_into(path, "--cni", *OWN, "--nats", server.url, "--node", NODE) as running:
        assert running.stderr
        for outage in range(3):
            for _ in range(CALLS):
                call(plugin)
            server.kill()
            for _ in range(CALLS):
                call(plugin)
            if outage == 0:  # the others may be over before anything is said
                assert "events wait until it works again" in running.stderr.readline()
            server.start()
        seen = len(read_events(path))
        until(lambda: server.count() >= seen)
        running.terminate()
        assert "nats: works again; 0 events were dropped so far" in running.stderr.read()
    _compare(server, path)


def _wait_for_more(server: NatsServer) -> None:
    least = server.count() + 50
    until(lambda: server.count() >= least)


def test_a_server_that_is_killed_amid_many_events(server: NatsServer, tmp_path: Path) -> None:
    """No event overtakes those that went with the connection, or that came before the server had found its stream."""
    path = tmp_path / "events.json"
    with watch_into(path, *LIVES, "--nats", server.url, "--node", NODE):
        with subprocess.Popen(["sh", "-c", "while unshare --net true; do :; done"]) as lives:
            try:
                for _ in range(10):
                    _wait_for_more(server)
                    server.kill()
                    server.start()
            finally:
                lives.kill()
        seen = len(read_events(path))
        until(lambda: server.count() >= seen)
    _compare(server, path)


def test_a_server_that_is_not_there_at_first(tmp_path: Path, plugin: Path) -> None:
    path = tmp_path / "events.json"
    (tmp_path / "nats").mkdir()
    server = NatsServer(tmp_path / "nats")
    with watch_into(path, "--cni", *OWN, "--nats", server.url, "--node", NODE) as running:
        assert running.stderr
        assert "not connected" in running.stderr.readline()
        call(plugin)
        with server:
            while "has no stream that takes cni.>" not in running.stderr.readline():
                pass
            server.add_stream()
            until(lambda: server.count() >= 3)
            running.terminate()
            running.wait(PATIENCE)
            _compare(server, path)


def test_a_server_that_refuses(tmp_path: Path) -> None:
    """It is asked again and again, until it takes what waits; no try leaves a socket."""
    (tmp_path / "nats").mkdir()
    server = NatsServer(tmp_path / "nats")
    server.configure(1 << 30, 'authorization { token: "secret" }')
    path = tmp_path / "events.json"
    with server, watch_into(path, "--cni", *OWN, "--nats", server.url, "--node", NODE) as running:
        assert running.stderr
        while "Authorization Violation" not in running.stderr.readline():
            pass
        before, tries = _open_descriptors(running.pid), server.refusals()
        until(lambda: server.refusals() >= tries + 4)
        assert _open_descriptors(running.pid) <= before
        server.kill()
        server.configure(1 << 30)
        server.start()
        server.add_stream()
        until(lambda: server.count() == 1)


def _open_descriptors(pid: int) -> int:
    """But for those of a moment."""

    def count() -> int:
        time.sleep(0.05)
        return len(os.listdir(f"/proc/{pid}/fd"))

    return min(count() for _ in range(10))


def test_a_server_that_is_cut_off(tmp_path: Path, plugin: Path) -> None:
    """Server and collector each in a network namespace; the wire between them is unplugged for a while."""
    path = tmp_path / "events.json"
    (tmp_path / "nats").mkdir()
    with _two_hosts() as (one, other), NatsServer(tmp_path / "nats", address="10.77.0.1", host=one) as server:
        server.add_stream()
        before = ["ip", "netns", "exec", other]
        with watch_into(path, "--cni", *OWN, "--nats", server.url, "--node", NODE, before=before) as running:
            assert running.stderr
            for _ in range(CALLS):
                call(plugin)
            subprocess.run(["ip", "-n", other, "link", "set", "wire1", "down"], check=True)
            for _ in range(CALLS):
                call(plugin)
            assert "no answer within" in running.stderr.readline()
            for _ in range(CALLS):
                call(plugin)
            subprocess.run(["ip", "-n", other, "link", "set", "wire1", "up"], check=True)
            until(lambda: server.count() >= len(read_events(path)))
        _compare(server, path)


@contextlib.contextmanager
def _two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a wire between them: 10.77.0.1 and 10.77.0.2."""
    names = [f"cni-test-{os.getpid()}-{number}" for number in range(2)]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        wire = ["type", "veth", "peer", "name", "wire1", "netns", names[1]]
        subprocess.run(["ip", "-n", names[0], "link", "add", "wire0", *wire], check=True)
        for number, name in enumerate(names):
            address = ["addr", "add", f"10.77.0.{number + 1}/24", "dev", f"wire{number}"]
            subprocess.run(["ip", "-n", name, *address], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", f"wire{number}", "up"], check=True)
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.parametrize("quota", ["the stream's", "the server's"])
def test_a_full_disk(tmp_path: Path, quota: str) -> None:
    """What finds no room there waits here; when there is room again, it goes on; nothing is lost uncounted."""
    path = tmp_path / "events.json"
    (tmp_path / "nats").mkdir()
    little = 64 << 10
    with NatsServer(tmp_path / "nats", store=little if quota == "the server's" else 1 << 30) as server:
        server.add_stream(max_bytes=-1 if quota == "the server's" else little)
        moves = ("--type", "netns_enter", "--type", "netns_exit")
        with watch_into(path, *LIVES, *moves, "--nats", server.url, "--node", NODE, "--queue", "1000") as running:
            assert running.stderr
            for _ in range(500):  # more than may be stored and wait
                a_life()
            # The server does not answer where its own quota is used up.
            assert re.search("no answer within|maximum bytes exceeded", running.stderr.readline())
            if quota == "the server's":
                server.kill()
                server.configure(1 << 30)
                server.start()
            else:
                server.update_stream(max_bytes=-1)
            while "works again" not in running.stderr.readline():
                pass
            running.terminate()
            said = running.stderr.read()
        # Where others on the machine make many events, the file's queue may run over, too.
        dropped = {name: int(count) for name, count in re.findall(r"(nats|file): (\d+) events were dropped\n", said)}
        assert dropped["nats"] > 0
        # The server gives up the oldest messages where the limit is changed while it is passed by some bytes.
        assert server.taken() + dropped["nats"] == len(read_events(path)) + dropped.get("file", 0)


def test_the_whole_cluster_from_one_place(server: NatsServer, tmp_path: Path, plugin: Path) -> None:
    """The events of two nodes, each with its name; filtered; from a time on; and on while the server restarts."""
    paths = [tmp_path / f"{number}.json" for number in range(2)]
    options = ("--cni", *OWN, "--nats", server.url)
    with watch_into(paths[0], *options, "--node", "a.b"), watch_into(paths[1], *options, "--node", "c_d"):
        call(plugin)
        until(lambda: server.count() >= sum(len(read_events(path)) for path in paths) > 4)
        show = [server.url, "-o", "json", "--type", "cni_end"]
        with watch(*show, "--since", "10m", stdout=subprocess.PIPE, command="replay") as viewer:
            assert viewer.stdout
            lines = iter(viewer.stdout.readline, "")
            told: list[CniEnd] = []
            while len(told) < 2:
                event = _event(next(lines))
                told += [event] if isinstance(event, CniEnd) and event.plugin == str(plugin) else []
            assert {event.node for event in told} == {"a.b", "c_d"}
            later = time.time()
            server.kill()
            call(plugin)
            server.start()
            while len(told) < 4:
                event = _event(next(lines))
                told += [event] if isinstance(event, CniEnd) and event.plugin == str(plugin) else []
            assert sorted(event.node or "" for event in told) == ["a.b", "a.b", "c_d", "c_d"]
        since = datetime.datetime.fromtimestamp(later, datetime.UTC).isoformat()
        with watch(*show, "--since", since, "--count", "2", stdout=subprocess.PIPE, command="replay") as viewer:
            assert viewer.stdout
            ends = [event for event in map(_event, viewer.stdout) if isinstance(event, CniEnd)]
            assert [event.time for event in ends] == [event.time for event in told[2:]]


def _event(line: str) -> AnyEvent:
    event: AnyEvent = msgspec.json.decode(line, type=AnyEvent)
    return event


def test_a_cluster_that_cannot_be_read(server: NatsServer) -> None:
    for url, reason in ((server.url, "no stream"), (f"nats://127.0.0.1:{free_port()}", "Connect call failed")):
        if reason == "no stream":
            server.ask(lambda streams: streams.delete_stream("cni"))
        command = [sys.executable, "-m", "cni_collector", "replay", url.replace("//", "//user:secret@")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 1
        assert reason in done.stderr
        assert "secret" not in done.stderr
