"""The environment of a CNI plugin: what it is asked to do, and for which pod."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..events import Pod

TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0
"""Nanoseconds in the unit of /proc/PID/stat."""
_KEPT: Final = 4095
"""Bytes of a variable that the kernel side keeps: CNI_VARIABLE of bpf/record.h, less the NUL at its end."""
_FIELDS: Final = {
    "CNI_COMMAND": "command",
    "CNI_CONTAINERID": "cni_container_id",
    "CNI_IFNAME": "ifname",
    "CNI_NETNS": "netns_path",
    "CNI_ARGS": "args",
    "TRACEPARENT": "traceparent",
}


def text(raw: bytes) -> str:
    r"""Bytes as events carry them: what is not UTF-8 is written as \xNN."""
    return raw.decode("utf-8", "backslashreplace")


def parse_environment(variables: list[bytes]) -> dict[str, str]:
    """The fields of a CNI call that its environment has.

    Of a variable that is there more than once, the first counts, as for getenv(3). One that is empty says nothing, but
    for CNI_COMMAND, which makes the process a call.
    """
    found: dict[str, str] = {}
    for variable in variables:
        name, sign, value = variable.partition(b"=")
        field = _FIELDS.get(text(name))
        if field and sign:
            found.setdefault(field, text(value))
    return {field: value for field, value in found.items() if value or field == "command"}


def args_may_be_cut(variables: list[bytes]) -> bool:
    """Whether CNI_ARGS may lack its end, in an environment that the kernel side has kept in part.

    That keeps variables whole or as far as it has room for one; it is not relied on for the last one.
    """
    at = next((at for at, one in enumerate(variables) if one.startswith(b"CNI_ARGS=")), None)
    return at is not None and (at == len(variables) - 1 or len(variables[at]) >= _KEPT)


def lies_in_cni_path(path: bytes, variables: list[bytes]) -> bool:
    """Whether an executed file lies in a directory of CNI_PATH, as plugins do.

    Names are compared, literally but normalised: nothing is looked up. Of a variable that is there more than once, the
    first counts.
    """
    value = next((one.partition(b"=")[2] for one in variables if one.startswith(b"CNI_PATH=")), b"")
    directory = posixpath.dirname(_normal(path)) or b"."
    return any(part and _normal(part) == directory for part in value.split(b":"))


def _normal(path: bytes) -> bytes:
    """As posixpath has it, but for two slashes at the beginning, which it leaves."""
    return posixpath.normpath(b"/" + path.lstrip(b"/") if path.startswith(b"/") else path)


def parse_args(args: str, cut: bool = False) -> Pod | None:
    """The pod that CNI_ARGS names: pairs such as `K8S_POD_NAME=web-0`, separated by semicolons, in any order.

    Args:
        args: CNI_ARGS.
        cut: its end is missing; then the last pair is not believed.

    Returns:
        The pod; None where namespace and name are not both given, or one key is given two values.
    """
    pairs = [pair.partition("=") for pair in args.split(";")]
    return pod_of((key, value) for key, _, value in (pairs[:-1] if cut else pairs))


def pod_of(pairs: Iterable[tuple[str, str]]) -> Pod | None:
    """The pod that pairs of CNI_ARGS name; None where namespace or name is missing, or a key has two values."""
    values: dict[str, set[str]] = {}
    for key, value in pairs:
        if value:
            values.setdefault(key, set()).add(value)
    namespace, name, uid = (values.get(f"K8S_POD_{key}", set()) for key in ("NAMESPACE", "NAME", "UID"))
    if len(namespace) != 1 or len(name) != 1 or len(uid) > 1:
        return None
    return Pod(*namespace, *name, *uid)


def read_environment(pid: int, started: int) -> list[bytes] | None:
    """The environment of a process, from /proc; None where it has gone, or may not be read.

    Args:
        pid: its id.
        started: when it was started, in nanoseconds of CLOCK_BOOTTIME: so that another with the same id is not taken
            for it.
    """
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None
    return raw.split(b"\0") if raw and ticks == started // TICK else None
