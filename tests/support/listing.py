"""What `cni-collector list` says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from .watch import CHECKOUT


def listed(*options: str, before: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The namespaces that exist now, or with `--cni` the calls that are under way.

    Args:
        options: of the command.
        before: what stands before the command, and executes it in the end.
    """
    command = [*before, sys.executable, "-m", "cni_collector", "list", "-o", "json", *options]
    done = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def listed_by_cookie(*before: str) -> dict[int, dict[str, Any]]:
    """The namespaces that exist now."""
    return {one["cookie"]: one for one in listed(before=before)}
