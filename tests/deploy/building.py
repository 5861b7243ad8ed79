"""The image, built by `make image` on this machine's podman."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..machines.cache import CHECKOUT
from ..support.podman import Podman
from . import fetching
from .base import root_archive

IMAGE: Final = "localhost/cni-collector:test"
BASE: Final = "localhost/debian:test"
"""What it is built on."""
_SYSTEMD: Final = "localhost/cni-collector-systemd:test"
_PATIENCE: Final = 280.0


def build(podman: Podman, directory: Path) -> str:
    """Returns the image's name.

    Args:
        podman: what builds it, and where it stays.
        directory: for what is needed meanwhile.
    """
    podman.unnoticed("import", "--quiet", str(root_archive()), BASE)
    variables = [f"IMAGE={IMAGE}", f"BASE={BASE}", f"IMAGE_OPTIONS={' '.join(fetching.options(directory))}"]
    podman.unnoticed("--directory", str(CHECKOUT), "image", *variables, program="make", timeout=_PATIENCE)
    return IMAGE


def build_systemd(podman: Podman, directory: Path) -> str:
    """The same of an image that is that with systemd, and the service not started. That image must be there."""
    file = Path(__file__).with_name("systemd.Containerfile")
    what = ["--file", str(file), "--tag", _SYSTEMD, "--build-arg", f"IMAGE={IMAGE}"]
    context = str(CHECKOUT / "deploy" / "systemd")
    podman.unnoticed("build", *what, *fetching.options(directory), context, timeout=_PATIENCE)
    return _SYSTEMD
