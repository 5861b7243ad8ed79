"""Who a process is, and what it may."""

from __future__ import annotations

from typing import NamedTuple


class Identity(NamedTuple):
    """What /proc/PID/status says of it.

    Attributes:
        users: its user, in all roles.
        groups: its groups, in all roles and beside them.
        capabilities: those that it has, may take, or would hand on.
        no_new_privileges: whether it can get none by executing something.
        filtered: whether its system calls pass a seccomp filter.
    """

    users: set[int]
    groups: set[int]
    capabilities: int
    no_new_privileges: bool
    filtered: bool


ORDINARY = Identity({65532}, {65532}, 0, True, True)
"""What the collector is to be once it has attached."""


def identity_of(status: str) -> Identity:
    """Reads the text of /proc/PID/status."""
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    sets = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    return Identity(
        users=set(map(int, fields["Uid"])),
        groups=set(map(int, fields["Gid"] + fields["Groups"])),
        capabilities=sum(int(fields[name][0], 16) for name in sets),
        no_new_privileges=fields["NoNewPrivs"] == ["1"],
        filtered=fields["Seccomp"] == ["2"],
    )
