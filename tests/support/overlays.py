"""Whether layers can be laid over each other here."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_PATIENCE: Final = 60.0


def overlays_work(directory: Path) -> bool:
    """Whether overlays can be mounted here: not where the file system is one. All else copies each image's files."""
    options = []
    for name in "lowerdir", "upperdir", "workdir":
        (directory / name).mkdir(parents=True)
        options.append(f"{name}={directory / name}")
    mount = ["mount", "-t", "overlay", "-o", ",".join(options), "overlay", str(directory / "lowerdir")]
    return subprocess.run(["unshare", "--mount", *mount], stderr=subprocess.DEVNULL, timeout=_PATIENCE).returncode == 0
