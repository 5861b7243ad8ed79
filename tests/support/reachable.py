"""An interpreter for ordinary users, also where the one that runs the tests lies in root's home."""

from __future__ import annotations

import stat
import sys
from pathlib import Path


def prefix() -> list[str]:
    """What to put ahead of a command, so that any user may read the interpreter that it starts.

    In a mount namespace of its own: there the closed directory is covered by an open one, with nothing but that in it.
    """
    base = Path(sys.base_prefix)
    closed = next((at for at in reversed(base.parents) if not at.stat().st_mode & stat.S_IXOTH), None)
    if closed is None:
        return []
    script = (
        f'kept=$(mktemp -d) && mount --bind {base} "$kept" && mount -t tmpfs -o mode=755 none {closed} && '
        f'mkdir -p {base} && mount --move "$kept" {base} && rmdir "$kept" && exec "$@"'
    )
    return ["unshare", "-m", "sh", "-c", script, "sh"]
