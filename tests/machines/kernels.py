"""Kernels: Debian's, fetched and unpacked, or one that somebody has in a directory."""

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
    """A kernel's files, as its package has them."""

    arch: str
    """Debian's name of the architecture."""
    name: str
    """As uname -r says: 6.12.107+deb13-amd64."""
    directory: Path

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
    if file.suffix not in (".ko", ".xz"):
        raise MachineError(f"cannot uncompress {file}: xz and no compression are known here")
    return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()


def chosen(version: str, flavour: str, directory: Path | None) -> Kernel:
    """What a user names: out of a directory, or else Debian's."""
    return in_directory(directory, version, flavour) if directory else kernel(version, flavour)


def kernel(version: str, flavour: str) -> Kernel:
    """The newest kernel of this version that is here; fetched, where none is."""
    with locked():
        releases = [path.name for path in _home(flavour).glob("[0-9]*")]
        return _at(flavour, newest) if (newest := _newest(releases, version)) else _fetch(version, flavour)


def in_directory(directory: Path, version: str, flavour: str) -> Kernel:
    """The kernel of this version out of a directory: boot/vmlinuz-NAME and lib/modules/NAME, where NAME is uname's.

    Raises:
        MachineError: something is missing, and what; or there are several.
    """
    boot, every = directory / "boot", directory / "lib" / "modules"
    ours = re.compile(re.escape(version) + r"(?![0-9]).*")
    names = sorted(image.name.removeprefix("vmlinuz-") for image in boot.glob("vmlinuz-*"))
    wanted = list(filter(ours.fullmatch, names))
    if len(wanted) != 1:
        there = f"there are {', '.join(names)}" if names else "there is no vmlinuz-* at all"
        raise MachineError(f"{boot} must have one image of Linux {version}, as vmlinuz-NAME; {there}")
    found = Kernel(flavour.partition("-")[0], wanted[0], directory)
    if not found.modules.is_dir():
        raise MachineError(f"{every} has no {found.name}: put the kernel's modules there")
    if not (found.modules / "modules.dep").exists():
        raise MachineError(f"{found.modules} has no modules.dep: depmod -b {directory} {found.name}")
    return found


def fetch(version: str, flavour: str) -> Kernel:
    """The newest kernel of this version that Debian has."""
    with locked():
        return _fetch(version, flavour)


def _home(flavour: str) -> Path:
    return folder() / "kernels" / flavour


def _at(flavour: str, release: str) -> Kernel:
    return Kernel(flavour.partition("-")[0], f"{release}-{flavour}", _home(flavour) / release)


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
