"""Debian's kernels: which there are, fetched and unpacked."""

from __future__ import annotations

import lzma
import re
from pathlib import Path
from typing import Final, NamedTuple

from .cache import MachineError, call, folder, locked, making, say
from .packages import Apt

MODULES: Final = ("virtio_pci", "virtio_rng", "9pnet_virtio", "9p", "overlay")
"""What the machine needs before it can see its files."""


class Kernel(NamedTuple):
    """A kernel package's files."""

    flavour: str
    """amd64, arm64 or arm64-16k."""
    release: str
    """As uname says, without the flavour: 6.12.107+deb13."""
    directory: Path

    @property
    def arch(self) -> str:
        """Debian's name of the architecture."""
        return self.flavour.partition("-")[0]

    @property
    def name(self) -> str:
        """As uname -r says."""
        return f"{self.release}-{self.flavour}"

    @property
    def image(self) -> Path:
        """What a boot loader loads."""
        image = self.directory / "boot" / f"vmlinuz-{self.name}"
        return image if image.exists() else self.modules / "vmlinuz"  # newer packages have it there

    @property
    def modules(self) -> Path:
        """What belongs into /lib/modules/$(uname -r)."""
        return self.directory / "lib" / "modules" / self.name

    def early_modules(self) -> list[bytes]:
        """MODULES and what they depend on, in the order in which to load them."""
        files: dict[str, None] = {}
        for module in MODULES:
            shown = call(["modprobe", "-S", self.name, "-d", self.directory, "--show-depends", module])
            files |= dict.fromkeys(re.findall(r"^insmod (\S+)", shown, re.M))
        return [_uncompressed(Path(file)) for file in files]


def _uncompressed(file: Path) -> bytes:
    return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()


def kernel(version: str, flavour: str) -> Kernel:
    """The newest kernel of this version that is here; fetched, where none is."""
    with locked():
        releases = [path.name for path in _home(flavour).glob("[0-9]*")]
        return _at(flavour, newest) if (newest := _newest(releases, version)) else _fetch(version, flavour)


def fetch(version: str, flavour: str) -> Kernel:
    """The newest kernel of this version that Debian has."""
    with locked():
        return _fetch(version, flavour)


def _home(flavour: str) -> Path:
    return folder() / "kernels" / flavour


def _at(flavour: str, release: str) -> Kernel:
    return Kernel(flavour, release, _home(flavour) / release)


def _newest(releases: list[str], version: str) -> str | None:
    ours = re.compile(re.escape(version) + r"(?![0-9])[0-9.]*(-[0-9]+)?(\+[a-z0-9.]+)?")
    return max(
        filter(ours.fullmatch, releases),
        key=lambda release: [int(n) for n in re.findall(r"\d+", release)],
        default=None,
    )


def _fetch(version: str, flavour: str) -> Kernel:
    apt = Apt(flavour.partition("-")[0])
    apt.update()
    names = set(apt.names())
    images = re.compile(rf"linux-image-((\d.*)-{flavour})")
    release = _newest(
        [
            match[2]
            for match in filter(None, map(images.fullmatch, names))
            # Of older kernels the mirror may list the binary while the modules are gone.
            if f"linux-binary-{match[1]}" not in names or f"linux-modules-{match[1]}" in names
        ],
        version,
    )
    if not release:
        raise MachineError(f"Debian has no kernel {version} for {flavour}")
    found = _at(flavour, release)
    if not found.directory.exists():
        # Up to 6.18 the image package has it all; since 6.19 it is empty and the others have it.
        parts = [f"linux-{part}-{found.name}" for part in ("image", "base", "binary", "modules")]
        say(f"fetching Linux {found.name}")
        with making(found.directory) as growing:
            (growing / "usr" / "lib").mkdir(parents=True)
            (growing / "lib").symlink_to("usr/lib")
            apt.unpack(names.intersection(parts), growing)
            call(["depmod", "-b", growing, found.name])
    return found
