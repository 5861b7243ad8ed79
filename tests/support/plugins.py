"""CNI plugins that note each call in a log, and go wrong when the test wants them to."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .compiler import compiled, install

PLUGINS: Final = Path("/usr/lib/cni")
"""Where the real ones are."""
NAMES: Final = ("bridge", "host-local", "loopback", "portmap")
"""Those that have a stand-in."""
RESULTS: Final = Path("/var/lib/cni/results")
"""Where libcni keeps the results of ADD. No configuration of containerd's says otherwise."""

Plugin = Literal["bridge", "host-local", "loopback", "portmap"]
Command = Literal["ADD", "DEL"]
Action = Literal["error", "exit", "signal", "sleep", "hang"]


class Call(NamedTuple):
    """One call of a plugin, as it began."""

    time: int
    """Nanoseconds of CLOCK_BOOTTIME."""
    pid: int
    ppid: int
    path: str
    """As it was executed."""
    netns: int
    """The inode number of the namespace behind CNI_NETNS, 0 where that names none."""
    variables: dict[str, str]
    """All CNI_* variables."""

    @property
    def plugin(self) -> str:
        return os.path.basename(self.path)

    @property
    def command(self) -> str:
        return self.variables["CNI_COMMAND"]

    @property
    def container(self) -> str:
        """The sandbox's id."""
        return self.variables.get("CNI_CONTAINERID", "")

    @property
    def netns_path(self) -> str:
        return self.variables.get("CNI_NETNS", "")

    @property
    def interface(self) -> str:
        return self.variables.get("CNI_IFNAME", "")

    @property
    def arguments(self) -> dict[str, str]:
        """CNI_ARGS, taken apart."""
        pairs = (pair.partition("=") for pair in self.variables.get("CNI_ARGS", "").split(";") if pair)
        return {key: value for key, _, value in pairs}


class Log:
    """The calls of all plugins so far, in the order in which they began."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def calls(self, container: str | None = None) -> list[Call]:
        """All calls, or those for one sandbox."""
        *lines, _ = self._path.read_bytes().split(b"\n")
        # Those that begin at once may be noted in another order.
        found = sorted((Call(**json.loads(line)) for line in lines), key=lambda call: call.time)
        return [call for call in found if container is None or call.container == container]

    def wait(self, wanted: Callable[[Call], bool], timeout: float = 30) -> Call:
        """The first call that is wanted, once there is one."""
        deadline = time.monotonic() + timeout
        while True:
            for call in self.calls():
                if wanted(call):
                    return call
            if time.monotonic() > deadline:
                raise AssertionError(f"no such call came within {timeout:g} s")
            time.sleep(0.01)


class Plugins:
    """A network of its own for containerd: configuration, plugins, log and faults, all below one directory.

    The bridge has no address, so that it changes nothing about how the machine routes or forwards.

    Args:
        home: an empty directory for all of it.
        addresses: how many pods can have an address at once; as many as a /24 allows if None.
        subnet: the third number of 10.88.n.0/24.
    """

    def __init__(self, home: Path, *, addresses: int | None = None, subnet: int = 88) -> None:
        self.name: Final = f"cni{secrets.token_hex(5)}"
        """Of the network, and of the bridge."""
        self.binaries: Final = home / "bin"
        self.configuration: Final = home / "net.d"
        self._faults: Final = home / "faults"
        self._results_existed = RESULTS.exists(), RESULTS.parent.exists()
        self.binaries.mkdir(parents=True)
        self.configuration.mkdir()
        for name in NAMES:
            install(compiled("plugin.c", f'-DPLUGINS="{PLUGINS}"'), self.binaries / name)
        pool = {"subnet": f"10.88.{subnet}.0/24"}
        if addresses is not None:
            pool |= {"rangeStart": f"10.88.{subnet}.2", "rangeEnd": f"10.88.{subnet}.{1 + addresses}"}
        ipam = {"type": "host-local", "ranges": [[pool]], "dataDir": str(home / "addresses")}
        chain = [
            {"type": "bridge", "bridge": self.name, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        network = {"cniVersion": "1.0.0", "name": self.name, "plugins": chain}
        (self.configuration / "10-test.conflist").write_text(json.dumps(network))
        self.log: Final = Log(home / "calls")

    @contextlib.contextmanager
    def fault(self, plugin: Plugin, command: Command, action: Action, number: float = 0) -> Iterator[None]:
        """Lets a plugin go wrong at this command, whenever it is called in this context.

        Args:
            plugin: which one.
            command: at which command.
            action: `error` prints a CNI error and exits with 1; `exit` exits with the number; `signal` kills itself by
                the signal of that number; `sleep` goes on after so many seconds; `hang` never does.
            number: what the action needs.
        """
        line = f"{plugin} {command} {action} {number:g}\n"
        before = self._faults.read_text() if self._faults.exists() else ""
        self._set_faults(before + line)
        try:
            yield
        finally:
            self._set_faults(self._faults.read_text().replace(line, "", 1))

    def _set_faults(self, text: str) -> None:
        """In one step: a plugin that begins now reads all of it or nothing."""
        new = self._faults.with_suffix(".new")
        new.write_text(text)
        new.replace(self._faults)

    def veths(self) -> list[str]:
        """The pods' interfaces in the host's namespace."""
        ports = Path("/sys/class/net", self.name, "brif")
        return sorted(os.listdir(ports)) if ports.exists() else []

    def remove(self) -> None:
        """Takes away what the plugins left outside of their directory."""
        for link in [*self.veths(), self.name]:
            if Path("/sys/class/net", link).exists():  # it may go by itself, with the pod's namespace
                subprocess.run(["ip", "link", "delete", link], check=False, timeout=30, stderr=subprocess.DEVNULL)
        for container in {call.container for call in self.log.calls()} - {""}:
            for result in RESULTS.glob(f"*-{container}-*"):
                result.unlink(missing_ok=True)
        for existed, directory in zip(self._results_existed, (RESULTS, RESULTS.parent), strict=True):
            if not existed:
                with contextlib.suppress(OSError):  # somebody else uses it by now
                    directory.rmdir()
