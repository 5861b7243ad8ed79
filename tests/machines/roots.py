"""Root file systems for the machines: what they see as `/`."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from .cache import CHECKOUT, MachineError, call, folder, locked, making, say
from .packages import Apt

SUITE: Final = "bookworm"
PYTHON: Final = "3.11"
"""The suite's."""
PACKAGES: Final = (
    *("base-files", "base-passwd", "libc6", "dash", "bash", "coreutils", "grep", "sed", "busybox-static"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libffi8"),
    *("libbpf1", "libelf1", "iproute2", "util-linux", "mount", "procps", "kmod", "runc", "libcap2-bin"),
)
"""With what they depend on."""

_PYPI_NAMES: Final = {"arm64": "aarch64"}
_SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Root(NamedTuple):
    """A directory that a machine can have as its root."""

    directory: Path
    busybox: Path
    """Statically linked."""
    environment: dict[str, str]
    """For what runs there."""


def root(arch: str) -> Root:
    """The host's own on amd64; for others one made of packages, fetched where it is not here."""
    if arch == "amd64":
        if not (busybox := shutil.which("busybox", path=_SEARCH)):
            raise MachineError("busybox is not installed: the package is busybox-static")
        return Root(Path("/"), Path(busybox), {"PATH": f"{CHECKOUT}/.venv/bin:{_SEARCH}"})
    wheels = _wheels()
    kind = hashlib.sha256(repr((PACKAGES, wheels)).encode()).hexdigest()[:12]
    directory = folder() / "roots" / f"{arch}-{kind}"
    with locked():
        if not directory.exists():
            with making(directory) as growing:
                _make(arch, wheels, growing)
    return Root(directory, directory / "usr/bin/busybox", {"PATH": _SEARCH, "PYTHONPATH": f"{CHECKOUT}/src"})


def _wheels() -> list[str]:
    """What the project and its tests on a kernel need of PyPI."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    tests = (CHECKOUT / "requirements-dev.txt").read_text().splitlines()
    return [*project["dependencies"], *(line for line in tests if line.startswith("pytest"))]


def _make(arch: str, wheels: list[str], into: Path) -> None:
    apt = Apt(arch)
    apt.update()
    packages = apt.with_dependencies(PACKAGES, SUITE)
    say(f"fetching {len(packages)} packages for {arch}")
    for name in "bin", "sbin", "lib":  # /usr is merged
        (into / "usr" / name).mkdir(parents=True)
        (into / name).symlink_to(f"usr/{name}")
    apt.unpack(packages, into)
    # What their scripts would have done.
    for name in "passwd", "group":
        shutil.copy(into / "usr/share/base-passwd" / f"{name}.master", into / "etc" / name)
    for name in "python", "python3":
        (into / "usr/bin" / name).symlink_to(f"python{PYTHON}")
    say(f"fetching wheels for {arch}")
    places = into / "usr/local/lib" / f"python{PYTHON}" / "dist-packages"
    call(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"),
            *("--python-version", PYTHON, "--implementation", "cp", "--target", places),
            *(f"--platform=manylinux{glibc}_{_PYPI_NAMES[arch]}" for glibc in ("2014", "_2_17", "_2_28")),
            *wheels,
        ]
    )
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON:  # or each run would compile what it imports
        call([sys.executable, "-m", "compileall", "-q", "-j0", "-s", into, "-p", "/", into / "usr"])
