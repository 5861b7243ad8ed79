"""`python -m tests.destinations`: three nodes, three destinations, real pods; and who holds which events.

Three collectors on this machine stand for three nodes: each sees everything, and sends it to NATS JetStream, an OTLP
receiver and Prometheus, which all listen on the loopback address. A fourth one, the witness, only writes a file. What
others do on the machine is seen, too, and must be held like the rest; asked about is all up to the last event of the
show's own.
"""

from __future__ import annotations

import collections
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from cni_collector import Event

from ..support.exporting import free_port
from ..support.nats import NatsServer
from ..support.prometheus import PrometheusServer
from ..support.receiver import Receiver
from ..support.watch import PATIENCE
from .holders import Holder, InNats, InOtlp, InPrometheus
from .nodes import TOLD, Counts, Load, Node

NODES: Final = ("node-1", "node-2", "node-3")


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
        ports = {name: free_port() for name in NODES}
        self._nats = NatsServer(home / "nats")
        self._prometheus = PrometheusServer(home / "prometheus", ports)
        self._otlp = Receiver(home / "otlp")
        self._holders: list[Holder] = [InNats(self._nats), InOtlp(self._otlp), InPrometheus(self._prometheus)]
        self._witness = Node("witness", home)
        self._nodes = [
            Node(name, home, "--nats", self._nats.url, "--otlp", self._otlp.url, "--prometheus", f":{ports[name]}")
            for name in NODES
        ]
        self._load = Load(pods, moves)
        self._pods = pods

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All of it runs."""
        with contextlib.ExitStack() as stack:
            for server in (self._nats, self._prometheus, self._otlp, self._load.containerd):
                stack.enter_context(server)
            self._nats.add_stream()
            for node in (self._witness, *self._nodes):
                stack.callback(node.kill)
                node.start()
            yield

    def quiet(self) -> None:
        """Pods come and go, one after the other."""
        self._load.pods()

    def a_pod(self) -> str:
        """What one pod's life comes to, after the first scene."""
        [events] = self._witness.runs()
        lines = self._witness.lines()
        ours = self._load.ours(events)
        size = self._nats.size() / self._nats.count()
        return (
            f"a pod's life: {len(ours) / self._pods:.0f} events, "
            f"{sum(len(lines[index]) for index in ours) / self._pods:,.0f} bytes of JSON, "
            f"{size * len(ours) / self._pods:,.0f} bytes in JetStream"
        )

    def storm(self) -> None:
        """Somebody enters and leaves a namespace as fast as can be, and others come and go, beside the pods."""
        self._load.storm()
        self._load.pods()

    def destinations_restarted(self) -> None:
        """All of them are killed by SIGKILL, and come back after a while, in which much happens."""
        for server in (self._nats, self._otlp, self._prometheus):
            server.kill()
        self.storm()
        for server in (self._nats, self._otlp, self._prometheus):
            server.start()
        self.quiet()

    def collectors_restarted(self) -> None:
        """One collector after the other ends in order, while nothing of ours happens, and begins anew."""
        for node in self._nodes:
            self._until_held(node)
            node.stop()
            node.start()
        self.quiet()

    def _until_held(self, node: Node) -> None:
        """Waits until every destination has what this node has told: at its end it has a few seconds for that."""
        *_, ends = self._told(node)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for holder in self._holders:
                holder.read()
            if all(holder.held(node, ends) is not None for holder in self._holders):
                return
            time.sleep(0.2)

    def lines(self) -> tuple[list[list[str]], bool]:
        """The table by type, and whether everybody holds everything."""
        for holder in self._holders:
            holder.read()
        truth, complete, _ = self._told(self._witness)
        happened, held = [], [[Counts() for _ in self._nodes] for _ in self._holders]
        for number, node in enumerate(self._nodes):
            facts, all_of_it, ends = self._told(node)
            complete &= all_of_it and facts == truth
            runs = node.runs()
            events = [*(event for run in runs[:-1] for event in run), *runs[-1][: ends[-1]]]
            happened.append(Counts(event.type for event in events))
            for holder, counts in zip(self._holders, held, strict=True):
                found = holder.held(node, ends)
                complete &= found is not None
                counts[number] = found or Counts()
        rows = [["", "happened", *(holder.name for holder in self._holders)]]
        for kind in sorted({kind for counts in happened for kind in counts}):
            cells = [
                _each([one[kind] for one in counts]) if holder.of_the_stream or kind in TOLD else ""
                for holder, counts in zip(self._holders, held, strict=True)
            ]
            rows.append([kind, _each([counts[kind] for counts in happened]), *cells])
        return rows, complete

    def _told(self, node: Node) -> tuple[collections.Counter[tuple[object, ...]], bool, list[int]]:
        """What a node has told of the load, whether that is all, and how far each of its collectors had come then."""
        ours = [self._load.ours(run) for run in node.runs()]
        events = [run[index] for run, indices in zip(node.runs(), ours, strict=True) for index in indices]
        facts = collections.Counter(map(_fact, events))
        return facts, self._load.is_all_of(events), [indices[-1] + 1 if indices else 0 for indices in ours]


def _fact(event: Event) -> tuple[object, ...]:
    return event.type, event.netns, event.pid, event.tid, event.cause, event.error


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
