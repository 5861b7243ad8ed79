"""How packages are fetched on this machine, told to what is built in a container: nothing of it is in the image."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

from ..machines.cache import call

_PIP_NAMES: Final = {
    "cert",
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "no-index",
    "proxy",
    "timeout",
    "trusted-host",
}
_CERTIFICATES: Final = "/run/certificates.crt"
"""Not where they are here: a package may want to write to that."""


def options(directory: Path) -> list[str]:
    """Options of `podman build`.

    Args:
        directory: where files can be made that are needed until it has ended.
    """
    apt, pip = directory / "apt.conf", directory / "pip.conf"
    apt.write_text(call(["apt-config", "dump", "Acquire"]))
    settings = _pip()
    places = {apt: "/etc/apt/apt.conf.d/99-as-outside", pip: "/etc/pip.conf"}
    for word in " ".join(settings.values()).split():
        if (path := Path(word.removeprefix("file://"))).is_absolute() and path.exists():
            place = path.parent if path.name == "simple" else path  # an index may name files beside it
            places[place] = str(place)
    if certificates := settings.get("cert"):
        places[Path(certificates)] = settings["cert"] = _CERTIFICATES
    pip.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items())]) + "\n")
    return ["--network=host", *(f"--volume={path}:{place}:ro" for path, place in places.items())]


def _pip() -> dict[str, str]:
    """What pip is configured with; variables of the environment come last, and win."""
    settings = {}
    for line in call([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _PIP_NAMES:
            settings[name] = " ".join(str(ast.literal_eval(value)).split())
    return settings
