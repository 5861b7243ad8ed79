"""`python -m tests.destinations`: three nodes, three destinations, real pods; and who holds which events.

Three collectors on this machine stand for three nodes: each sees everything, and sends it to NATS JetStream, an OTLP
receiver and Prometheus, which all listen on the loopback address. A fourth one, the witness, only writes a file.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from cni_collector import CniStart, Event
from cni_collector.exporters.nats import node_of

from ..support.actors import CLONE_NEWNET, a_life, a_netns, act, refused, setns, storm
from ..support.containerd import Containerd
from ..support.exporting import free_port, read_events, until
from ..support.nats import NatsServer
from ..support.prometheus import PrometheusServer
from ..support.receiver import Receiver, values
from ..support.watch import PATIENCE

NODES: Final = ("node-1", "node-2", "node-3")
STREAM_TYPES: Final = ("collector_start", "collector_stop", "netns_found")
"""Of each collector's own: not what happens to namespaces."""

Counts = collections.Counter[str]


class Node:
    """One collector, and what it has to say of itself."""

    def __init__(self, name: str, home: Path, options: list[str]) -> None:
        self.name = name
        self.path = home / f"{name}.json"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it is attached."""
        starts = self.seen()["collector_start"]
        command = [sys.executable, "-m", "cni_collector", "watch", "--node", self.name, "--file", str(self.path)]
        self._process = subprocess.Popen([*command, *self._options], stderr=subprocess.DEVNULL)
        until(lambda: self.seen()["collector_start"] > starts)

    def stop(self) -> None:
        """SIGTERM, and the orderly end."""
        assert self._process
        self._process.terminate()
        assert self._process.wait(PATIENCE) == 0

    def kill(self) -> None:
        """Whatever happened, it is gone afterwards."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def events(self) -> list[Event]:
        """What it has written so far."""
        return read_events(self.path) if self.path.exists() else []

    def seen(self) -> Counts:
        """The same, counted by type."""
        return Counts(event.type for event in self.events())


class Show:
    """The cluster, and its load.

    Args:
        home: an empty directory.
        pods: how many come and go in each scene.
        moves: how many times a storm enters a namespace, and leaves it.
    """

    def __init__(self, home: Path, pods: int, moves: int) -> None:
        for name in ("nats", "prometheus", "otlp"):
            (home / name).mkdir()
        self._pods = pods
        self._moves = moves
        ports = {name: free_port() for name in NODES}
        self._nats = NatsServer(home / "nats")
        self._prometheus = PrometheusServer(home / "prometheus", ports)
        self._otlp = Receiver(home / "otlp")
        self._witness = Node("witness", home, [])
        self._nodes = [
            Node(name, home, ["--nats", self._nats.url, "--otlp", self._otlp.url, "--prometheus", f":{ports[name]}"])
            for name in NODES
        ]
        self._containerd = Containerd()
        self._births = self._refusals = 0
        """That this process has caused, or had containerd cause."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All of it runs."""
        with contextlib.ExitStack() as stack:
            for server in (self._nats, self._prometheus, self._otlp, self._containerd):
                stack.enter_context(server)
            self._nats.add_stream()
            for node in (self._witness, *self._nodes):
                stack.callback(node.kill)
                node.start()
            yield

    def quiet(self) -> None:
        """Pods come and go, one after the other."""
        for _ in range(self._pods):
            pod = self._containerd.run_pod("shop", f"web-{uuid.uuid4().hex[:6]}", str(uuid.uuid4()))
            self._births += 1
            self._containerd.create_container(pod, "main", ["sleep", "1000"])
            self._containerd.stop_pod(pod)
            self._containerd.remove_pod(pod)
        refused(lambda: setns(-1, CLONE_NEWNET))
        self._refusals += 1

    def a_pod(self) -> str:
        """What one pod's life comes to, after the first scene."""
        size = self._nats.size() / len(NODES)
        events = sum(self._witness.seen().values())
        text = self._witness.path.stat().st_size
        return (
            f"a pod's life: {events / self._pods:.0f} events, {text / self._pods:,.0f} bytes of JSON, "
            f"{size / self._pods:,.0f} bytes in JetStream"
        )

    def storm(self) -> None:
        """Somebody enters and leaves a namespace as fast as can be, and others come and go, beside the pods."""
        with a_netns() as (holder, _):
            self._births += 1
            fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
            act(lambda: storm(fd, self._moves))
            os.close(fd)
        for _ in range(self._moves // 50):
            a_life()
            self._births += 1
        self.quiet()

    def destinations_restarted(self) -> None:
        """All of them are killed by SIGKILL, and come back after a while, in which much happens."""
        for server in (self._nats, self._otlp, self._prometheus):
            server.kill()
        self.storm()
        for server in (self._nats, self._otlp, self._prometheus):
            server.start()
        self.quiet()

    def collectors_restarted(self) -> None:
        """One collector after the other ends in order, while nothing happens, and begins anew."""
        for node in self._nodes:
            node.stop()
            node.start()
        self.quiet()

    def holders(self) -> dict[str, dict[str, Counts]]:
        """How many events each destination holds, of each node, by type."""
        nats, otlp = ({name: Counts() for name in NODES} for _ in range(2))
        for message in self._nats.stored():
            nats[node_of(message.subject)][message.subject.split(".")[2]] += 1
        for record, resource in self._otlp.records_by_resource():
            otlp[values(resource.attributes)["k8s.node.name"]][record.event_name.removeprefix("cni_collector.")] += 1
        return {"NATS": nats, "OTLP": otlp, "Prometheus": self._prometheus_counts()}

    def _prometheus_counts(self) -> dict[str, Counts]:
        """A counter begins anew with its collector: what it had by then is added."""
        found = {name: Counts() for name in NODES}
        for series in self._prometheus.query("cni_events_total[1d]"):
            before = 0
            for _, text in series["values"]:
                now = int(float(text))
                found[series["metric"]["node"]][series["metric"]["type"]] += now - before if now >= before else now
                before = now
        return found

    def lines(self) -> tuple[list[list[str]], bool]:
        """The table by type, and whether everybody holds everything."""
        happened, holders = self._witness.seen(), self.holders()
        equal = self._as_the_load_says()
        rows = [["", "happened", *holders]]
        for kind in sorted({*happened, *(kind for counts in holders["NATS"].values() for kind in counts)}):
            expected = [node.seen()[kind] if kind in STREAM_TYPES else happened[kind] for node in self._nodes]
            cells = []
            for holder, counts in holders.items():
                if holder == "Prometheus" and kind.startswith("collector_"):
                    cells.append("")  # it counts what happens to namespaces
                    continue
                held = [counts[name][kind] for name in NODES]
                equal &= held == expected
                cells.append(_each(held))
            rows.append([kind, _each(expected), *cells])
        return rows, equal

    def _as_the_load_says(self) -> bool:
        """Whether the witness has seen what is known to have happened, where that can be known from outside."""
        events = self._witness.events()
        counts = Counts(event.type for event in events)
        calls = {call.pid for call in self._containerd.plugins.log.calls()}
        return (
            counts["netns_create"] == counts["netns_destroy"] == self._births
            and counts["netns_enter_failed"] >= self._refusals
            and counts["cni_start"] == counts["cni_end"]
            and calls <= {event.pid for event in events if isinstance(event, CniStart)}
            and counts["lost"] == 0
        )


def _each(counts: list[int]) -> str:
    """One number where the nodes agree."""
    return f"{counts[0]:,}" if len(set(counts)) == 1 else " / ".join(f"{count:,}" for count in counts)


def _table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


@click.command()
@click.option(
    "--pods", default=5, show_default=True, type=click.IntRange(min=1), help="That come and go in each scene."
)
@click.option(
    "--moves",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=50),
    help="Into a namespace and out, in a storm.",
)
def main(pods: int, moves: int) -> None:
    """Show that every destination holds every event of three nodes, whatever happens to it. Exit code 1 if not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # what was started is ended on the way out
    failed = False
    with tempfile.TemporaryDirectory(prefix="destinations-") as directory:
        show = Show(Path(directory), pods, moves)
        with show.running():
            scenes: dict[str, Callable[[], None]] = {
                "quiet": show.quiet,
                "storm": show.storm,
                "destinations killed and restarted": show.destinations_restarted,
                "collectors restarted": show.collectors_restarted,
            }
            for name, scene in scenes.items():
                print(f"{name} ...", file=sys.stderr, flush=True)
                scene()
                deadline = time.monotonic() + 2 * PATIENCE
                while not (told := show.lines())[1] and time.monotonic() < deadline:
                    time.sleep(1)
                rows, equal = told
                rows[0][0] = name
                failed |= not equal
                print(f"{_table(rows)}\n{'equal' if equal else 'NOT EQUAL'}, {len(NODES)} nodes")
                if name == "quiet":
                    print(show.a_pod())
                print(flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
