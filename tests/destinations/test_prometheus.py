"""Metrics, as Prometheus scrapes them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_collector import Checkpoint, CniEnd, CniExec, CniStart, Collector, Event, Lost, Netns, NetnsCreate
from cni_collector.exporters.prometheus import PrometheusExporter

from ..support.actors import a_life
from ..support.exporting import call, make_plugin, until, watch
from ..support.made import made
from ..support.prometheus import PrometheusServer, get
from ..support.watch import LARGE, PATIENCE

CALLS = 31
LIVES = 7


def test_prometheus_scrapes_what_happened(tmp_path: Path) -> None:
    plugin = make_plugin(tmp_path)
    with watch("--prometheus", ":0", "-o", "none", "--type", "netns_found", *LARGE) as running:
        assert running.stderr
        [port] = re.findall(r":(\d+)/metrics", running.stderr.readline())
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: "cni_collector_info" in get(url))
        lives = [a_life() for _ in range(LIVES)]
        for number in range(CALLS):
            call(plugin, number % 2)
        sleeper = subprocess.Popen([plugin, "-c", "read line"], stdin=subprocess.PIPE, env={"CNI_COMMAND": "DEL"})
        linted = subprocess.run(["promtool", "check", "metrics"], input=get(url), text=True, capture_output=True)
        assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")
        with PrometheusServer(tmp_path, {"here": int(port)}) as server:
            calls = 'cni_call_duration_seconds_count{plugin="%s",command="ADD",outcome="%s"}'
            until(lambda: server.ask(calls % (plugin.name, "success")) == CALLS // 2 + 1)
            assert server.ask(calls % (plugin.name, "failure")) == CALLS // 2
            until(lambda: server.ask("cni_call_oldest_age_seconds") > 1)
            assert server.ask("cni_calls_in_flight") >= 1
            until(lambda: server.ask("cni_netns_teardown_seconds_count") >= len(lives))
            assert server.ask('cni_events_total{type="netns_create"}') >= len(lives)
            assert server.ask("cni_collector_healthy") == 1
            assert server.ask("cni_lost_events_total") == 0
            assert server.ask("cni_exporter_dropped_events_total") == 0
        sleeper.communicate(b"\n", PATIENCE)


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    """One that is fed by the test."""
    made = PrometheusExporter(Collector(), "127.0.0.1", 0)
    yield made
    made.close()


def _sample(exporter: PrometheusExporter, name: str) -> float:
    return next(metric.samples[0].value for metric in exporter.collect() if metric.name == name)


def test_what_was_lost_is_neither_alive_nor_under_way_for_ever(exporter: PrometheusExporter) -> None:
    """Deaths that found no room are deaths; a call is over with its process, if its end may have been lost."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    calls: list[Event] = [made(CniStart, "", pid=pid, command="ADD") for pid in (ended.pid, os.getppid())]
    exporter.prepare([made(NetnsCreate, "", Netns(number, number)) for number in range(5)])
    exporter.prepare(calls[:1])
    assert (_sample(exporter, "cni_netns_alive"), _sample(exporter, "cni_calls_in_flight")) == (5, 1)
    exporter.prepare(
        [Lost("", count=14, by_type={"netns_create": 3, "netns_found": 2, "netns_destroy": 8, "cni_end": 1})]
    )
    exporter.prepare(calls)  # read later than that its end was lost
    assert (_sample(exporter, "cni_netns_alive"), _sample(exporter, "cni_calls_in_flight")) == (2, 1)


def test_calls_that_are_not_trusted_have_a_counter_of_their_own_and_helpers_none(exporter: PrometheusExporter) -> None:
    """Neither takes up a name of a plugin, nor is under way, nor has failed."""
    told: list[Event] = []
    for number in range(100):
        plugin = f"/tmp/{number}"
        told += [made(CniStart, "", pid=number, command="ADD", plugin=plugin, trusted=False)]
        told += [made(CniEnd, "", pid=number, command="ADD", plugin=plugin, exit_code=1, trusted=False)] * (number % 2)
        told += [made(CniExec, "", pid=1000 + number, call=1, executable=plugin, exit_code=1)]
    exporter.prepare(told)
    exporter.prepare([made(CniEnd, "", pid=1, command="ADD", plugin="/opt/cni/bin/bridge", exit_code=0)])
    assert _sample(exporter, "cni_calls_in_flight") == 0
    served = get(f"http://127.0.0.1:{exporter.port}/metrics")
    assert "cni_untrusted_calls_total 100.0\n" in served
    counts = re.findall(r"cni_call_duration_seconds_count{(.*)} (.*)", served)
    assert counts == [('command="ADD",outcome="success",plugin="bridge"', "1.0")]


def test_a_checkpoint_says_how_many_exist(exporter: PrometheusExporter) -> None:
    exporter.prepare([made(NetnsCreate, "", Netns(number, number)) for number in range(5)])
    exporter.prepare([made(Checkpoint, "", namespaces=7, healed=3), made(Checkpoint, "", namespaces=6, healed=0)])
    assert (_sample(exporter, "cni_netns_alive"), _sample(exporter, "cni_healed_events")) == (6, 3)
