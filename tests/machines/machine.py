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
    "amd64": "console=ttyS0 tsc=reliable no_timer_check",
    "arm64": "console=ttyAMA0",
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
            shared, console = home / "shared", home / "console"
            shared.mkdir()
            (shared / "command").write_text(self._script(command))
            (home / "initramfs").write_bytes(self._initramfs())
            with _running(self._qemu(home), console) as qemu:
                in_time = _follow(qemu, shared, timeout)
            status = (shared / "status").read_text() if (shared / "status").exists() else ""
            if not status:
                how = "ended before its command did" if in_time else f"did not end within {timeout:g} s"
                last = console.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
                raise MachineError("\n".join([f"the machine {how}; the end of its console:", *last]))
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
        # CPUs take turns in one thread. With a thread for each (thread=multi), qemu 7.2 now and then keeps executing an
        # instruction that another CPU has overwritten: as the kernel patches its code while tracepoints are attached, a
        # CPU then stays for ever on a breakpoint that is no longer there. It is also slower, most of all on arm64, and
        # needs two CPUs of the host. The price is that a CPU waits up to 0.1 s for another one that is busy.
        processor = f"-accel tcg,thread=single -smp {self.cpus}"
        if self.icount:
            processor = "-accel tcg,thread=single -icount shift=0,sleep=off -smp 1"
        shares = {
            "root": (self.root.directory, "readonly=on"),
            "checkout": (CHECKOUT, "readonly=on"),
            "modules": (self.kernel.modules, "readonly=on"),
            "machine": (home / "shared", "readonly=off"),
        }
        command = [
            *("setpriv", "--pdeathsig", "KILL"),  # the emulator does not outlive us, however we end
            *_EMULATORS[arch].split(),
            *processor.split(),
            *("-m", str(self.memory), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
            *("-device", "virtio-rng-pci", "-kernel", str(self.kernel.image), "-initrd", str(home / "initramfs")),
            *(
                "-append",
                f"panic=-1 quiet random.trust_cpu=on mitigations=off nokaslr {_ARGUMENTS[arch]} {self.append}",
            ),
        ]
        for tag, (path, readonly) in shares.items():
            escaped = str(path).replace(",", ",,")
            command += [
                "-virtfs",
                f"local,path={escaped},mount_tag={tag},{readonly},security_model=none,multidevs=remap",
            ]
        return command


@contextlib.contextmanager
def _running(command: list[str], console: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The emulator, and its end."""
    emulator = next(word for word in command if word.startswith("qemu"))
    if not shutil.which(emulator):
        raise MachineError(f"{emulator} is not installed")
    with open(console, "wb") as file:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield qemu
    finally:
        qemu.kill()
        qemu.wait()


def _follow(qemu: subprocess.Popen[bytes], shared: Path, timeout: float) -> bool:
    """Pass on what the command writes, until the machine has ended or the time is up: whether it has ended."""
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(open(shared / name, "w+b", buffering=0)) for name in streams}
        while True:
            ended, late = qemu.poll() is not None, time.monotonic() > deadline
            for name, file in files.items():
                streams[name].write(file.read())
                streams[name].flush()
            if ended or late:  # before that last look at the files
                return ended
            time.sleep(POLL)
