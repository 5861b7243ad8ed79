"""Whether this kernel may take the CPU from a task inside a BPF program."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path
from typing import Final

_MODES: Final = "/sys/kernel/debug/sched/preempt"
"""All modes, the present one in brackets: `none (voluntary) full`. Readable for root, where debugfs is mounted."""
_COMMAND_LINE: Final = "/proc/cmdline"


def programs_are_preempted() -> bool:
    """Also true where the kernel does not tell.

    While a task has been taken off its CPU in the middle of an fentry program, the kernel skips that program for all
    others there (`__bpf_prog_enter_recur()`): for as long as a time slice. The modes `full` and `lazy` do that, `none`
    and `voluntary` do not. A kernel says at its build which it has (`uname -v`) or, as PREEMPT_DYNAMIC, at its boot.
    """
    built = platform.version()
    if "PREEMPT" not in built:
        return False
    if "PREEMPT_DYNAMIC" not in built:
        return True
    with contextlib.suppress(OSError):
        modes = Path(_MODES).read_text(encoding="ascii")
        return "(none)" not in modes and "(voluntary)" not in modes
    arguments = Path(_COMMAND_LINE).read_text(encoding="utf-8", errors="replace").split()
    return not {"preempt=none", "preempt=voluntary"} & set(arguments)
