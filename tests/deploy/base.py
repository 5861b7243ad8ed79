"""The Debian that the image is built on, made from packages: there may be no registry to ask for it."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Final

from ..machines.cache import call, folder, locked, making, say
from ..machines.packages import mirrors

SUITE: Final = "bookworm"
_LEFT_OUT: Final = ("doc", "info", "locale", "man")
"""Of /usr/share, as in the slim images of registries."""


def root_archive() -> Path:
    """A tar of the root file system. It is kept with the machines of tests/machines, and made where it is not there."""
    directory = folder() / "roots" / f"debian-{SUITE}-{platform.machine()}"
    with locked():
        if not directory.exists():
            with making(directory) as growing:
                _make(growing)
    return directory / "root.tar"


def _make(into: Path) -> None:
    say(f"making a root file system of Debian {SUITE}")
    root = into / "root"
    call(["debootstrap", "--variant=minbase", SUITE, root, mirrors()[0]])
    excluded = [f"--exclude=./usr/share/{name}/*" for name in _LEFT_OUT]
    excluded += ["--exclude=./var/lib/apt/lists/*", "--exclude=./var/cache/apt/*"]
    call(["tar", "--create", "--file", into / "root.tar", "--directory", root, *excluded, "."])
    shutil.rmtree(root)
