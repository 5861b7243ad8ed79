"""Debian packages of any architecture, by an apt with a state of its own: the host's apt and dpkg stay as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .cache import MachineError, call, folder, say

SUITES: Final = ("bookworm", "bookworm-backports", "trixie", "trixie-backports")
SECURITY_SUITES: Final = ("bookworm-security",)
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Apt:
    """apt for one architecture. Its calls must not run side by side."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self._home = folder() / "apt" / arch
        options = {  # of which those on the command line are stronger than the host's files
            "Dir::State": self._home / "state",
            "Dir::State::status": self._home / "status",
            "Dir::Cache": self._home / "cache",
            "Dir::Etc::sourcelist": self._home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # the user _apt may not look into this folder
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
        }
        self._options = [f"--option={name}={value}" for name, value in options.items()]

    def update(self) -> None:
        """Ask the mirror what there is."""
        say(f"asking for Debian's {self.arch} packages")
        for directory in "state/lists/partial", "cache/archives/partial":
            (self._home / directory).mkdir(parents=True, exist_ok=True)
        (self._home / "status").touch()  # what dpkg would have installed: nothing
        (self._home / "sources.list").write_text(_sources())
        try:
            self._run("apt-get", "-qq", "update")
        except MachineError as error:  # a mirror need not have every suite; what is missed will be named
            say(str(error))

    def names(self) -> list[str]:
        """All packages there are."""
        return self._run("apt-cache", "pkgnames").split()

    def with_dependencies(self, names: Iterable[str], suite: str) -> list[str]:
        """These packages as the suite has them, and what they need: each as name=version."""
        plan = self._run("apt-get", "--simulate", "--target-release", suite, "install", *names)
        return [f"{name}={version}" for name, version in re.findall(r"^Inst (\S+) \((\S+) ", plan, re.M)]

    def unpack(self, packages: Iterable[str], into: Path) -> None:
        """Download packages and unpack them over each other, without running their scripts."""
        downloads = into / ".debs"
        downloads.mkdir()
        self._run("apt-get", "-qq", "download", *packages, directory=downloads)
        for deb in sorted(downloads.iterdir()):
            # Not dpkg-deb -x: it would replace the links of a merged /usr by directories.
            call(["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -xC "$1" --keep-directory-symlink', deb, into])
            deb.unlink()
        downloads.rmdir()

    def _run(self, program: str, *arguments: str, directory: Path | None = None) -> str:
        return call([program, *self._options, *arguments], directory)


def _sources() -> str:
    main, security = mirrors()
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    lines = [f"deb {signed}{main} {suite} main" for suite in SUITES]
    lines += [f"deb {signed}{security} {suite} main" for suite in SECURITY_SUITES]
    return "\n".join(lines) + "\n"


def mirrors() -> tuple[str, str]:
    """The archive and the security archive: from $CNI_MACHINES_MIRROR, or where the host's own apt finds them."""
    if mirror := os.environ.get("CNI_MACHINES_MIRROR"):
        known = {"Debian": mirror}
    else:
        known = _archives()
        if not known:  # apt knows their labels once it has asked
            call(["apt-get", "-qq", "update"])
            known = _archives()
    if "Debian" not in known:
        raise MachineError(
            "the host's apt has no Debian sources: $CNI_MACHINES_MIRROR must say where Debian's archive is"
        )
    main = known["Debian"].rstrip("/")
    return main, known.get("Debian-Security", f"{main}-security")


def _archives() -> dict[str, str]:
    """Where the host's apt finds what, by label."""
    lines = call(["apt-get", "indextargets", "--format=$(LABEL) $(REPO_URI)", "Created-By: Packages"]).splitlines()
    return {label: uri for label, _, uri in (line.rpartition(" ") for line in lines) if label}
