"""A Prometheus server of the tests' own."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from .exporting import Server, free_port
from .watch import PATIENCE


def get(url: str) -> str:
    """What a server answers."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


class PrometheusServer(Server):
    """Scrapes collectors each second. Keeps what it has when it is killed.

    Args:
        home: an empty directory.
        targets: ports of the loopback address, by the name of the node.
    """

    def __init__(self, home: Path, targets: dict[str, int]) -> None:
        self._home = home
        self._port = free_port()
        configs = [{"targets": [f"127.0.0.1:{port}"], "labels": {"node": node}} for node, port in targets.items()]
        (home / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s"},
                    "scrape_configs": [{"job_name": "cni", "static_configs": configs}],
                }
            )
        )

    def start(self) -> None:
        """Starts it, where it answers in a moment."""
        command = [
            *("prometheus", f"--config.file={self._home / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={self._home / 'data'}", f"--web.listen-address=127.0.0.1:{self._port}"),
        ]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def ask(self, expression: str) -> float:
        """The sum of an expression's values now; 0 where it has none, or the server is just starting."""
        return sum(float(one["value"][1]) for one in self.query(expression))

    def query(self, expression: str) -> list[Any]:
        """The series that an expression has."""
        try:
            answer = get(f"http://127.0.0.1:{self._port}/api/v1/query?query={urllib.parse.quote(expression)}")
        except OSError:
            return []
        found: list[Any] = json.loads(answer)["data"]["result"]
        return found
