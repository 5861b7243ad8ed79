"""One emulated machine: boots a kernel on shared files, runs one command, and is gone."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from . import initramfs
from .cache import CHECKOUT, MachineError
from .kernels import Kernel
from .roots import Root

CONSOLE_LINES: Final = 40
"""How much of a dead machine's console is shown."""
POLL: Final = 0.05
"""Seconds between two looks for new output."""

_EMULATORS: Final = {
    "amd64": "qemu-system-x86_64 -machine q35 -cpu max,la57=off",
    "arm64": "qemu-system-aarch64 -machine virt,gic-version=3 -cpu neoverse-n1",
}
_ARGUMENTS: Final = {
    "amd64": "console=ttyS0 mitigations=off nokaslr tsc=reliable no_timer_check",
    "arm64": "console=ttyAMA0 mitigations=off nokaslr",
}


class Machine(NamedTuple):
    """What a machine is made of."""

    kernel: Kernel
    root: Root
    cpus: int = 2
    memory: int = 1536
    """In MiB."""
    append: str = ""
    """More arguments for the kernel."""
    icount: bool = False
    """Let one nanosecond pass with each instruction: slow, and one CPU only, but times repeat to 0.1 %."""

    def run(self, command: Sequence[str], timeout: float) -> int:
        """Run a command as root in the checkout, pass on its output as it comes, and return its exit status.

        Raises:
            MachineError: the machine ended without a status, or did not end within so many seconds.
        """
        with tempfile.TemporaryDirectory(prefix="machine-") as temporary:
            home = Path(temporary)
            shared = home / "shared"
            shared.mkdir()
            (shared / "command").write_text(self._script(command))
            (home / "initramfs").write_bytes(self._initramfs())
            with self._booted(home) as qemu:
                self._follow(qemu, shared, timeout, home / "console")
            status = (shared / "status").read_text() if (shared / "status").exists() else ""
            if not status:
                raise _dead("ended before its command did", home / "console")
            return int(status)

    def _script(self, command: Sequence[str]) -> str:
        environment = {"HOME": "/root", "LANG": "C.UTF-8", **self.root.environment}
        assignments = [f"{name}={value}" for name, value in environment.items()]
        return f"cd {shlex.quote(str(CHECKOUT))} && {shlex.join(['exec', 'env', '-i', *assignments, *command])}\n"

    def _initramfs(self) -> bytes:
        modules = {f"modules/{number:02}.ko": data for number, data in enumerate(self.kernel.early_modules())}
        return initramfs.archive(
            {
                "init": Path(__file__).with_name("init.sh").read_bytes(),
                "parameters": f"checkout={shlex.quote(str(CHECKOUT))}\n".encode(),
                "bin/busybox": self.root.busybox.read_bytes(),
                **modules,
            }
        )

    def _qemu(self, home: Path) -> list[str]:
        arch = self.kernel.arch
        processor = f"-accel tcg,thread=multi -smp {self.cpus}"
        if self.icount:
            processor = "-accel tcg,thread=single -icount shift=0,sleep=off -smp 1"
        arguments = f"panic=-1 quiet random.trust_cpu=on {_ARGUMENTS[arch]} {self.append}"
        shares = {
            "root": (self.root.directory, "on"),
            "checkout": (CHECKOUT, "on"),
            "modules": (self.kernel.modules, "on"),
            "machine": (home / "shared", "off"),
        }
        return [
            *("setpriv", "--pdeathsig", "KILL"),  # the emulator does not outlive us, however we end
            *f"{_EMULATORS[arch]} {processor} -m {self.memory}".split(),
            *"-nodefaults -no-reboot -display none -serial stdio -device virtio-rng-pci".split(),
            *("-kernel", str(self.kernel.image), "-initrd", str(home / "initramfs"), "-append", arguments),
            *(
                word
                for tag, (path, readonly) in shares.items()
                for word in (
                    "-virtfs",
                    f"local,path={str(path).replace(',', ',,')},mount_tag={tag},readonly={readonly},"
                    "security_model=none,multidevs=remap",
                )
            ),
        ]

    @contextlib.contextmanager
    def _booted(self, home: Path) -> Iterator[subprocess.Popen[bytes]]:
        command = self._qemu(home)
        emulator = command[3]
        if not shutil.which(emulator):
            raise MachineError(f"{emulator} is not installed")
        with open(home / "console", "wb") as console:
            qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            yield qemu
        finally:
            qemu.kill()
            qemu.wait()

    def _follow(self, qemu: subprocess.Popen[bytes], shared: Path, timeout: float, console: Path) -> None:
        """Pass on what the command writes until the machine has ended."""
        streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
        deadline = time.monotonic() + timeout
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(open(shared / name, "w+b")) for name in streams}
            ended = False
            while not ended:
                time.sleep(POLL)
                ended = qemu.poll() is not None  # before the look that is the last then
                for name, file in files.items():
                    if news := file.read():
                        streams[name].write(news)
                        streams[name].flush()
                if not ended and time.monotonic() > deadline:
                    raise _dead(f"did not end within {timeout:g} s", console)


def _dead(how: str, console: Path) -> MachineError:
    lines = console.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
    return MachineError("\n".join([f"the machine {how}; the end of its console:", *lines]))
