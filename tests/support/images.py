"""Container images made from what is on this machine, for there may be no registry to ask."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .compiler import compiled

PAUSE: Final = "localhost/pause:test"
"""Holds a pod's namespaces, and does nothing."""
BUSYBOX: Final = "localhost/busybox:test"
"""Has busybox, under all its names."""

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def pause() -> bytes:
    """The image of that name, as an archive such as `docker save` writes."""
    layer = _tar([_file("pause", compiled("pause.c"), 0o755)])
    return _archive(PAUSE, layer, ["/pause"])


def busybox() -> bytes:
    """The image of that name, as an archive such as `docker save` writes."""
    if not (path := shutil.which("busybox")):
        raise FileNotFoundError("busybox is not installed: the package is busybox-static")
    names = subprocess.run([path, "--list"], check=True, timeout=10, stdout=subprocess.PIPE, text=True).stdout.split()
    links = [_link(f"bin/{name}", "busybox") for name in names if name != "busybox"]
    directories = [_directory(name, mode) for name, mode in {"bin": 0o755, "etc": 0o755, "tmp": 0o1777}.items()]
    layer = _tar([*directories, _file("bin/busybox", Path(path).read_bytes(), 0o755), *links])
    return _archive(BUSYBOX, layer, ["/bin/sh"])


_Member = tuple[tarfile.TarInfo, bytes]


def _file(name: str, content: bytes, mode: int = 0o644) -> _Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def _directory(name: str, mode: int) -> _Member:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member, b""


def _link(name: str, target: str) -> _Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member, b""


def _tar(members: Iterable[_Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _archive(name: str, layer: bytes, command: list[str]) -> bytes:
    config = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        [
            _file("manifest.json", json.dumps(manifest).encode()),
            _file("config.json", json.dumps(config).encode()),
            _file("layer.tar", layer),
        ]
    )
